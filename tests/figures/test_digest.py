from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from fedtutor import figures
from fedtutor.figures.digest import digest


def figure(ys=(0.5, 0.7, 0.8), label="FedAvg", title="Rounds"):
    made = Figure()
    axes = made.add_subplot(title=title, xlabel="round", ylabel="AUC")
    axes.plot([1, 2, 3], ys, label=label)
    return made


def test_a_line_is_told_with_title_labels_points_and_data():
    assert digest(figure()).splitlines() == [
        "title: Rounds",
        "x: round",
        "y: AUC",
        "line 'FedAvg': 3 points, x 1 2 3; y 0.5 0.7 0.8",
    ]


@pytest.mark.parametrize(
    "change", [{"ys": (0.5, 0.7, 0.9)}, {"label": "FedProx"}, {"title": "round by round"}]
)
def test_a_changed_figure_has_another_digest(change):
    assert digest(figure(**change)) != digest(figure())


def test_measured_numbers_are_rounded_and_say_so():
    assert "y ≈0.50 ≈0.70 ≈0.80" in digest(figure(ys=(0.5012, 0.6988, 0.8)), step=0.01)
    assert "x 1 2 3" in digest(figure(), step=0.01)


def test_numbers_in_words_are_rounded_like_the_data():
    assert "title: AUC ≈0.88" in digest(figure(title="AUC 0.8767"), step=0.01)


@pytest.mark.parametrize("step", [0, -1, 2, np.nan])
def test_a_step_must_make_sense(step):
    with pytest.raises(ValueError, match="step must lie above 0"):
        digest(figure(), step=step)


def test_a_long_series_is_told_by_five_points_and_its_mean():
    made = Figure()
    made.add_subplot().plot(np.arange(100), np.full(100, 2.0))
    assert "100 points, x 0 .. 25 .. 50 .. 74 .. 99" in digest(made)


def test_bars_names_images_dots_and_cells():
    made = Figure()
    bars, lying, image, dots, cells = made.subplots(1, 5)
    bars.bar(["a", "b"], [3, 4], label="ill")
    lying.barh(["c"], [5])
    image.imshow(np.full((8, 9), 7, np.uint8))
    dots.scatter([1, 2], [3, 4])
    cells.pcolormesh(np.arange(4.0).reshape(2, 2))
    text = digest(made)
    for words in (
        "bars 'ill': 2, 3 4",
        "x ticks: a, b",
        "bars: 1, 5",
        "y ticks: c",
        "image: 8x9, mean 7",
        "dots: 2 points, x 1 2; y 3 4",
        "cells: 2x2, mean 1.5, 0 1 2 3",
        "panel 5 of 5",
    ):
        assert words in text


def test_nothing_is_told_of_empty_axes_and_nan_is_a_gap():
    made = figure(ys=(0.5, np.nan, 0.8))
    assert "y 0.5 - 0.8" in digest(made)
    assert digest(Figure()) == ""


def test_a_picture_shows_its_digest_as_text_and_an_image_with_alt_as_html():
    picture = figures.Picture(figure(), 'AUC "rises"', step=0.01)
    assert repr(picture) == digest(picture.figure, step=0.01)
    shown = picture._repr_html_()
    assert 'alt="AUC &quot;rises&quot;"' in shown
    assert "≈0.70" in shown


def test_lines_have_a_look_of_their_own_and_an_alt_text_from_the_data():
    xs = np.arange(1, 4)
    picture = figures.lines(
        {"A": (xs, [0.5, 0.6, 0.7]), "B": (xs, [0.4, 0.4, 0.4])},
        dots={"C": (xs, [0.1, 0.2, 0.3])},
        x="round",
        y="AUC",
    )
    looks = {(line.get_marker(), line.get_color()) for line in picture.figure.axes[0].lines}
    assert len(looks) == 3
    assert "A goes from 0.5 to 0.7" in picture.alt
    assert "C lie between 0.1 and 0.3" in picture.alt


def test_rows_name_every_row_in_the_alt_text():
    picture = figures.rows(["North", "South"], {"AUC": [0.81, 0.92]}, x="AUC", limits=(0.5, 1))
    assert picture.alt == "AUC: North AUC 0.81; South AUC 0.92."
    assert "y ticks: North, South" in repr(picture)
