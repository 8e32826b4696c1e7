"""Sphinx's settings for the book; ``make site`` runs it over the sources that build.py has made."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from book_material import GITHUB, PROJECT  # noqa: E402
from latex2mathml.converter import convert  # noqa: E402

COLAB = "https://colab.research.google.com/github"

project = "fedtutor"
author = "The fedtutor authors"
copyright = "The fedtutor authors, Apache-2.0"
version = release = PROJECT["version"]
language = os.environ.get("SITE_LANGUAGE", "en")
locale_dirs = [str(HERE / "locale")]
gettext_compact = False

extensions = ["myst_nb"]
templates_path = [str(HERE / "templates")]
nitpicky = True
nb_execution_mode = "off"
nb_ipywidgets_js: dict = {}  # else pages load scripts from elsewhere
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"
myst_enable_extensions = ["dollarmath"]
myst_update_mathjax = False
myst_heading_anchors = 6
html_math_renderer = "mathml"

html_theme = "sphinx_book_theme"
html_title = "fedtutor: federated learning for medical images"
html_static_path = [str(HERE / "static")]
html_extra_path = [str(HERE / "_build" / "extra")]
html_css_files = ["book.css"]
html_js_files = [("panels.js", {"defer": "defer"})]
html_show_sourcelink = False
html_copy_source = True
html_use_index = False
html_context = {"default_mode": "auto"}
html_theme_options = {
    "logo": {"text": "fedtutor"},
    "use_repository_button": False,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "home_page_in_toc": True,
    "show_navbar_depth": 1,
    "navbar_persistent": [],
    "extra_footer": f'<p>fedtutor {version}, <a href="{GITHUB}">its source</a>. '
    "It teaches; it does not diagnose. All X-rays and scans in it are synthetic.</p>",
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}


def _notebook(app, pagename, templatename, context, doctree) -> None:
    """Tell the template the minutes of a notebook, and where it can be run or had."""
    if app.env.doc2path(pagename).suffix == ".ipynb":
        minutes = Path(app.srcdir, "minutes.json").read_text(encoding="utf-8")
        context["minutes"] = json.loads(minutes).get(pagename)
        context["notebook"] = f"_sources/{pagename}.ipynb"
        context["colab"] = f"{COLAB}/{GITHUB.split('//github.com/')[1]}/blob/main/{pagename}.ipynb"


def _inline(self, node) -> None:
    self.body.append(convert(node.astext()))
    raise _skip()


def _block(self, node) -> None:
    formula = convert(node.astext(), display="block")
    self.body.append(
        f'<div class="formula" tabindex="0" role="group" aria-label="Formula">{formula}</div>'
    )
    raise _skip()


def _skip() -> Exception:
    from docutils.nodes import SkipNode

    return SkipNode()


def setup(app) -> None:
    """Have formulas written as MathML, which needs no script, and each page know its minutes."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.connect("html-page-context", _notebook)
