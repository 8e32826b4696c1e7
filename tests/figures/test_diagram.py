"""The diagram of a round says what travels, in the picture and in words."""

from __future__ import annotations

import pytest

from fedtutor.figures.diagram import STEPS, federated_round


def test_the_round_in_words_has_its_four_steps_and_the_wall():
    picture = federated_round()
    assert all(step in picture.alt for step in STEPS)
    assert "images stay behind its wall" in picture.alt
    for words in ("Hospital 3", "w₃, n₃", "new w = Σ nₖ wₖ / Σ nₖ", "No image crosses them."):
        assert words in repr(picture)


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_one_step_is_shown_alone(step):
    picture = federated_round(("Abbey", "Bridge"), step=step)
    assert [words in picture.alt for words in STEPS] == [k == step for k in (1, 2, 3, 4)]
    shown = {text.get_text(): text.get_alpha() for text in picture.figure.axes[0].texts}
    assert [shown[str(k)] == 1.0 for k in (1, 2, 3, 4)] == [k == step for k in (1, 2, 3, 4)]


def test_what_travels_can_be_named():
    picture = federated_round(("A", "B"), down="w, c", up=("Δ₁", "Δ₂"))
    assert {"w, c", "Δ₁", "Δ₂"} <= {text.get_text() for text in picture.figure.axes[0].texts}
