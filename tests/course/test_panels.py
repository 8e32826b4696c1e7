from __future__ import annotations

import pandas as pd
import pytest

from fedtutor import figures
from fedtutor.course.panels import Panel, choice, slider


def picture_panel(calls=None):
    def show(alpha, kind):
        if calls is not None:
            calls.append((alpha, kind))
        picture = figures.rows(["A", "B"], {kind: [alpha, 1.0]}, x="share")
        return picture, f"{kind} at {alpha} < 11"

    return Panel(
        show,
        alpha=slider("Skew (alpha)", [0.1, 1.0, 10.0], value=1.0),
        kind=choice("Kind of skew", ["labels", "sizes"]),
    )


def test_controls_are_set_from_code_and_the_state_says_what_is_seen():
    panel = picture_panel()
    assert panel.state == "labels at 1.0 < 11"
    assert panel.set(alpha=0.1, kind="sizes").state == "sizes at 0.1 < 11"
    assert panel.values == {"alpha": 0.1, "kind": "sizes"}


def test_moving_a_control_changes_picture_and_words_on_the_screen():
    panel = picture_panel()
    *controls, words, screen = panel.widget.children
    before = screen.value
    assert 'alt="share: A labels 1; B labels 1."' in before
    controls[0].value = 10.0
    assert screen.value != before
    assert "labels at 10.0 &lt; 11" in words.value


def test_a_setting_seen_before_is_not_drawn_again():
    calls = []
    panel = picture_panel(calls)
    panel.widget  # noqa: B018
    for alpha in (0.1, 1.0, 0.1):
        panel.set(alpha=alpha)
    assert calls == [(1.0, "labels"), (0.1, "labels")]


def test_controls_are_labelled():
    *controls, _, _ = picture_panel().widget.children
    assert [control.description for control in controls] == ["Skew (alpha)", "Kind of skew"]


def test_without_a_kernel_the_cell_still_shows_picture_and_words():
    bundle = picture_panel()._repr_mimebundle_()
    assert "<img" in bundle["text/html"]
    assert "labels at 1.0" in bundle["text/html"]
    assert bundle["text/plain"].splitlines()[:3] == [
        "Panel: Skew (alpha) = 1.0, Kind of skew = labels",
        "labels at 1.0 < 11",
        "x: share",
    ]
    assert "application/vnd.jupyter.widget-view+json" in bundle


def test_a_table_can_be_shown_too():
    panel = Panel(lambda n: (pd.DataFrame({"n": [n]}), f"n is {n}"), n=slider("n", range(3)))
    assert "<table" in panel.widget.children[-1].value


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"beta": 1}, "no control 'beta'; there are: alpha, kind"),
        ({"alpha": 3}, "alpha cannot be 3; it offers: 0.1, 1.0, 10.0"),
    ],
)
def test_a_wrong_setting_is_refused_and_nothing_moves(values, message):
    panel = picture_panel()
    with pytest.raises(ValueError, match=message):
        panel.set(kind="sizes", **values)
    assert panel.values == {"alpha": 1.0, "kind": "labels"}


def test_a_panel_needs_a_control():
    with pytest.raises(ValueError, match="at least one control"):
        Panel(lambda: None)
