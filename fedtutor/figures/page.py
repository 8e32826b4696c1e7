"""Pages: a template of the package filled in, as one HTML file that needs no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

PACKAGE = Path(__file__).parents[1]


def fill(template: str, **values: Any) -> str:
    """Return a page by the template of that name, such as "report/page.html.jinja".

    What is filled in is escaped; a name that the template asks for and does not get is an error.
    """
    pages = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PACKAGE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return pages.get_template(template).render(**values)
