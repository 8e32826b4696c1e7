"""The explorer: its page is what its sources build, its numbers are the package's, its words whole.

The numbers come from the page's own engine, run by Node or else by Chromium.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import explorer
import explorer_in_numpy as by_hand
import numpy as np
import pytest
from explorer_in_numpy import HOSPITALS, SIZE, Data, Setup
from PIL import Image

from fedtutor.evaluation import estimate_auc, interval
from fedtutor.gradcam import mass_in_lesion
from fedtutor.images import MedicalImages
from fedtutor.model import standardise
from fedtutor.partition import partition

CLOSE = 1e-4
DRIVER = Path(__file__).with_name("ask_engine.js")
STRINGS = explorer.read_json("strings.json")
CODE = {name: explorer.read(name) for name in ("page.js", "worker.js", "engine.js")}
PATIENTS = explorer.read_json("patients.json")
LABELS = np.array([int(digit) for digit in PATIENTS["labels"]])
TRAIN = PATIENTS["train"]


def cells(name: str, count: int) -> np.ndarray:
    """The images of a sprite, as Pillow reads it: (count, SIZE, SIZE)."""
    sheet = np.asarray(Image.open(explorer.SOURCES / name))
    rows = sheet.reshape(-1, SIZE, sheet.shape[1] // SIZE, SIZE).swapaxes(1, 2)
    return rows.reshape(-1, SIZE, SIZE)[:count]


PIXELS, LESIONS = cells("patients.png", len(LABELS)), cells("lesions.png", len(LABELS) - TRAIN)
EVEN = np.arange(TRAIN) % HOSPITALS
RARE = 2, 4  # the disease and the only hospital that has it
HONEST = ("honest",) * HOSPITALS
SETUPS = {
    "even": (Setup(EVEN), 30),
    "a liar": (Setup(EVEN, ("honest", "lies", *HONEST[2:])), 4),
    "a liar and the median": (Setup(EVEN, ("honest", "lies", *HONEST[2:]), "median", seed=7), 4),
    "noise": (Setup(EVEN, ("noise", *HONEST[1:])), 4),
    "one leaves": (Setup(EVEN, (*HONEST[1:], "leaves"), "median"), 4),
    "an empty hospital": (Setup(np.where(EVEN == 3, 0, EVEN)), 2),
}
LIAR = ("honest", "lies", *HONEST[2:])
ONE_HAS_IT = np.full(TRAIN, RARE[1])
for common in {0, 1, 2} - {RARE[0]}:
    shared = np.flatnonzero(LABELS[:TRAIN] == common)
    ONE_HAS_IT[shared] = np.arange(len(shared)) % HOSPITALS
CLAIMS = [
    Setup(owner, behaviours, rule)
    for owner, behaviours in ((EVEN, LIAR), (ONE_HAS_IT, HONEST))
    for rule in ("average", "median")
]
DEALS = [(100, 0), (2, 1), (0.5, 2), (0.05, 3)]
SHOWN = [0, 1, 2, 50, 299]


def as_json(setup: Setup) -> dict:
    return vars(setup) | {"owner": setup.owner.tolist()}


@pytest.fixture(scope="module")
def of_page() -> dict:
    """What the page's engine says to all that is asked here."""
    request = {
        "material": explorer.material(),
        "deals": DEALS,
        "rare": RARE,
        "setups": [[as_json(setup), rounds] for setup, rounds in SETUPS.values()]
        + [[as_json(setup), 30] for setup in CLAIMS],
        "join": [as_json(Setup(EVEN)), 1, 6, 2],
        "heat": {"run": 0, "patients": SHOWN},
    }
    return engine()(request)


def engine() -> Callable[[dict], dict]:
    wanted = os.environ.get("FEDTUTOR_ENGINE", "node")  # make test-browser wants chromium
    if wanted == "node" and (node := shutil.which("node")):
        return lambda request: ask_node(node, request)
    if path := chromium():
        return lambda request: ask_chromium(path, request)
    pytest.skip("nothing here runs JavaScript: neither node, nor chromium with playwright")


def chromium() -> str | None:
    """Return where Chromium is, or None if it or playwright is not."""
    found = os.environ.get("CHROMIUM") or shutil.which("chromium")
    return found if find_spec("playwright") else None


