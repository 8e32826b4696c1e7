"""Panels in the book: the states that ``make refresh`` has recorded, and the controls over them."""

from __future__ import annotations

import hashlib
import html
import json
import sys
import zipfile
from itertools import count
from pathlib import Path

from book_language import chosen, say
from PIL import Image

NUMBERS = count(1)


def code_of(notebook: dict) -> str:
    """Return the same as ``tools/lint.py``'s ``code_hash``, of a notebook as JSON."""
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    code = json.dumps(["".join(cell["source"]) for cell in cells])
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def read(path: Path, notebook: dict, pictures: Path) -> dict[str, dict]:
    """Return the recorded panels by their cell's id, and unpack their pictures.

    None, if the notebook's code was changed since; a test asks for ``make refresh`` then.
    """
    if not path.exists():
        return {}
    with zipfile.ZipFile(path) as archive:
        recorded = json.loads(archive.read("panels.json"))
        if recorded["code"] != code_of(notebook):
            print(
                f"{path.name}: of other code than the notebook; run make refresh", file=sys.stderr
            )
            return {}
        sizes = {}
        for name in archive.namelist():
            if name.endswith(".webp"):
                (pictures / name).write_bytes(archive.read(name))
                with Image.open(pictures / name) as image:
                    sizes[name] = image.size
    for panel in recorded["panels"]:
        panel["sizes"] = sizes
    return {panel["cell"]: panel for panel in recorded["panels"]}


def stands() -> str:
    """Return the note below a panel that cannot be moved here."""
    text = say(
        "In the notebook this can be moved; here it shows how it begins. It has too many settings, "
        "or needs the computer to work for each."
    )
    return f'<p class="panel-note">{html.escape(text)}</p>'


def to_html(panel: dict, pictures: Path, up: str) -> str:
    """Return a panel as a form with what it shows at first, and write a script with all the rest.

    The page loads it when somebody reaches for the panel.
    """
    number = next(NUMBERS)
    controls, states = panel["controls"], panel["states"]
    at = 0
    for control in controls:
        at = at * len(control["values"]) + control["start"]
    first = states[at]
    moving = [one for one in controls if len(one["values"]) > 1]
    fields = "".join(_control(one, f"p{number}-{k}") for k, one in enumerate(controls))
    data = {
        "n": [len(one["values"]) for one in controls],
        "at": [one["start"] for one in controls],
        "s": [_short(state) for state in states],
    }
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    name = f"panel-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    script = f"(window.panelStates ??= {{}})[{json.dumps(name)}] = {text};\n"
    (pictures / f"{name}.js").write_text(script, encoding="utf-8")
    labels = ", ".join(one["label"] for one in moving)
    return (
        f'<form class="panel" lang="{chosen()}" data-states="{name}" '
        f'aria-label="{html.escape(say("Panel: {labels}", labels=labels))}" '
        f'data-from="{up}pictures/">'
        f'<div class="panel-controls" hidden>{fields}</div>'
        f'<p class="panel-says" role="status">{html.escape(first["say"])}</p>'
        f'<div class="panel-shows">{_shown(first, panel["sizes"], up)}</div>'
        f'<p class="panel-note">{_note(controls)}</p></form>'
    )


def _shown(state: dict, sizes: dict, up: str) -> str:
    if "table" in state:
        return state["table"]
    width, height = sizes[state["picture"]]
    return (
        f'<img src="{up}pictures/{state["picture"]}" alt="{html.escape(state["alt"])}" '
        f'width="{width}" height="{height}" loading="lazy" decoding="async">'
    )


def _short(state: dict) -> list[str]:
    """[sentence, picture, alt unless it is the sentence again], or [sentence, "", table]."""
    if "table" in state:
        return [state["say"], "", state["table"]]
    alt = state["alt"]
    return [state["say"], state["picture"].removesuffix(".webp"), *([alt] * (alt != state["say"]))]


def _note(controls: list[dict]) -> str:
    still = [
        say("{label} stays {value}", label=one["label"], value=one["values"][0])
        for one in controls
        if len(one["values"]) == 1
    ]
    fewer = [one["label"] for one in controls if 1 < len(one["values"]) < one["of"]]
    said = [say("Computed when the notebook was run.")]
    if fewer:
        said.append(say("The notebook has more values of: {names}.", names=", ".join(fewer)))
    if still:
        values = ", ".join(still)
        said.append(say("Only in the notebook can all be moved; here {values}.", values=values))
    return html.escape(" ".join(said))


def _control(control: dict, name: str) -> str:
    label, values, start = html.escape(control["label"]), control["values"], control["start"]
    if len(values) == 1:
        return ""
    if control["kind"] == "slider":
        said = html.escape(values[start])
        known = html.escape(json.dumps(values, ensure_ascii=False))
        return (
            f'<div class="panel-slider"><label for="{name}">{label}</label>'
            f'<input type="range" id="{name}" min="0" max="{len(values) - 1}" value="{start}" '
            f'aria-valuetext="{said}" data-values="{known}">'
            f'<output for="{name}">{said}</output></div>'
        )
    buttons = "".join(
        f'<label><input type="radio" name="{name}" value="{k}"{" checked" * (k == start)}>'
        f"<span>{html.escape(value)}</span></label>"
        for k, value in enumerate(values)
    )
    return f"<fieldset><legend>{label}</legend>{buttons}</fieldset>"
