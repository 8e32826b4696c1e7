"""``make test-browser``: each notebook in the real JupyterLab, as a learner meets it.

    python tools/browser.py [part of a name ...]

Opens a copy of the notebooks in Chromium without a window, runs all cells, and looks at what is on
the page: no cell may end in an error, every picture must have its alt text, and every control of
every panel must have a label and, moved with the keyboard, change what is shown. Nothing of ours
may appear as an error in the browser's console. Screenshots go to ``$FEDTUTOR_SCREENSHOTS``, by
default a folder of the system's temporary one. The explorer is looked at, too, when no name or
"explorer" is given.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from axe import barriers
from explorer_in_browser import problems as problems_of_explorer
from lint import NOTEBOOK_SECONDS, NOTEBOOKS, chosen, timing_key
from playwright.sync_api import Error, Locator, Page, sync_playwright

SETTINGS = {
    # All cells are kept on the page, also those that are scrolled out of sight.
    "notebook-extension/tracker": '{"windowingMode": "none"}',
    "apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}',
}
# Not ours: what JupyterLab itself asks for in vain without a network or a language server.
NOISE = ("favicon", "extensionmanager", "lsp", "ERR_INTERNET_DISCONNECTED", "net::ERR_NAME")
# JupyterLab keeps the arrow keys from a drop-down list; End and Home reach it.
CONTROLS = "[role=slider], select, .widget-toggle-buttons button:last-of-type"
STANDS = "e => e.value || e.getAttribute('aria-valuenow') || e.className"
TEXTS = ".jp-Notebook .jp-RenderedMarkdown, .jp-Notebook .jp-OutputArea-output"
NAMELESS = ".noUi-handle"  # ipywidgets gives a slider's handle no name, nor us a way to
MOVES = {"slider": ("ArrowRight", "ArrowLeft"), "select": ("End", "Home"), "button": ("Space",)}


@contextmanager
def jupyterlab(folder: Path) -> Iterator[str]:
    """A JupyterLab that serves ``folder`` and knows nothing of this user; yields its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = folder.parent / "jupyter"
    for name, text in SETTINGS.items():
        file = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    environment = os.environ | {
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "IPYTHONDIR": str(home / "ipython"),
    }
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
        *("--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0"),
        *(f"--ServerApp.root_dir={folder}", "--IdentityProvider.token="),
        *("--LabApp.expose_app_in_browser=True", "--LabApp.extension_manager=readonly"),
    ]
    log = folder.parent / "jupyterlab.log"
    with log.open("wb") as out:
        server = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(server, f"{address}/api/status", log)
        yield address
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


def _wait_for(server: subprocess.Popen, url: str, log: Path, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.5)
    said = log.read_text(encoding="utf-8", errors="replace")
    raise RuntimeError(f"JupyterLab did not start:\n{said[-3000:]}")


def problems(page: Page, address: str, name: str, shots: Path) -> list[str]:
    """Everything wrong with one notebook on the page, a sentence each."""
    console: list[str] = []
    page.on("pageerror", lambda error: console.append(str(error)))
    page.on("console", lambda message: _note(console, message))
    page.goto(f"{address}/lab/tree/{name}?reset", wait_until="domcontentloaded")
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=120_000)
    page.wait_for_function(
        "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel",
        timeout=120_000,
    )
    page.evaluate("() => window.jupyterapp.shell.collapseLeft()")
    page.set_default_timeout(4 * NOTEBOOK_SECONDS * 1000)
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
    page.set_default_timeout(30_000)
    found = [*_cells(page), *_pictures(page, shots), *_panels(page, shots)]
    found += barriers(page, TEXTS, NAMELESS)  # the rest of the page is JupyterLab's own
    page.locator(".jp-Notebook").first.screenshot(path=shots / "page.png")
    found += [f"the console says: {text[:300]}" for text in console]
    page.evaluate("() => window.jupyterapp.serviceManager.sessions.shutdownAll()")
    return found


def _note(console: list[str], message) -> None:
    where = f"{message.text} {message.location.get('url', '')}"
    if message.type == "error" and not any(noise in where for noise in NOISE):
        console.append(where)


def _cells(page: Page) -> Iterator[str]:
    cells = page.evaluate(
        "() => window.jupyterapp.shell.currentWidget.content.model.toJSON().cells"
    )
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    for number, cell in enumerate(code, start=1):
        if cell["execution_count"] != number:
            yield f"code cell {number} was not run in order"
        for output in cell["outputs"]:
            if output["output_type"] == "error":
                yield f"code cell {number} ended in {output['ename']}: {output['evalue']}"


def _pictures(page: Page, shots: Path) -> Iterator[str]:
    images = page.locator(".jp-OutputArea-output img")
    for k in range(images.count()):
        image = images.nth(k)
        if not (image.get_attribute("alt") or "").strip():
            yield f"picture {k + 1} has no alt text on the page"
        image.screenshot(path=shots / f"picture-{k + 1}.png")


