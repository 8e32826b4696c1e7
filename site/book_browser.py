"""The built book in a real browser: nothing from elsewhere, a silent console, panels, axe-core.

    python site/book_browser.py [part of a name ...]

Serves site/_build/html on this machine only, and opens its pages in Chromium without a window, in
light and dark. Whatever a page asks of another machine is refused and reported. The panels are
moved by mouse, touch and keyboard. axe-core (in the extra [browser]) looks for what keeps people
out. Screenshots, at three widths, with FEDTUTOR_SCREENSHOTS set to a folder.
"""

from __future__ import annotations

import functools
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

HTML = Path(__file__).resolve().parent / "_build" / "html"
WIDTHS = (360, 768, 1440)
SERIOUS = ("serious", "critical")
AXE = "async () => (await axe.run(document, {resultTypes: ['violations']})).violations"
SIDEWAYS = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


class Quiet(SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, *_arguments: object) -> None:
        """Print nothing."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Yield the address at which the folder can be read, from this machine only."""
    handler = functools.partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def axe_script() -> str | None:
    """Return axe-core, or None where the extra [browser] does not bring it."""
    try:
        return (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
    except ModuleNotFoundError:
        return None


def problems(page: Page, address: str, name: str, axe: str | None, shots: Path | None) -> list[str]:
    """Return everything wrong with one page, a sentence each."""
    found: list[str] = []
    page.on("pageerror", lambda error: found.append(f"the console: {error}"))
    page.on("console", lambda message: found.append(f"the console: {message.text}"))
    page.on("requestfailed", lambda request: found.append(f"asked in vain for {request.url}"))
    page.route(lambda url: not url.startswith((address, "data:")), lambda route: route.abort())
    page.goto(f"{address}/{name}")
    found += _panels(page)
    for theme in ("light", "dark"):
        page.evaluate("t => document.documentElement.dataset.theme = t", theme)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            if (wider := page.evaluate(SIDEWAYS)) > 0:
                found.append(f"at {width} pixels the page is {wider} too wide")
            if shots:
                page.screenshot(path=shots / f"{name.replace('/', '-')}-{theme}-{width}.png")
        if axe:
            found += _axe(page, axe, theme)
    return found


def _axe(page: Page, axe: str, theme: str) -> Iterator[str]:
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(axe)
    for violation in page.evaluate(AXE):
        if violation["impact"] in SERIOUS:
            nodes = violation["nodes"]
            where = "; ".join(f"{n['target']} {n['html'][:120]}" for n in nodes[:3])
            yield f"axe, {theme}: {violation['id']}, {violation['help']}: {len(nodes)} x: {where}"


def _panels(page: Page) -> Iterator[str]:
    """Move each control of each panel by key, and the buttons by a click and a tap, too."""
    panels = page.locator("form.panel")
    for k in range(panels.count()):
        panel = panels.nth(k)
        controls = panel.locator(".panel-controls > *")
        for c in range(controls.count()):
            name = f"panel {k + 1}, control {c + 1}"
            slider = controls.nth(c).locator("[type=range]")
            if slider.count():
                last = slider.evaluate("e => e.value === e.max")
                slider.focus()
                yield from _changes(page, panel, name, "ArrowLeft" if last else "ArrowRight")
                box = slider.bounding_box()
                page.mouse.click(box["x"] + (4 if not last else box["width"] - 4), box["y"] + 16)
            else:
                buttons = controls.nth(c).locator("input")
                buttons.first.focus()
                chosen = controls.nth(c).locator(":checked")
                chosen.focus()
                yield from _changes(page, panel, name, "ArrowDown")
                buttons.first.tap()
                if not buttons.first.is_checked():
                    yield f"{name}: a tap does not press the first button"


def _changes(page: Page, panel, name: str, key: str) -> Iterator[str]:
    """Press a key; sentence or picture must be another then, and the picture be there."""
    content = "e => ['.panel-says', '.panel-shows'].map(c => e.querySelector(c).innerHTML).join()"
    before = panel.evaluate(content)
    page.keyboard.press(key)
    try:
        page.wait_for_function(
            f"([e, before]) => ({content})(e) !== before",
            arg=[panel.element_handle(), before],
            timeout=20_000,
        )
    except Exception as error:  # playwright's own class of timeouts
        yield f"{name} was moved by {key} and nothing changed ({type(error).__name__})"
    image = panel.locator(".panel-shows img")
    if image.count() and not (image.get_attribute("alt") or "").strip():
        yield f"{name}: the picture has lost its alt text"


def look(browser: Browser, address: str, names: list[str], shots: Path | None) -> int:
    """Print what is wrong with each page; return how many have something."""
    axe, failed = axe_script(), 0
    if axe is None:
        print("axe-core is not here, so nothing looks for barriers: pip install -e '.[browser]'")
    for name in names:
        context = browser.new_context(has_touch=True, reduced_motion="reduce")
        found = problems(context.new_page(), address, name, axe, shots)
        context.close()
        failed += bool(found)
        for sentence in found:
            print(f"{name}: {sentence}", flush=True)
    return failed


def main(parts: list[str]) -> int:
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if not chromium:
        print("there is no chromium; install it (Debian: apt-get install chromium) or set CHROMIUM")
        return 2
    names = sorted(path.relative_to(HTML).as_posix() for path in HTML.rglob("*.html"))
    names = [name for name in names if not parts or any(part in name for part in parts)]
    shots = Path(folder) if (folder := os.environ.get("FEDTUTOR_SCREENSHOTS")) else None
    if shots:
        shots.mkdir(parents=True, exist_ok=True)
    with served(HTML) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        failed = look(browser, address, names, shots)
        browser.close()
    print(f"{len(names) - failed} of {len(names)} pages are fine")
    return 1 if failed or not names else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
