"""``model.keras``: a file that takes an image as it is, and says what it was made from.

It is one of Keras's own files, a zip, with two or three members more, which Keras passes over:
``fedtutor.json`` and ``README.md``, the model card for programs and for people, and ``traces.json``
(:mod:`fedtutor.external.traces`). One file cannot lose its companion. Keras alone opens it; a model
that Keras then saves again has no card, as it is no longer the model that was examined.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedtutor.errors import DataError
from fedtutor.external.card import FORMAT, Card, describe_card
from fedtutor.external.traces import Traces
from fedtutor.images import Images
from fedtutor.model import MIN_DEVIATION, predict
from fedtutor.support.keras_import import load_keras
from fedtutor.support.output import whole

if TYPE_CHECKING:
    import keras

CARD, README, TRACES = "fedtutor.json", "README.md", "traces.json"


@dataclass(frozen=True)
class SavedModel:
    """A model that was read from a file.

    Attributes
    ----------
    model : from pixels of 0..255, (n, height, width, channels), to probabilities.
    card : what it is, see :class:`~fedtutor.external.card.Card`.
    traces : what tells whom it was trained on; None if they were left out.
    """

    model: keras.Model
    card: Card
    traces: Traces | None

    @property
    def cnn(self) -> keras.Model:
        """The network inside, which takes standardised images, as the training loop has it."""
        return self.model.layers[-1]

    def predict(self, images: Images) -> np.ndarray:
        """Return float32 (n, classes) of pixels of 0..255, (n, height, width, channels).

        Raises
        ------
        DataError
            For images of another shape, or scaled ones. The file by itself cannot know that 0..1
            was meant: it takes such an image for one that is nearly black.
        """
        if images.shape[1:] != self.card.image_shape:
            raise DataError(
                f"the model takes images of {self.card.image_shape}; got {images.shape[1:]}."
            )
        if images.dtype != np.uint8 and len(images) and np.max(images) <= 1:
            raise DataError(
                "the pixels end at 1 or below: give grey levels 0..255 as they are; the model "
                "scales them itself."
            )
        return predict(self.cnn, images)


def with_preprocessing(cnn: keras.Model) -> keras.Model:
    """Return a model of pixels of 0..255 around a copy of ``cnn``.

    It is :func:`fedtutor.model.standardise` in Keras's own operations, which any backend reads. An
    image that is standardised already is left as it is.
    """
    keras = load_keras()
    ops = keras.ops
    inner = keras.models.clone_model(cnn)  # a call would leave its mark on the one that is trained
    inner.set_weights(cnn.get_weights())
    pixels = keras.Input(cnn.input_shape[1:], dtype="float32", name="grey_levels")
    mean = ops.mean(pixels, axis=(1, 2, 3), keepdims=True)
    deviation = ops.std(pixels, axis=(1, 2, 3), keepdims=True)
    standardised = (pixels - mean) / ops.maximum(deviation, MIN_DEVIATION)
    return keras.Model(pixels, inner(standardised), name="fedtutor")


def save_model(
    model: keras.Model, path: Path, card: dict[str, Any], traces: Traces | None = None
) -> None:
    """Save a CNN with its preprocessing, its card and, if given, its traces.

    ``card`` is of :func:`fedtutor.external.card.make_card`.
    """
    members = {CARD: json.dumps(card, indent=1, allow_nan=False)}
    members[README] = describe_card(card, has_traces=traces is not None)
    if traces is not None:
        members[TRACES] = json.dumps(traces.to_json())
    with whole(path) as temporary:
        with_preprocessing(model).save(temporary)
        with zipfile.ZipFile(temporary, "a", zipfile.ZIP_DEFLATED) as archive:
            for name, text in members.items():
                archive.writestr(name, text)


def load_model(path: Path | str) -> SavedModel:
    """Read a file of :func:`save_model`.

    A model from a stranger is a program: Keras refuses code in it, but open only what comes from
    somebody you trust.

    Raises
    ------
    DataError
        If the file is not there, damaged, not one of ours, or of a newer version.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path} is not a file; give the model.keras of a run.")
    try:
        with zipfile.ZipFile(path) as archive:
            if broken := archive.testzip():
                raise DataError(f"{path} is damaged in its part {broken}; copy it anew.")
            texts = {
                name: archive.read(name).decode("utf-8")
                for name in (CARD, TRACES)
                if name in archive.namelist()
            }
    except (zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"{path} is damaged, or no .keras file: {error}.") from error
    if CARD not in texts:
        raise DataError(
            f"{path} has no card of fedtutor, so nobody knows what its classes are; give a model "
            "that 'fedtutor run' has written and nobody has saved again."
        )
    return _assembled(path, texts)


def _assembled(path: Path, texts: dict[str, str]) -> SavedModel:
    try:
        card = Card.from_json(json.loads(texts[CARD]))
        traces = Traces.from_json(json.loads(texts[TRACES])) if TRACES in texts else None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, DataError):
            raise DataError(f"{path}: {error}") from error
        raise DataError(f"{path}: its card cannot be read ({error!r}); copy it anew.") from error
    try:
        model = load_keras().models.load_model(path, compile=False)
        shapes = (model.input_shape[1:], model.layers[-1].output_shape[-1])
    except Exception as error:  # whatever Keras makes of a file that is not as it should be
        raise DataError(f"{path} cannot be opened by Keras: {error}") from error
    if shapes != (card.image_shape, len(card.classes)):
        raise DataError(
            f"{path}: its card says {card.image_shape} and {len(card.classes)} classes, but the "
            f"model takes {shapes[0]} and gives {shapes[1]} (format {FORMAT}); copy it anew."
        )
    return SavedModel(model, card, traces)
