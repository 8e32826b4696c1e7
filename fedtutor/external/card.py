"""The model card: what a model is, what it was made from, and how good it was at home.

In words it follows Mitchell et al. 2019, "Model cards for model reporting".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fedtutor import __version__
from fedtutor.errors import DataError, visible
from fedtutor.images import MedicalImages
from fedtutor.settings import RunSettings

FORMAT = 1
"""Of the card; a change that older versions would misread makes it one more."""

INTENDED_USE = (
    "Teaching and research on federated learning. It is no medical device, it was not examined as "
    "one, and it must not be used to diagnose or treat anybody."
)
PREPROCESSING = (
    "Inside the model: give pixels of 0..255 as they are, (n, height, width, channels). Each "
    "image is centred on its own mean and divided by its own deviation (1 at least). "
    "Pixels that were scaled to 0..1 are taken for nearly black images: multiply them by 255 first."
)


@dataclass(frozen=True)
class Card:
    """What must be known of a model to use it.

    Attributes
    ----------
    classes : in the order of its outputs.
    image_shape : (height, width, channels).
    multi_label : whether an image can have several of the classes, or none.
    dataset, synthetic : what it was trained on, and whether that was drawn.
    home : how good it was at home, as ``summary.json`` has it under ``home``; None if not known.
    said : all that the file says.
    """

    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    multi_label: bool
    dataset: str
    synthetic: bool
    home: dict[str, Any] | None
    said: dict[str, Any]

    @classmethod
    def from_json(cls, said: dict[str, Any]) -> Card:
        """Read a card; KeyError, TypeError or ValueError if it is not one.

        Raises
        ------
        DataError
            If it is of a newer version.
        """
        if said["format"] > FORMAT:
            raise DataError(
                f"it was written by {visible(str(said['written_by']))}, and this is fedtutor "
                f"{__version__}, which does not know its format {said['format']}; update fedtutor."
            )
        height, width, channels = map(int, said["image_shape"])
        return cls(
            tuple(visible(str(name)) for name in said["classes"]),
            (height, width, channels),
            bool(said["multi_label"]),
            visible(str(said["dataset"])),
            bool(said["synthetic"]),
            said["home"],
            said,
        )


def make_card(
    settings: RunSettings, data: MedicalImages, summary: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the card of a model that was trained on images such as ``data``, as JSON has it.

    ``summary``, if the run has come to its end, tells how good it was.
    """
    return {
        "format": FORMAT,
        "written_by": f"fedtutor {__version__}",
        "classes": list(data.class_names),
        "image_shape": list(data.image_shape),
        "colour": data.image_shape[-1] > 1,
        "multi_label": data.multi_label,
        "preprocessing": PREPROCESSING,
        "intended_use": INTENDED_USE,
        "dataset": data.name,
        "synthetic": data.synthetic,
        "settings": {**asdict(settings), "dataset": data.name},  # a path may have a name in it
        "home": None if summary is None else summary["home"],
        "warnings": [] if summary is None else summary["warnings"],
    }


def describe_card(card: Mapping[str, Any], *, has_traces: bool) -> str:
    """Return the card in words, as Markdown."""
    height, width, channels = card["image_shape"]
    kind = "synthetic images, drawn by a program" if card["synthetic"] else "images of patients"
    several = "each by itself, an image can have several" if card["multi_label"] else "one an image"
    settings = card["settings"]
    lines = [
        f"# A model trained on {card['dataset']}",
        "",
        f"**Use.** {card['intended_use']}",
        "",
        f"**In and out.** {height}x{width} pixels, {'colour' if channels > 1 else 'grey'}; to "
        f"probabilities of {', '.join(card['classes'])} ({several}). {card['preprocessing']}",
        "",
        f"**Trained on** {card['dataset']} ({kind}); {settings['strategy']}, {settings['rounds']} "
        f"rounds of {settings['local_epochs']} epochs, seed {settings['seed']}; with "
        f"{card['written_by']}.",
        "",
        f"**How good.** {_how_good(card['home'])}",
        "",
        "**Limits.** Elsewhere it may be worth much less: other scanners, other patients, marks on "
        "the film that stood for the disease at home. `fedtutor evaluate` measures it there.",
        *(f"- {warning}" for warning in card["warnings"]),
        "",
        f"**Privacy.** {TRACES_KEPT if has_traces else TRACES_LEFT_OUT}",
    ]
    return "\n".join(lines) + "\n"


TRACES_KEPT = (
    "traces.json holds salted hashes of the patients' ids and a 255-bit fingerprint of each "
    "training image, to leave these patients out of a test. An id that can be guessed, such as a "
    "running number, can be guessed from its hash, and a fingerprint is a faint outline of its "
    "image. Where the patients are real and not public, do not pass it on: `fedtutor run "
    "--no-traces` leaves it out. The weights themselves can tell of the training images, too."
)
TRACES_LEFT_OUT = (
    "Neither ids nor fingerprints of the training images are in this file, so that nobody can see "
    "from it whether a test set holds the same patients. The weights themselves can tell of the "
    "training images all the same."
)


def _how_good(home: Mapping[str, Any] | None) -> str:
    if home is None:
        return "Not in this file: it was saved before the run had come to its end."
    low, high = home["auc_interval"]
    interval = (
        "too few for an interval" if low is None else f"95 % interval {low:.3f} to {high:.3f}"
    )
    auc = "none" if home["auc"] is None else f"{home['auc']:.3f}"
    return (
        f"On {home['num_images']} test images of {home['num_patients']} patients at home: "
        f"AUC {auc} ({interval}), Brier score {home['brier']:.3f}, expected calibration error "
        f"{home['calibration']['error']:.3f}."
    )
