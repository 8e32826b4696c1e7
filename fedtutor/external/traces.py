"""Traces: enough to tell that a patient was trained on, without saying who was.

A hash is no secret. Ids that can be guessed, such as running numbers, can be hashed one after the
other until they fit, the salt being in the same file, and a fingerprint shows the coarsest outlines
of its image. Traces are right for public sets; a model from real hospitals is better saved without
(``fedtutor run --no-traces``). A deployment's server has no images and writes none.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedtutor.datasets.duplicates import fingerprints, have_twins
from fedtutor.datasets.registry import DATASETS
from fedtutor.images import MedicalImages


@dataclass(frozen=True)
class Traces:
    """What is kept of the training images.

    Attributes
    ----------
    salt : drawn for each file, so that two files cannot be laid beside each other.
    patients : SHA-256 of salt, set and id; empty where patients are not known or were never born.
    images : SHA-256 of salt and pixels.
    outlines : uint8 (n, 32), see :func:`fedtutor.datasets.duplicates.fingerprints`; none of
        phantoms, which are all alike.
    """

    salt: str
    patients: frozenset[str]
    images: frozenset[str]
    outlines: np.ndarray

    @classmethod
    def of(cls, data: MedicalImages) -> Traces:
        """Return the traces of training images."""
        salt = secrets.token_hex(16)
        outlines, digests = fingerprints(data.images)
        if data.synthetic:
            outlines = outlines[:0]
        patients = frozenset(_patients(salt, data))
        return cls(salt, patients, frozenset(_hashed(salt, digests)), outlines)

    def patients_in(self, data: MedicalImages) -> np.ndarray:
        """Tell which images are of patients that were trained on: bool (n,).

        An id means the same person within one known set, and from one's own folder to another.
        """
        known = _patients(self.salt, data) or [""] * len(data)
        return np.array([one in self.patients for one in known], bool)

    def images_in(self, data: MedicalImages) -> np.ndarray:
        """Tell which images were trained on, or have a twin among those that were: bool (n,)."""
        outlines, digests = fingerprints(data.images)
        same = [one in self.images for one in _hashed(self.salt, digests)]
        return np.array(same, bool) | have_twins(outlines, self.outlines)

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        outlines = base64.b64encode(self.outlines.tobytes()).decode("ascii")
        found = {"patients": sorted(self.patients), "images": sorted(self.images)}
        return {"salt": self.salt, **found, "outlines": outlines}

    @classmethod
    def from_json(cls, said: dict[str, Any]) -> Traces:
        """Read them again; KeyError, TypeError or ValueError if they are none."""
        outlines = np.frombuffer(base64.b64decode(said["outlines"], validate=True), np.uint8)
        patients, images = (frozenset(map(str, said[key])) for key in ("patients", "images"))
        return cls(str(said["salt"]), patients, images, outlines.reshape(-1, 32))


def _patients(salt: str, data: MedicalImages) -> list[str]:
    """One hash an image, or none if the patients are not known, or are phantoms.

    A phantom's number comes back with every seed, for somebody else.
    """
    if "patient" not in data.table.columns or data.synthetic:
        return []
    whose = data.name if data.name in DATASETS else "own"
    ids = data.table["patient"].astype(str)
    return _hashed(salt, (f"{whose}\0{one}".encode() for one in ids))


def _hashed(salt: str, values: Iterable[bytes]) -> list[str]:
    return [hashlib.sha256(salt.encode() + value).hexdigest() for value in values]
