"""Panels: a pure function from controls to what is shown, in a thin ipywidgets shell.

    def show(alpha, kind):
        return picture, f"alpha {alpha}: ..."

    panel = Panel(show, alpha=slider("Skew (alpha)", [0.1, 1, 10]), kind=choice("Kind", [...]))

The last line of a cell shows it, ``panel.set(alpha=0.1)`` moves a control as a hand would, and
``panel.state`` says in words what is seen. Without a kernel, as on a web page, the cell keeps the
picture of the first setting.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import TypeAlias

import ipywidgets
import pandas as pd

from fedtutor.figures.picture import Picture
from fedtutor.support.language import say

Shown: TypeAlias = Picture | pd.DataFrame
SCREEN_DPI = 80
"""Pixels an inch on the screen; a coarser picture is drawn and sent faster."""


def slider(label: str, values: Iterable, *, value: object | None = None) -> ipywidgets.Widget:
    """Make a slider over a list of values; by default it starts at the first."""
    return _labelled(ipywidgets.SelectionSlider, label, values, value)


def choice(label: str, values: Iterable, *, value: object | None = None) -> ipywidgets.Widget:
    """Make a row of buttons, one a value; by default the first is pressed.

    Not a drop-down list: JupyterLab takes the arrow keys away from it.
    """
    buttons = _labelled(ipywidgets.ToggleButtons, label, values, value)
    buttons.style.button_width = "auto"
    return buttons


def _labelled(kind: type, label: str, values: Iterable, value: object | None) -> ipywidgets.Widget:
    options = list(values)
    start = options[0] if value is None else value
    return kind(options=options, value=start, description=label)


class Panel:
    """Controls, and what they show.

    Parameters
    ----------
    show : from the controls' values, by name, to (Picture or table, sentence). It must be pure,
        as a setting once drawn is remembered, and take less than 0.2 s: compute beforehand what
        takes longer. It must not look at a name that a later cell gives to something else.
    controls : :func:`slider` or :func:`choice`, or any ipywidgets control with a ``value``.
    """

    def __init__(
        self, show: Callable[..., tuple[Shown, str]], **controls: ipywidgets.Widget
    ) -> None:
        if not controls:
            raise ValueError("a panel needs at least one control; got none.")
        self.show = show
        self._controls = controls
        # Labels of one width have the controls begin below each other, and none is cut off.
        label = 0.6 * max(len(control.description) for control in controls.values()) + 0.5
        for control in controls.values():
            control.style.description_width = f"{label:.1f}em"
            is_row = isinstance(control, ipywidgets.ToggleButtons)
            control.layout.width = "100%" if is_row else f"{label + 20:.1f}em"
        self._seen: dict[tuple, tuple[str, ...]] = {}
        self._words, self._screen = ipywidgets.HTML(), ipywidgets.HTML()

    @property
    def values(self) -> dict[str, object]:
        """The value of each control, by name."""
        return {name: control.value for name, control in self._controls.items()}

    @property
    def state(self) -> str:
        """What is seen now, in words."""
        return self._render()[2]

    def set(self, **values: object) -> Panel:
        """Move controls, as a hand would.

        Raises
        ------
        ValueError
            For a control that is not there, or a value it does not offer; lists what it has.
        """
        for name, value in values.items():
            if name not in self._controls:
                raise ValueError(f"no control {name!r}; there are: {', '.join(self._controls)}.")
            options = getattr(self._controls[name], "options", [value])
            if value not in options:
                known = ", ".join(map(str, options))
                raise ValueError(f"{name} cannot be {value!r}; it offers: {known}.")
        for name, value in values.items():
            self._controls[name].value = value
        return self

    @cached_property
    def widget(self) -> ipywidgets.VBox:
        """The ipywidgets shell, made when the panel is first displayed."""
        for control in self._controls.values():
            control.observe(self._redraw, names="value")
        self._redraw()
        return ipywidgets.VBox([*self._controls.values(), self._words, self._screen])

    def _redraw(self, _change: Mapping | None = None) -> None:
        self._screen.value, self._words.value = self._render()[:2]

    def _render(self) -> tuple[str, ...]:
        """Return for the present setting two pieces of HTML, the sentence and the text."""
        key = tuple(self.values.values())
        if key not in self._seen:
            shown, sentence = self.show(**self.values)
            picture = shown.to_html(SCREEN_DPI) if isinstance(shown, Picture) else shown.to_html()
            # role=status has a screen reader say the sentence after each move.
            words = f'<p role="status" style="line-height: 1.4">{html.escape(sentence)}</p>'
            self._seen[key] = picture, words, sentence, repr(shown)
        return self._seen[key]

    def __repr__(self) -> str:
        settings = ", ".join(
            f"{control.description or name} = {control.value}"
            for name, control in self._controls.items()
        )
        _, _, sentence, text = self._render()
        return say("Panel: {settings}", settings=settings) + f"\n{sentence}\n{text}"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        # The notebook is stored with the last two only: without a kernel a view shows an error.
        screen, words, *_ = self._render()
        view = self.widget._repr_mimebundle_()["application/vnd.jupyter.widget-view+json"]
        return {
            "application/vnd.jupyter.widget-view+json": view,
            "text/html": f"{screen}{words}",
            "text/plain": repr(self),
        }
