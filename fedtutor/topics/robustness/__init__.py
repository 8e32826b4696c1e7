"""Trouble and cost: sabotage and defences, hospitals that leave, bytes, and who gains.

Everything in the four modules can be had from here, as notebook 09 does.
"""

# ruff: noqa: F403
from fedtutor.topics.robustness.attacks import *
from fedtutor.topics.robustness.compression import *
from fedtutor.topics.robustness.defences import *
from fedtutor.topics.robustness.fairness import *
