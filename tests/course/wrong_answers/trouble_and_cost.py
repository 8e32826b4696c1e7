"""Wrong answers to the exercises of trouble_and_cost; each must earn a hint of its own."""

from __future__ import annotations

import numpy as np
from wrong import wrong


def _squared(updates: np.ndarray) -> np.ndarray:
    return ((updates[:, None] - updates) ** 2).sum(axis=2)


@wrong("11.1")
def oneself_is_a_neighbour(updates, liars):
    near = np.sort(_squared(updates), axis=1)
    return near[:, : len(updates) - liars - 2].sum(axis=1)


@wrong("11.1")
def without_the_square(updates, liars):
    near = np.sort(np.sqrt(_squared(updates)), axis=1)
    return near[:, 1 : len(updates) - liars - 1].sum(axis=1)


@wrong("11.1")
def the_farthest(updates, liars):
    near = np.sort(_squared(updates), axis=1)
    return near[:, liars + 2 :].sum(axis=1)


@wrong("11.1")
def all_the_others(updates, liars):
    return _squared(updates).sum(axis=1)


@wrong("11.1")
def one_neighbour_too_many(updates, liars):
    near = np.sort(_squared(updates), axis=1)
    return near[:, 1 : len(updates) - liars].sum(axis=1)


@wrong("11.1")
def from_the_mean(updates, liars):
    return ((updates - updates.mean(axis=0)) ** 2).sum(axis=1)


@wrong("11.1")
def from_the_global_model(updates, liars):
    return (updates**2).sum(axis=1)


@wrong("11.1")
def the_one_it_chooses(updates, liars):
    near = np.sort(_squared(updates), axis=1)
    return near[:, 1 : len(updates) - liars - 1].sum(axis=1).argmin()


@wrong("11.1")
def always_three(updates, liars):
    return np.sort(_squared(updates), axis=1)[:, 1:4].sum(axis=1)


@wrong("11.1")
def sorts_what_it_was_given(updates, liars):
    updates -= updates.mean(axis=0)
    near = np.sort(_squared(updates), axis=1)
    return near[:, 1 : len(updates) - liars - 1].sum(axis=1)


def _top(values: np.ndarray, order: np.ndarray, k: int) -> np.ndarray:
    sent = np.zeros_like(values)
    sent[np.argsort(order)[-k:]] = values[np.argsort(order)[-k:]]
    return sent


@wrong("11.2")
def without_the_memory(update, memory, k):
    sent = _top(update, np.abs(update), k)
    return sent, update - sent


@wrong("11.2")
def memory_added_too_late(update, memory, k):
    sent = _top(update, np.abs(update), k)
    return sent, memory + update - sent


@wrong("11.2")
def largest_and_not_by_size(update, memory, k):
    wanted = update + memory
    sent = _top(wanted, wanted, k)
    return sent, wanted - sent


@wrong("11.2")
def the_smallest(update, memory, k):
    wanted = update + memory
    sent = _top(wanted, -np.abs(wanted), k)
    return sent, wanted - sent


@wrong("11.2")
def the_update_s_numbers(update, memory, k):
    wanted = update + memory
    sent = np.where(_top(wanted, np.abs(wanted), k) != 0, update, 0)
    return sent, wanted - sent


@wrong("11.2")
def memory_of_the_update_only(update, memory, k):
    wanted = update + memory
    sent = _top(wanted, np.abs(wanted), k)
    return sent, update - sent


@wrong("11.2")
def forgets(update, memory, k):
    wanted = update + memory
    return _top(wanted, np.abs(wanted), k), np.zeros_like(update)


@wrong("11.2")
def written_into(update, memory, k):
    update += memory
    sent = _top(update, np.abs(update), k)
    return sent, update - sent


@wrong("11.2")
def only_the_chosen(update, memory, k):
    wanted = update + memory
    places = np.argsort(np.abs(wanted))[-k:]
    return wanted[places], np.delete(wanted, places)


@wrong("11.2")
def always_two(update, memory, k):
    wanted = update + memory
    sent = _top(wanted, np.abs(wanted), 2)
    return sent, wanted - sent


@wrong("11.2")
def only_what_is_sent(update, memory, k):
    wanted = update + memory
    return _top(wanted, np.abs(wanted), k)