def _panels(page: Page, shots: Path) -> Iterator[str]:
    panels = page.locator(".jp-OutputArea-output .widget-vbox")
    expected = page.locator(".jp-Notebook").first.inner_text().count("Panel(")
    if panels.count() < min(expected, 1):
        yield "the notebook makes a panel and none is on the page"
    for k in range(panels.count()):
        panel = panels.nth(k)
        panel.screenshot(path=shots / f"panel-{k + 1}.png")
        controls = panel.locator(CONTROLS)
        if not controls.count():
            yield f"panel {k + 1} has nothing to move"
        for c in range(controls.count()):
            yield from _move(panel, controls.nth(c), f"panel {k + 1}, control {c + 1}")
        panel.screenshot(path=shots / f"panel-{k + 1}-moved.png")


def _move(panel: Locator, control: Locator, name: str) -> Iterator[str]:
    """Focus a control and press an arrow key, the other one if it stood at its end.

    A button is let go again, as under another choice a slider may rightly have no effect.
    """
    tag = control.evaluate("e => e.tagName").lower()
    kind = tag if tag in MOVES else "slider"
    box = control.locator("xpath=ancestor::*[.//*[contains(@class, 'widget-label')]][1]")
    chosen = box.locator("button.mod-active").element_handle() if kind == "button" else None
    if chosen and "mod-active" in control.get_attribute("class"):
        control = box.locator("button").first  # the last one is pressed already
    label = box.locator(".widget-label").first.inner_text().strip()
    if not label:
        yield f"{name} has no label"
    track = control if kind != "slider" else box.locator(".noUi-target").first
    if track.bounding_box()["width"] < (80 if kind == "slider" else 20):
        yield f"{name} ({label}) is too narrow to be used"
    content = "all => all.map(e => e.innerHTML).join()"
    shown = panel.locator(".widget-html-content")
    before = shown.evaluate_all(content)
    for key in MOVES[kind]:
        stood = control.evaluate(STANDS)
        control.press(key)  # focuses it, as the Tab key would
        begin = time.monotonic()
        while (waited := time.monotonic() - begin) < 20:
            if shown.evaluate_all(content) != before:
                print(f"    {name} ({label}): changed after {1000 * waited:.0f} ms")
                if chosen:
                    chosen.press("Space")
                    _until(lambda: shown.evaluate_all(content) == before)
                return
            if waited > 2 and control.evaluate(STANDS) == stood:
                break  # it stood at its end
            time.sleep(0.01)
    yield f"{name} ({label}) was moved and nothing changed"


def _until(happens: Callable[[], bool], seconds: float = 3) -> None:
    """Wait for it, but not longer than this."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not happens():
        time.sleep(0.02)


def main(names: list[str]) -> int:
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if not chromium:
        print("there is no chromium; install it (Debian: apt-get install chromium) or set CHROMIUM")
        return 2
    default = Path(tempfile.gettempdir()) / "fedtutor-screenshots"
    screenshots = Path(os.environ.get("FEDTUTOR_SCREENSHOTS", default))
    paths = chosen(names)
    failed = 0
    with tempfile.TemporaryDirectory(prefix="fedtutor-browser-") as temporary:
        folder = Path(temporary) / "notebooks"
        shutil.copytree(NOTEBOOKS, folder, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
        with jupyterlab(folder) as address, sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
            )
            for path in paths:
                failed += bool(_try(browser, address, path, screenshots))
            if not names or "explorer" in names:
                failed += bool(_explorer(browser, screenshots))
            browser.close()
    print(f"{failed or 'no'} page{'s' * (failed != 1)} with problems; screenshots: {screenshots}")
    return 1 if failed else 0


def _try(browser, address: str, path: Path, screenshots: Path) -> list[str]:
    name = timing_key(path)
    shots = screenshots / name.removesuffix(".ipynb").replace("/", "-")
    shutil.rmtree(shots, ignore_errors=True)
    shots.mkdir(parents=True)
    begin = time.monotonic()
    context = browser.new_context(viewport={"width": 1280, "height": 1600})
    page = context.new_page()
    try:
        found = problems(page, address, name, shots)
    except Error as error:
        page.screenshot(path=shots / "stuck.png")
        found = [f"the page did not do what it should: {error.message[:500]}"]
    finally:
        context.close()
    print(f"{name}: {'fine' if not found else 'PROBLEMS'}, {time.monotonic() - begin:.0f} s")
    for sentence in found:
        print(f"  {sentence}")
    return found


def _explorer(browser, screenshots: Path) -> list[str]:
    screenshots.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    try:
        found = problems_of_explorer(browser, screenshots)
    except Error as error:
        found = [f"the page did not do what it should: {error.message[:500]}"]
    print(f"explorer: {'fine' if not found else 'PROBLEMS'}, {time.monotonic() - begin:.0f} s")
    for sentence in found:
        print(f"  {sentence}")
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
