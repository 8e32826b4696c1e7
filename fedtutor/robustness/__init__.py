"""Trouble and cost: sabotage and defences, hospitals that leave, bytes, and who gains."""

import fedtutor.federation  # noqa: F401  first, as it tells Flower to be quiet

# isort: split
from fedtutor.robustness.attacks import (
    attack_success,
    flip_labels,
    flip_sign,
    free_ride,
    leave_after,
    only_at,
    plant_backdoor,
    scale_update,
    sign_reply,
    stamp,
    with_mods,
)
from fedtutor.robustness.compression import (
    EIGHT_BIT,
    FLOAT16,
    FLOAT32,
    Codec,
    Meter,
    UnpackingGrid,
    compress,
    line_seconds,
    top_k,
    unpacking,
    with_feedback,
)
from fedtutor.robustness.defences import DEFENCES, Chosen, ClippedFedAvg, clip, make_defence, norm
from fedtutor.robustness.fairness import FairFedAvg, gain, recall, verdict, worst

__all__ = [
    "DEFENCES",
    "EIGHT_BIT",
    "FLOAT16",
    "FLOAT32",
    "Chosen",
    "ClippedFedAvg",
    "Codec",
    "FairFedAvg",
    "Meter",
    "UnpackingGrid",
    "attack_success",
    "clip",
    "compress",
    "flip_labels",
    "flip_sign",
    "free_ride",
    "gain",
    "leave_after",
    "line_seconds",
    "make_defence",
    "norm",
    "only_at",
    "plant_backdoor",
    "recall",
    "scale_update",
    "sign_reply",
    "stamp",
    "top_k",
    "unpacking",
    "verdict",
    "with_feedback",
    "with_mods",
    "worst",
]
