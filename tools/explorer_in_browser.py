"""The explorer in Chromium, by mouse, finger and keyboard: a part of ``make test-browser``.

    python tools/explorer_in_browser.py

The page is opened from its file. The console must stay silent, nothing may be asked for, nothing
may stick out at the side of a phone; patients must be movable by every kind of hand, and every
picture must have its sentence, in both languages.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from axe import barriers
from explorer import PAGE, TRAIN
from playwright.sync_api import Browser, Page, sync_playwright

WIDTHS, SCHEMES = (360, 768, 1440), ("light", "dark")
TRAINED = "#chart[aria-busy=false]"
SECONDS = 60  # for what takes two on a machine that has nothing else to do
PICTURES = "svg[role=img], canvas[role=img]"
SENTENCE = """e => e.getAttribute('aria-label')
  || document.getElementById(e.getAttribute('aria-labelledby'))?.textContent || ''"""


@contextmanager
def opened(browser: Browser, found: list[str], **options) -> Iterator[Page]:
    """The page, trained once; what it says or asks for in vain is added to what was found."""
    context = browser.new_context(**options)
    page = context.new_page()
    page.set_default_timeout(1000 * SECONDS)
    page.on("pageerror", lambda error: found.append(f"an error: {error}"))
    page.on("console", lambda message: found.append(f"the console says: {message.text[:300]}"))
    page.on("request", lambda request: _note(found, request.url))
    page.goto(PAGE.as_uri())
    page.wait_for_selector(TRAINED)
    try:
        yield page
    finally:
        context.close()


def _note(found: list[str], url: str) -> None:
    if url != PAGE.as_uri() and not url.startswith(("data:", "blob:")):
        found.append(f"the page asks for {url[:100]}")


def problems(browser: Browser, shots: Path) -> list[str]:
    """Everything wrong with the page, a sentence each."""
    found: list[str] = []
    for width in WIDTHS:
        for scheme in SCHEMES:
            view = {"width": width, "height": 900}
            with opened(browser, found, viewport=view, color_scheme=scheme) as page:
                page.screenshot(path=shots / f"explorer-{width}-{scheme}.png", full_page=True)
                found += barriers(page)
                if page.evaluate("() => document.documentElement.scrollWidth") > width:
                    found.append(f"{width} pixels wide, the page scrolls sideways")
    for check in (_mouse, _keyboard, _finger, _choices, _languages, _calm):
        found += check(browser)
    return found


def _owner(page: Page, patient: int) -> int:
    ward = page.locator(f".ward:has(#patient-{patient})")
    return int(ward.get_attribute("data-ward"))


def _trained_anew(page: Page, act: Callable[[], object]) -> None:
    """Do it, see that training begins, and wait for its end."""
    act()
    page.wait_for_selector("#chart[aria-busy=true]")
    page.wait_for_selector(TRAINED)


def _moves(
    page: Page, hand: str, patient: int, to: int, act: Callable[[], object]
) -> Iterator[str]:
    """A move must be seen, counted and said, and the federation must train anew."""
    said = page.locator("#live").text_content()
    _trained_anew(page, act)
    if (now := _owner(page, patient)) != to:
        yield f"by {hand}, a patient meant for hospital {to + 1} is in hospital {now + 1}"
    counts = [int(text) for text in page.locator("#rows td:nth-child(2)").all_text_contents()]
    beds = [page.locator(f"#beds-{k} button").count() for k in range(len(counts))]
    if counts != beds or sum(counts) != TRAIN:
        yield f"by {hand}: beds {beds}, and the table has {counts}"
    if not said:
        yield "the end of a training is not said"


def _middle(page: Page, selector: str) -> tuple[float, float]:
    box = page.locator(selector).bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def _first(page: Page, ward: int) -> int:
    return int(page.locator(f"#beds-{ward} button").first.get_attribute("data-patient"))


def _mouse(browser: Browser) -> list[str]:
    found: list[str] = []
    view = {"width": 1440, "height": 1600}
    with opened(browser, found, viewport=view) as page:
        patient = _first(page, 0)

        def drag() -> None:
            page.mouse.move(*_middle(page, f"#patient-{patient}"))
            page.mouse.down()
            page.mouse.move(*_middle(page, "#beds-1"), steps=8)
            page.mouse.up()

        page.locator("#beds-1").scroll_into_view_if_needed()
        found += _moves(page, "mouse", patient, 1, drag)
        other = _first(page, 2)
        page.click(f"#patient-{other}")
        found += _moves(page, "click", other, 0, page.locator("#patient-moves button").first.click)
    return found


def _keyboard(browser: Browser) -> list[str]:
    found: list[str] = []
    with opened(browser, found, viewport={"width": 1440, "height": 900}) as page:
        patient = _first(page, 0)
        page.focus(f"#patient-{patient}")
        page.keyboard.press("ArrowRight")
        walked = int(page.locator("#beds-0 button:focus").get_attribute("data-patient"))
        if walked == patient:
            found.append("an arrow key does not lead to the next patient")
        found += _moves(page, "keyboard", walked, 3, lambda: page.keyboard.press("4"))
        if not page.locator(".patient:focus").count():
            found.append("after a move by keyboard the focus is lost")
        page.keyboard.press("Enter")
        if not page.locator("#patient-moves button:focus").count():
            found.append("Enter does not lead to the places where a patient may go")
        page.keyboard.press("Escape")
        if page.locator("#patient").is_visible() or not page.locator(".patient:focus").count():
            found.append("Escape does not close the patient's card and lead back")
        stops = page.evaluate("() => document.querySelectorAll('.patient[tabindex=\"0\"]').length")
        if stops != 5:
            found.append(f"the Tab key stops at {stops} patients; one a hospital is enough")
    return found


def _finger(browser: Browser) -> list[str]:
    found: list[str] = []
    phone = {"viewport": {"width": 360, "height": 780}, "has_touch": True, "is_mobile": True}
    with opened(browser, found, **phone) as page:
        patient = _first(page, 0)
        page.tap(f"#patient-{patient}")
        found += _moves(page, "tap", patient, 1, page.locator("#patient-moves button").first.tap)
        held, session = _first(page, 1), page.context.new_cdp_session(page)

        def touch(kind: str, *point: float) -> None:
            points = [{"x": point[0], "y": point[1]}] if point else []
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        def hold_and_drag() -> None:
            page.locator("#ward-says-1").scroll_into_view_if_needed()
            x, y = _middle(page, f"#patient-{held}")
            touch("touchStart", x, y)
            page.wait_for_selector(".ghost", state="attached")  # it is taken along
            to = _middle(page, "#counts-1")[0], page.locator("#beds-0").bounding_box()
            for share in (0.3, 0.7, 1):
                touch("touchMove", x + share * 4, y + share * (to[1]["y"] + 60 - y))
            touch("touchEnd")

        found += _moves(page, "hold and drag", held, 0, hold_and_drag)
    return found


def _choices(browser: Browser) -> list[str]:
    """Every guide, knob and question must change what is shown."""
    found: list[str] = []
    with opened(browser, found, viewport={"width": 768, "height": 900}) as page:
        sentence, curve = page.locator("#chart-says"), page.locator("#chart .curve.global")

        def changes(name: str, act: Callable[[], object]) -> None:
            before = curve.get_attribute("d")
            _trained_anew(page, act)
            if curve.get_attribute("d") == before:
                found.append(f"{name}: nothing changes")

        for guide in ("rare", "liar", "even"):
            changes(f"the guide {guide}", page.locator(f"[data-guide={guide}]").click)
        changes("the knob", lambda: page.press("#alpha", "Home"))
        changes("deal again", page.locator("#again").click)
        changes("the median", page.locator("[value=median]").check)
        for behaviour in ("lies", "noise", "leaves"):
            select = page.locator("#behaviour-1")
            changes(behaviour, lambda b=behaviour, s=select: s.select_option(b))
        before = sentence.text_content()
        page.press("#round", "Home")
        if sentence.text_content() == before:
            found.append("the slider of rounds changes nothing")
        page.click("[data-guide=join]")
        page.wait_for_selector("#gains .value")
        found += _pictures(page)
    return found


def _pictures(page: Page) -> Iterator[str]:
    for picture in page.locator(PICTURES).all():
        if len(picture.evaluate(SENTENCE)) < 20:
            yield f"a picture without its sentence: {picture.get_attribute('id')}"


def _languages(browser: Browser) -> list[str]:
    found: list[str] = []
    with opened(browser, found, viewport={"width": 360, "height": 780}, locale="de-DE") as page:
        for language, title in {"de": "Fünf", "en": "Five"}.items():
            page.click(f"[data-language={language}]")
            if page.get_attribute("html", "lang") != language:
                found.append(f"the page does not say that it is in {language}")
            if title not in page.inner_text("h1") or title not in page.title():
                found.append(f"the title is not in {language}")
            if page.evaluate("() => document.documentElement.scrollWidth") > 360:
                found.append(f"on a phone the page scrolls sideways in {language}")
            if "{" in page.inner_text("body") or "undefined" in page.inner_text("body"):
                found.append(f"a gap in a sentence is not filled in {language}")
            found += _pictures(page)
    return found


def _calm(browser: Browser) -> list[str]:
    found: list[str] = []
    view = {"width": 768, "height": 900}
    with opened(browser, found, viewport=view, reduced_motion="reduce") as page:
        seen = page.evaluate("""() => new Promise(resolve => {
            let most = 0;
            new MutationObserver(() => {
                most = Math.max(most, document.querySelectorAll('.packet').length);
                const busy = document.getElementById('chart').getAttribute('aria-busy');
                if (busy === 'false') resolve(most);
            }).observe(document.body, {subtree: true, childList: true, attributes: true});
            document.getElementById('again').click();
            document.getElementById('chart').setAttribute('aria-busy', 'true');
        })""")
        if seen:
            found.append("weights move on the map though motion is not wanted")
    return found


def main() -> int:
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    shots = Path(tempfile.mkdtemp(prefix="fedtutor-explorer-"))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        found = problems(browser, shots)
        browser.close()
    print("\n".join(found) or f"the explorer is fine; screenshots: {shots}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
