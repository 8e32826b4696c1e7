"""Classes by name: what another hospital calls the classes that a model knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fedtutor.errors import DataError
from fedtutor.images import MedicalImages


@dataclass(frozen=True)
class Matched:
    """Another hospital's images with the model's labels.

    Attributes
    ----------
    data : its class names are the model's; of several findings those that the set knows.
    columns : int (k,), which of the model's outputs they are.
    names : from their name of a class to the model's; None for one that was dropped.
    dropped : how many images were of such a class.
    """

    data: MedicalImages
    columns: np.ndarray
    names: dict[str, str | None]
    dropped: int


def read_map(texts: Iterable[str]) -> dict[str, str]:
    """Return {theirs: ours} of texts like "No Finding=Normal"; "X=" drops class X.

    Raises
    ------
    DataError
        For a text without "=" or with nothing before it.
    """
    pairs = [text.partition("=") for text in texts]
    for theirs, equals, ours in pairs:
        if not equals or not theirs.strip():
            raise DataError(
                f"--map takes THEIRS=OURS, or THEIRS= to leave a class out; got "
                f"{theirs + equals + ours!r}."
            )
    return {theirs.strip(): ours.strip() for theirs, _, ours in pairs}


def match_classes(
    data: MedicalImages,
    ours: Sequence[str],
    multi_label: bool,
    mapping: Mapping[str, str],
    *,
    strict: bool = True,
) -> Matched:
    """Give another hospital's images the labels of a model.

    Names match whatever their case and the spaces, hyphens and underscores in them.

    Parameters
    ----------
    data : the other hospital's images.
    ours, multi_label : the model's classes, and whether an image can have several of them.
    mapping : from a class of theirs to one of ours, or to "" to leave its images out. Several may
        become one. With findings, "" leaves the finding out and keeps the images.
    strict : refuse a mapping of a class that the set has not; it may be another set's.

    Raises
    ------
    DataError
        If classes match neither by name nor by ``mapping``; it lists both sides.
    """
    if data.multi_label != multi_label:
        kinds = ("one class an image", "several findings an image")
        raise DataError(
            f"{data.name} has {kinds[data.multi_label]} and the model tells {kinds[multi_label]}; "
            "choose another task with --task."
        )
    known = {_key(name): name for name in ours}
    asked = {_key(theirs): (theirs, to) for theirs, to in mapping.items()}
    names: dict[str, str | None] = {}
    for theirs in data.class_names:
        to = asked.pop(_key(theirs), ("", theirs))[1]
        if to and _key(to) not in known:
            raise DataError(_no_match(data, ours, theirs, to))
        names[theirs] = known[_key(to)] if to else None
    if asked and strict:
        unknown = next(iter(asked.values()))[0]
        raise DataError(
            f"--map names {unknown!r}, which {data.name} has not; it has: "
            f"{', '.join(data.class_names)}."
        )
    return (_findings if multi_label else _one_class)(data, ours, names)


def _one_class(data: MedicalImages, ours: Sequence[str], names: dict[str, str | None]) -> Matched:
    position = {None: -1} | {name: k for k, name in enumerate(ours)}
    labels = np.array([position[to] for to in names.values()], np.int64)[data.labels]
    kept = data.take(np.flatnonzero(labels >= 0))
    # Two steps, as no image may have a label that its set does not know.
    kept = replace(kept, labels=np.zeros(len(kept), np.int64), class_names=tuple(ours))
    kept = replace(kept, labels=labels[labels >= 0])
    return Matched(kept, np.arange(len(ours)), names, int((labels < 0).sum()))


def _findings(data: MedicalImages, ours: Sequence[str], names: dict[str, str | None]) -> Matched:
    columns = [k for k, name in enumerate(ours) if name in names.values()]
    if not columns:
        raise DataError(f"no finding of {data.name} is one that the model tells; see --map.")
    labels = [data.labels[:, [to == ours[k] for to in names.values()]].any(axis=1) for k in columns]
    stacked = np.stack(labels, axis=1).astype(np.uint8)
    kept = replace(data, labels=stacked, class_names=tuple(ours[k] for k in columns))
    return Matched(kept, np.array(columns), names, 0)


def _key(name: str) -> str:
    return "".join(c for c in name.casefold() if not c.isspace() and c not in "-_")


def _no_match(data: MedicalImages, ours: Sequence[str], theirs: str, to: str) -> str:
    missing = f"{theirs!r}" if to == theirs else f"{to!r}, which --map makes of {theirs!r},"
    return (
        f"{missing} is no class of the model. {data.name} has: {', '.join(data.class_names)}. The "
        f"model tells: {', '.join(ours)}. Say which is which with --map 'THEIRS=OURS', or leave "
        "one out with --map 'THEIRS='."
    )
