"""The explorer: one page in which a federation trains in the reader's browser.

    python tools/explorer.py           builds site/explorer.html from site/explorer/
    python tools/explorer.py --draw    first draws its synthetic patients anew

Whatever the page needs is in the page; its content security policy allows nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from fedtutor.datasets.phantoms import chest_phantoms
from fedtutor.images import MedicalImages

SITE = Path(__file__).resolve().parents[1] / "site"
SOURCES, PAGE = SITE / "explorer", SITE / "explorer.html"
SIZE, TRAIN, TEST, ACROSS, SEED = 20, 200, 300, 25, 0
LEVELS = 32  # of grey: as good to learn from, and a third of the bytes
PREVALENCE, SEVERITY = (0.4, 0.3, 0.3), (0.7, 1.0)


def draw_patients() -> MedicalImages:
    """One X-ray a patient, those to train with first, all as if taken by the same machine.

    So hospitals differ in who comes to them, and in nothing else.
    """
    drawn = chest_phantoms(
        2 * (TRAIN + TEST),  # some patients have several images
        size=SIZE,
        hospitals=1,
        prevalence=np.array([PREVALENCE]),
        severity=SEVERITY,
        seed=SEED,
    )
    _, first = np.unique(drawn.column("patient"), return_index=True)
    return drawn.take(first[: TRAIN + TEST])


def shades(images: np.ndarray) -> np.ndarray:
    """Grey levels 0..255, but only LEVELS of them; uint8 of any shape."""
    return (images // (256 // LEVELS) * (255 // (LEVELS - 1))).astype(np.uint8)


def sheet(images: np.ndarray) -> np.ndarray:
    """Lay images (n, size, size) out in rows of ACROSS."""
    rows = images.reshape(-1, ACROSS, SIZE, SIZE)
    return rows.swapaxes(1, 2).reshape(-1, ACROSS * SIZE)


def draw() -> None:
    """Write the sprite, the lesions of the test patients, and who everybody is."""
    people = draw_patients()
    masks = people.masks[TRAIN:].reshape(-1, SIZE, SIZE)
    Image.fromarray(sheet(shades(people.images[..., 0]))).save(
        SOURCES / "patients.png", optimize=True
    )
    Image.fromarray(sheet(masks)).save(SOURCES / "lesions.png", optimize=True)
    who = {
        "train": TRAIN,
        "labels": "".join(map(str, people.labels)),
        "ages": people.column("age").tolist(),
        "sexes": "".join(people.column("sex")),
    }
    (SOURCES / "patients.json").write_text(json.dumps(who) + "\n", encoding="utf-8")


def words(template: str, strings: dict[str, str]) -> str:
    """Put the words of one language in, so that the page can be read before its script runs.

    Those with a number in them come from the script.
    """
    hospitals = {key: text for key, text in strings.items() if re.fullmatch(r"h\d", key)}

    def fill(found: re.Match) -> str:
        text = re.sub(r"\{(h\d)\}", lambda name: hospitals[name[1]], strings[found[2]])
        return found[1] + ("" if "{" in text else text)

    return re.sub(r'(<[^>]* data-t="(\w+)"[^>]*>)', fill, template)


def policy(style: str, *scripts: str) -> str:
    """Return a content security policy for these and nothing else; the worker is made of them."""

    def source(text: str) -> str:
        digest = hashlib.sha256(text.encode()).digest()
        return f"'sha256-{base64.b64encode(digest).decode()}'"

    return (
        f"default-src 'none'; script-src {' '.join(map(source, scripts))}; worker-src blob:; "
        f"style-src {source(style)}; img-src data:; base-uri 'none'; form-action 'none'"
    )


def material() -> dict[str, object]:
    """What the script reads as JSON: the images, who is ill with what, and the words."""

    def image(name: str) -> str:
        return base64.b64encode((SOURCES / name).read_bytes()).decode()

    return {
        "patients": read_json("patients.json"),
        "strings": read_json("strings.json"),
        "sprite": image("patients.png"),
        "lesions": image("lesions.png"),
    }


def read_json(name: str) -> dict:
    return json.loads(read(name))


def read(name: str) -> str:
    return (SOURCES / name).read_text(encoding="utf-8")


def build() -> str:
    """Return the page."""
    parts = {name.split(".")[0]: read(name) for name in ("engine.js", "page.js", "worker.js")}
    parts["style"] = read("style.css")
    parts["material"] = json.dumps(material(), ensure_ascii=False).replace("</", "<\\/")
    parts["policy"] = policy(parts["style"], parts["engine"], parts["page"])
    page = words(read("page.html"), read_json("strings.json")["en"])
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], page)


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--draw"]):
        print(__doc__)
        return 2
    if arguments:
        draw()
    text = build()
    PAGE.write_text(text, encoding="utf-8")
    print(f"{PAGE.relative_to(SITE.parent)}: {len(text.encode()) / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
