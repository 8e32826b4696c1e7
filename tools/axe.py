"""What axe-core, which looks for barriers, finds serious on a page."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files

from playwright.sync_api import Page

RUN = """async context => (await axe.run(context, {resultTypes: ["violations"]})).violations
    .filter(one => ["serious", "critical"].includes(one.impact))"""


def barriers(page: Page, include: str = "html", exclude: str = "[hidden]") -> Iterator[str]:
    """Yield a sentence for each rule that is broken within ``include``, both of them selectors."""
    page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8"))
    context = {"include": [[one] for one in include.split(", ")], "exclude": [[exclude]]}
    for violation in page.evaluate(RUN, context):
        where = [f"{node['target'][-1]} {node['html'][:150]}" for node in violation["nodes"]]
        yield f"axe: {violation['help']}: {len(where)} x: " + "; ".join(where[:3])
