"""Sphinx's settings for the book; ``make site`` runs it over the sources that build.py has made."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from book_language import LOCALE, chosen, notebook_of, others, say  # noqa: E402
from book_material import GITHUB, PROJECT, ROOT, make_catalogues  # noqa: E402
from latex2mathml.converter import convert  # noqa: E402
from myst_nb.sphinx_ import Parser  # noqa: E402
from myst_parser.parsers.sphinx_ import MystParser  # noqa: E402

COLAB = "https://colab.research.google.com/github"

project = "fedtutor"
author = "The fedtutor authors"
copyright = "The fedtutor authors, Apache-2.0"
version = release = PROJECT["version"]
language = chosen()
locale_dirs = [str(HERE / "_build" / "locale")]  # where Sphinx may compile it
make_catalogues(LOCALE, Path(locale_dirs[0]))
gettext_compact = False

extensions = ["myst_nb"]
templates_path = [str(HERE / "templates")]
nitpicky = True
nb_execution_mode = "off"
nb_ipywidgets_js: dict = {}  # else pages load scripts from elsewhere
nb_code_prompt_show = say("Show the code")
nb_code_prompt_hide = say("Hide the code")
myst_enable_extensions = ["dollarmath"]
myst_update_mathjax = False
myst_heading_anchors = 6
html_math_renderer = "mathml"

html_theme = "sphinx_book_theme"
html_title = say("fedtutor: federated learning for medical images")
html_static_path = [str(HERE / "static")]
html_extra_path = [str(HERE / "_build" / "extra")] if language == "en" else []
html_css_files = ["book.css"]
html_js_files = [("panels.js", {"defer": "defer"})]
html_show_sourcelink = False
html_copy_source = language == "en"
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
    "footer_content_items": "copyright.html, extra-footer.html",
    "extra_footer": f'<p>fedtutor {version}, <a href="{GITHUB}">{say("its source")}</a>. '
    + say("It teaches; it does not diagnose. All X-rays and scans in it are synthetic.")
    + "</p>",
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}


def _notebook(app, pagename, templatename, context, doctree) -> None:
    """Tell the template the minutes of a notebook, and where it can be run or had."""
    if doctree is None:  # the search page
        return
    context["others"] = others(pagename)
    if app.env.doc2path(pagename).suffix == ".ipynb":
        minutes = Path(app.srcdir, "minutes.json").read_text(encoding="utf-8")
        context["minutes"] = json.loads(minutes).get(pagename)
        mine = notebook_of(Path(f"{pagename}.ipynb"))
        up = "" if language == "en" or mine else "../"
        file = mine.relative_to(ROOT).as_posix() if mine else f"{pagename}.ipynb"
        context["notebook"] = f"{up}_sources/{pagename}.ipynb"
        context["colab"] = f"{COLAB}/{GITHUB.split('//github.com/')[1]}/blob/main/{file}"


def _english(app, env) -> None:
    """Keep pages out of the search that are there for links only."""
    for page in json.loads(Path(app.srcdir, "english.json").read_text(encoding="utf-8")):
        env.metadata[page]["nosearch"] = True


class _Parser(Parser):
    """Reads notebooks and pages, and a translated sentence as Markdown: it is no notebook."""

    def parse(self, inputstring: str, document) -> None:
        """Parse a page, or what Sphinx puts into one in place of a sentence."""
        if not document["source"].endswith("<translated>"):
            super().parse(inputstring, document)
            return
        sentence = re.sub(r"^(\d+)\. ", r"\1\\. ", inputstring)  # a title, and no list
        MystParser.parse(self, sentence, document)


def _inline(self, node) -> None:
    self.body.append(convert(node.astext()))
    raise _skip()


def _block(self, node) -> None:
    formula = convert(node.astext(), display="block")
    name = say("Formula")
    self.body.append(
        f'<div class="formula" tabindex="0" role="group" aria-label="{name}">{formula}</div>'
    )
    raise _skip()


def _skip() -> Exception:
    from docutils.nodes import SkipNode

    return SkipNode()


def setup(app) -> None:
    """Have formulas written as MathML, which needs no script, and each page know its minutes."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.add_source_parser(_Parser, override=True)
    app.connect("html-page-context", _notebook)
    app.connect("env-updated", _english)
