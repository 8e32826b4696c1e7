"""Trouble and cost: sabotage and defences, hospitals that leave, bytes, and who gains."""

# ruff: noqa: F401  this is what notebook 11 takes from here
from fedtutor.topics import with_mods
from fedtutor.topics.robustness.attacks import (
    attack_success,
    flip_labels,
    flip_sign,
    free_ride,
    from_round,
    leave_after,
    only_at,
    plant_backdoor,
    scale_update,
    sign_reply,
    stamp,
)
from fedtutor.topics.robustness.compression import (
    EIGHT_BIT,
    FLOAT16,
    FLOAT32,
    compress,
    line_seconds,
    top_k,
    unpacking,
)
from fedtutor.topics.robustness.defences import DEFENCES, Chosen, make_defence
from fedtutor.topics.robustness.fairness import FairFedAvg, gain, recall, verdict_on_gain, worst
