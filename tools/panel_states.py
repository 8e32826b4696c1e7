"""What each panel of a notebook shows, recorded for the book, where no kernel runs.

``make refresh`` runs :func:`record` in the kernel, after the last cell: it calls each panel's
function for its settings, and writes sentences, alternative texts and pictures (WebP, equal ones
once) to ``site/panels/NAME.zip``. Where a panel has too many settings or too large pictures, these
are made coarser, then sliders lose some of their values, then the last rows of buttons stand still.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from itertools import product
from math import prod
from pathlib import Path

PANELS = Path(__file__).resolve().parents[1] / "site" / "panels"
MOST_STATES, MOST_BYTES = 256, 700_000
GRADES = ((90, 80), (72, 50))
"""Of pictures: (pixels an inch, WebP's quality where that is smaller than without loss)."""
MOST_STILL = 3
"""A panel of which more controls would stand still is not recorded."""
KINDS = {"SelectionSlider": "slider", "ToggleButtons": "buttons", "Checkbox": "box"}
COARSEST = 3
"""So many values a slider keeps before another control has to stand still."""


def file_of(path: Path) -> Path:
    """Return where a notebook's panels are recorded: panels/NAME.zip, panels/de/NAME.zip."""
    folder = path.parent.name
    return PANELS / (folder if len(folder) == 2 else "") / f"{path.stem}.zip"


def cell(path: Path, cells: Sequence[Mapping], code: str) -> str:
    """Return the code of a cell that records the panels of a notebook, "" if it has none."""
    shown = {one["id"]: one["source"].strip().splitlines()[-1:] for one in cells}
    ids = {line[0].strip(): key for key, line in shown.items() if line}
    if not any("Panel(" in one["source"] for one in cells if one["cell_type"] == "code"):
        return ""
    return (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import panel_states\n"
        f"panel_states.record(globals(), {ids!r}, {code!r}, {str(file_of(path))!r})"
    )


def record(names: Mapping[str, object], ids: Mapping[str, str], code: str, target: str) -> None:
    """Write the states of all panels that a cell has as its last line."""
    panels, files = [], {}
    for name, identity in ids.items():
        panel = names.get(name)
        if type(panel).__name__ != "Panel":
            continue
        if states := _bounded(panel):
            panels.append({"cell": identity} | states[0])
            files |= states[1]
    path = Path(target)
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    if not panels:
        return
    text = json.dumps({"code": code, "panels": panels}, ensure_ascii=False)
    with zipfile.ZipFile(path, "w") as archive:
        for file, content in {"panels.json": text.encode(), **files}.items():
            packed = zipfile.ZIP_DEFLATED if file.endswith(".json") else zipfile.ZIP_STORED
            archive.writestr(zipfile.ZipInfo(file), content, packed)  # its date is always 1980


def _bounded(panel):
    """Return :func:`_states` in the first grade, and with as many settings, as the bytes allow."""
    most, grades = MOST_STATES, list(GRADES)
    while states := _states(panel, most, grades[0]):
        if sum(map(len, states[1].values())) <= MOST_BYTES:
            return states
        if len(grades) > 1:
            del grades[0]
        else:
            most //= 2
    return None


def keep(sizes: Sequence[int], starts: Sequence[int], kinds: Sequence[str], most: int):
    """Return for each control the positions of the values that stay, at most so many settings.

    ``starts`` are the positions at which the controls begin; they always stay. A "slider" may lose
    values, "buttons" may stand still, a "box" to tick belongs to the others. None if fewer than
    half of the controls could be moved, or more than ``MOST_STILL`` not.
    """
    kept = [list(range(size)) for size in sizes]

    def shrink(least: int) -> None:
        while prod(map(len, kept)) > most:
            long = [k for k, kind in enumerate(kinds) if kind == "slider" and len(kept[k]) > least]
            if not long:
                return
            k = max(long, key=lambda one: len(kept[one]))
            kept[k] = _without_one(kept[k], starts[k])

    shrink(COARSEST)
    for k in reversed(range(len(sizes))):
        still = 1 + sum(len(one) == 1 for one in kept)
        few = still <= min(MOST_STILL, len(kept) / 2)
        if prod(map(len, kept)) > most and kinds[k] == "buttons" and few:
            kept[k] = [starts[k]]
    shrink(2)
    return kept if prod(map(len, kept)) <= most else None


def _without_one(kept: list[int], start: int) -> list[int]:
    """Leave out the position nearest to both its neighbours, but no end and not the start."""
    inner = [k for k in range(1, len(kept) - 1) if kept[k] != start]
    if not inner:
        return sorted({start, kept[0] if start != kept[0] else kept[-1]})
    k = min(inner, key=lambda one: kept[one + 1] - kept[one - 1])
    return kept[:k] + kept[k + 1 :]


def _states(panel, most: int, grade: tuple[int, int]):
    """Return what is said of a panel's settings, and the pictures by file name."""
    controls = panel._controls
    options = {name: list(getattr(c, "options", (False, True))) for name, c in controls.items()}
    begin = dict(zip(controls, next(iter(panel._seen), panel.values.values()), strict=True))
    starts = [options[name].index(begin[name]) for name in controls]
    kinds = [KINDS[type(control).__name__] for control in controls.values()]
    kept = keep(list(map(len, options.values())), starts, kinds, most)
    if kept is None:
        return None
    described = [
        {
            "label": control.description or name,
            "kind": kind,
            "values": [_said(options[name][k]) for k in positions],
            "of": len(options[name]),
            "start": positions.index(start),
        }
        for (name, control), kind, positions, start in zip(
            controls.items(), kinds, kept, starts, strict=True
        )
    ]
    files: dict[str, bytes] = {}
    states = []
    for setting in product(*kept):
        values = {name: options[name][k] for name, k in zip(controls, setting, strict=True)}
        shown, sentence = panel.show(**values)
        states.append(_state(shown, sentence, files, grade))
    return {"controls": described, "states": states}, files


def _said(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _state(shown, sentence: str, files: dict[str, bytes], grade) -> dict[str, str]:
    if not hasattr(shown, "to_png"):
        return {"say": sentence, "table": shown.to_html()}
    content = to_webp(shown.to_png(grade[0]), grade[1])
    name = f"{hashlib.sha256(content).hexdigest()[:12]}.webp"
    files[name] = content
    return {"say": sentence, "alt": shown.alt, "picture": name}


def to_webp(png: bytes, quality: int) -> bytes:
    """Return a picture as WebP, with loss or without, whichever is smaller."""
    from PIL import Image

    image = Image.open(io.BytesIO(png)).convert("RGB")
    ways: tuple[dict[str, object], ...] = ({"lossless": True}, {"quality": quality})
    made = []
    for way in ways:
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", method=4, **way)
        made.append(buffer.getvalue())
    return min(made, key=len)