def ask_node(node: str, request: dict) -> dict:
    code = f"{CODE['engine.js']}\n{DRIVER.read_text(encoding='utf-8')}\n" + (
        "askEngine(Engine, JSON.parse(require('fs').readFileSync(0, 'utf8')))"
        ".then(answer => process.stdout.write(JSON.stringify(answer)));"
    )
    asked = json.dumps(request)
    done = subprocess.run([node, "-e", code], input=asked, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def ask_chromium(path: str, request: dict) -> dict:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page()
        page.add_script_tag(content=CODE["engine.js"] + DRIVER.read_text(encoding="utf-8"))
        answer = page.evaluate("async r => JSON.stringify(await askEngine(Engine, r))", request)
        browser.close()
    return json.loads(answer)


@pytest.fixture(scope="module")
def data() -> Data:
    images = by_hand.standardise(PIXELS)
    return Data(images[:TRAIN], LABELS[:TRAIN], images[TRAIN:], LABELS[TRAIN:])


@pytest.fixture(scope="module")
def people() -> MedicalImages:
    return explorer.draw_patients()


def scores(found: dict) -> np.ndarray:
    """The AUC of all seven models; NaN for a hospital without patients."""
    return np.array([found["global"], found["pooled"], *found["alone"]], dtype=float)


needs_engine = pytest.mark.process


def test_the_page_is_what_its_sources_build():
    assert explorer.PAGE.read_text(encoding="utf-8") == explorer.build(), "python tools/explorer.py"
    assert explorer.PAGE.stat().st_size < 300_000


@pytest.mark.slow
def test_the_sprite_shows_the_patients_that_the_package_draws(people):
    drawn = explorer.shades(people.images[..., 0])
    step = 255 // (explorer.LEVELS - 1)
    # Another processor may round a pixel to the next shade.
    assert np.abs(drawn.astype(int) - PIXELS).max() <= step
    assert (drawn != PIXELS).mean() < 0.001
    assert (people.masks[TRAIN:].reshape(LESIONS.shape) != LESIONS).mean() < 0.001
    assert people.labels.tolist() == LABELS.tolist()
    assert people.column("age").tolist() == PATIENTS["ages"]
    assert "".join(people.column("sex")) == PATIENTS["sexes"]
    assert len(set(people.column("patient"))) == len(LABELS)


@needs_engine
def test_the_page_reads_its_images_as_pillow_does(of_page, data):
    assert of_page["pixels"] == PIXELS.ravel().tolist()
    assert of_page["lesions"] == LESIONS.ravel().astype(int).tolist()
    assert np.abs(data.images[0].ravel() - of_page["first"]).max() < CLOSE
    assert np.abs(data.images - standardise(PIXELS[:TRAIN, ..., None])[..., 0]).max() < CLOSE


@needs_engine
@pytest.mark.parametrize(("alpha", "seed"), DEALS)
def test_the_page_deals_patients_out_as_the_package(alpha, seed, of_page, people, monkeypatch):
    monkeypatch.setattr(np.random, "default_rng", by_hand.Chance)
    dealt = partition(people.take(np.arange(TRAIN)), "dirichlet", HOSPITALS, alpha=alpha, seed=seed)
    owner = np.empty(TRAIN, dtype=int)
    for k, own in enumerate(dealt.indices):
        owner[own] = k
    assert of_page["deals"][DEALS.index((alpha, seed))] == owner.tolist()


@needs_engine
def test_a_rare_disease_is_at_one_hospital_and_the_others_are_shared(of_page):
    assert of_page["rare"] == ONE_HAS_IT.tolist()


@needs_engine
@pytest.mark.slow
@pytest.mark.parametrize("name", SETUPS)
def test_the_page_trains_to_the_same_weights_and_scores_as_numpy(name, of_page, data):
    found = of_page["runs"][list(SETUPS).index(name)]
    *_, last = steps = list(by_hand.run(data, *SETUPS[name]))
    for ours, theirs in zip(steps, found["auc"], strict=True):
        assert scores(theirs) == pytest.approx(scores(ours["auc"]), abs=CLOSE, nan_ok=True)
    models = [last["global"], last["pooled"], *last["alone"]]
    for ours, theirs in zip(
        models, [found["global"], found["pooled"], *found["alone"]], strict=True
    ):
        for a, b in zip(ours, theirs, strict=True):
            assert np.abs(a.ravel() - b).max() < CLOSE


@needs_engine
@pytest.mark.slow
def test_what_the_guide_promises_is_what_the_reader_sees(of_page):
    even, *_ = of_page["runs"]
    *_, last = even["auc"]
    assert np.mean(last["alone"]) + 0.03 < last["global"] < last["pooled"]
    assert max(last["alone"]) < last["global"]
    liar, liar_median, rare, rare_median = (
        run["auc"][-1]["global"] for run in of_page["runs"][len(SETUPS) :]
    )
    assert liar + 0.1 < liar_median  # the average follows a liar down, the median does not
    assert rare_median + 0.2 < rare  # but it silences the only hospital that knows a disease


@needs_engine
@pytest.mark.slow
def test_the_page_answers_whether_to_join_as_the_package(of_page, data):
    expected = by_hand.join(data, Setup(EVEN), 1, 6, 2)
    for whose in ("itself", "others"):
        for key, value in expected[whose].items():
            assert of_page["join"][whose][key] == pytest.approx(value, abs=CLOSE)
    *_, last = by_hand.run(data, Setup(EVEN), 6)
    of_global = estimate_auc(by_hand.predict(last["global"], data.test_images), data.test_labels)
    assert of_page["intervals"][0] == pytest.approx(interval(of_global), abs=CLOSE)


@needs_engine
@pytest.mark.slow
def test_the_page_s_heat_maps_are_those_of_numpy_and_scored_as_by_the_package(of_page, data):
    *_, last = by_hand.run(data, *SETUPS["even"])
    maps = by_hand.heat(last["global"], data.test_images, data.test_labels)
    assert np.abs(maps[SHOWN].reshape(len(SHOWN), -1) - of_page["heat"]).max() < CLOSE
    ill = data.test_labels > 0
    assert of_page["inside"] == pytest.approx(mass_in_lesion(maps[ill], LESIONS[ill]), abs=CLOSE)
    assert of_page["chance"] == pytest.approx(LESIONS[ill].mean(), abs=CLOSE)


# --- words ------------------------------------------------------------------------------------


def placeholders(text: str) -> set[str]:
    return set(re.findall(r"\{(\w+)\}", text))


def test_no_word_is_missing_in_any_language():
    english = STRINGS["en"]
    assert set(STRINGS) == {"en", "de"}
    for language, strings in STRINGS.items():
        assert list(strings) == list(english), language
        for key, text in strings.items():
            assert text.strip() == text != "", (language, key)
            # A name may be left out where the language has no need of it, but none is invented.
            assert placeholders(text) == placeholders(english[key]), (language, key)
    same = {key for key, text in STRINGS["de"].items() if text == english[key]}
    assert same <= {"server", "alphaText", "behaviour", "class0", "class2", "global"}


# Keys that the script puts together: of what, and which endings it may have.
PARTS = {
    "h": "01234",
    "class": "012",
    "trouble": ("leaves", "lies", "noise"),
    "joinItself": ("gains", "loses", "unsure"),
    "joinOthers": ("gains", "loses", "unsure"),
    "": set(PATIENTS["sexes"]),
}


def test_every_word_is_used_and_every_word_asked_for_is_there():
    known, code = set(STRINGS["en"]), CODE["page.js"]
    together = {start + end for start, ends in PARTS.items() for end in ends}
    stems = set(re.findall(r"t\(`(\w+)\$", code))
    assert stems <= set(PARTS)
    named = set(re.findall(r'data-(?:t|label)="(\w+)"', explorer.read("page.html")))
    named |= set(re.findall(r'\bt\("(\w+)"', code))
    assert named | together <= known
    assert known - named - together <= set(re.findall(r'"(\w+)"', code))


class Words(HTMLParser):
    """Gathers the text of a page but for what scripts and styles hold."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.found = "", list[str]()

    def handle_starttag(self, tag, attrs):
        self.inside = tag
        self.found += [value for name, value in attrs if name in {"title", "alt", "aria-label"}]

    def handle_data(self, data):
        if self.inside not in {"script", "style"} and data.strip():
            self.found.append(data.strip())


def test_the_template_has_no_words_of_its_own():
    words = Words()
    words.feed(explorer.read("page.html"))
    assert words.found == ["English", "Deutsch"]  # each language is named in itself


@pytest.mark.parametrize("name", ["page.js", "worker.js"])
def test_the_scripts_have_no_words_of_their_own(name):
    code = re.sub(r"(^|\s)//.*", "", CODE[name])
    literals = re.findall(r'"([^"\n]*)"', code) + re.findall(r"`([^`]*)`", code)
    prose = [
        text
        for text in literals
        if re.search(r"[A-Za-zÄÖÜäöü]{2,} [A-Za-zÄÖÜäöü]{2,}|^[A-ZÄÖÜ][a-zäöüß]+$|[äöüßÄÖÜ]", text)
    ]
    assert set(prose) <= {"use strict", "road cut", "Escape", "Home", "End"}


# --- the page ---------------------------------------------------------------------------------


def test_the_page_asks_nobody_for_anything():
    page = explorer.build()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "http" not in policy
    addresses = set(re.findall(r"\w+://[\w./-]+", page))
    assert addresses == {"http://www.w3.org/2000/svg", "https://github.com/fedtutor/fedtutor"}
    assert not re.search(
        r"\b(fetch|XMLHttpRequest|WebSocket|sendBeacon|importScripts|eval)\b", page
    )
    assert not re.search(r"<[^>]* (on\w+|style|src)=", explorer.read("page.html"))


def test_the_headings_stand_in_order():
    template = explorer.read("page.html")
    levels = [int(level) for level in re.findall(r"<h(\d)", template)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_every_control_has_a_name():
    template = explorer.read("page.html")
    for control in re.findall(r"<(?:input|select)[^>]*>", template):
        if found := re.search(r' id="(\w+)"', control):
            assert f'<label for="{found[1]}"' in template, control
        else:
            assert f"<label>{control}" in template


def test_pictures_have_names_before_the_first_round():
    if not (path := chromium()):
        pytest.skip("no chromium with playwright here")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page()
        page.add_init_script("window.Worker = class { postMessage() {} }")  # that never answers
        page.goto(explorer.PAGE.as_uri())
        for name in ("#chart-says", *(f"#ward-chart-{k}" for k in range(HOSPITALS))):
            found = page.locator(name)
            assert found.get_attribute("aria-label") or found.inner_text()
        browser.close()
