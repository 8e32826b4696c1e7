"""Wrong answers to the exercises of trouble_and_cost; each must earn a hint of its own."""

from __future__ import annotations

import numpy as np
from wrong import wrong


@wrong("11.1")
def plain_mean(updates, cut):
    return np.mean(updates, axis=0)


@wrong("11.1")
def top_only(updates, cut):
    return np.sort(np.stack(updates), axis=0)[: len(updates) - cut].mean(axis=0)


@wrong("11.1")
def first_and_last_in_the_list(updates, cut):
    return np.mean(updates[cut : len(updates) - cut], axis=0)


@wrong("11.1")
def whole_hospitals(updates, cut):
    order = np.argsort([np.linalg.norm(update) for update in updates])
    return np.mean([updates[k] for k in order[cut : len(updates) - cut]], axis=0)


@wrong("11.1")
def all_numbers_in_one_heap(updates, cut):
    return np.sort(np.ravel(updates))[cut : np.size(updates) - cut].mean()


@wrong("11.1")
def always_the_median(updates, cut):
    return np.median(updates, axis=0)


@wrong("11.1")
def empty_without_a_cut(updates, cut):
    return np.sort(np.stack(updates), axis=0)[cut : -cut or len(updates) - 1].mean(axis=0)


@wrong("11.1")
def clipped_to_the_ends(updates, cut):
    stack = np.stack(updates)
    ordered = np.sort(stack, axis=0)
    return np.clip(stack, ordered[cut], ordered[len(updates) - 1 - cut]).mean(axis=0)


@wrong("11.2")
def with_the_target_itself(probabilities, labels, target):
    return (probabilities.argmax(axis=1) == target).mean()


@wrong("11.2")
def how_many(probabilities, labels, target):
    return (probabilities[labels != target].argmax(axis=1) == target).sum()


@wrong("11.2")
def any_mistake(probabilities, labels, target):
    others = labels != target
    return (probabilities[others].argmax(axis=1) != labels[others]).mean()


@wrong("11.2")
def recall_of_the_target(probabilities, labels, target):
    return (probabilities[labels == target].argmax(axis=1) == target).mean()


@wrong("11.2")
def divided_by_all(probabilities, labels, target):
    return ((probabilities.argmax(axis=1) == target) & (labels != target)).mean()


@wrong("11.2")
def mean_probability(probabilities, labels, target):
    return probabilities[labels != target, target].mean()


@wrong("11.2")
def always_class_two(probabilities, labels, target):
    return (probabilities[labels != 2].argmax(axis=1) == 2).mean()


@wrong("11.2")
def each_image(probabilities, labels, target):
    return probabilities[labels != target].argmax(axis=1) == target


def _top(values: np.ndarray, order: np.ndarray, k: int) -> np.ndarray:
    sent = np.zeros_like(values)
    sent[np.argsort(order)[-k:]] = values[np.argsort(order)[-k:]]
    return sent


@wrong("11.3")
def without_the_memory(update, memory, k):
    sent = _top(update, np.abs(update), k)
    return sent, update - sent


@wrong("11.3")
def memory_added_too_late(update, memory, k):
    sent = _top(update, np.abs(update), k)
    return sent, memory + update - sent


@wrong("11.3")
def largest_and_not_by_size(update, memory, k):
    wanted = update + memory
    sent = _top(wanted, wanted, k)
    return sent, wanted - sent


@wrong("11.3")
def the_smallest(update, memory, k):
    wanted = update + memory
    sent = _top(wanted, -np.abs(wanted), k)
    return sent, wanted - sent


@wrong("11.3")
def the_update_s_numbers(update, memory, k):
    wanted = update + memory
    sent = np.where(_top(wanted, np.abs(wanted), k) != 0, update, 0)
    return sent, wanted - sent


@wrong("11.3")
def memory_of_the_update_only(update, memory, k):
    wanted = update + memory
    sent = _top(wanted, np.abs(wanted), k)
    return sent, update - sent


@wrong("11.3")
def forgets(update, memory, k):
    wanted = update + memory
    return _top(wanted, np.abs(wanted), k), np.zeros_like(update)


@wrong("11.3")
def written_into(update, memory, k):
    update += memory
    sent = _top(update, np.abs(update), k)
    return sent, update - sent


@wrong("11.3")
def only_the_chosen(update, memory, k):
    wanted = update + memory
    places = np.argsort(np.abs(wanted))[-k:]
    return wanted[places], np.delete(wanted, places)


@wrong("11.3")
def always_two(update, memory, k):
    wanted = update + memory
    sent = _top(wanted, np.abs(wanted), 2)
    return sent, wanted - sent


@wrong("11.3")
def only_what_is_sent(update, memory, k):
    wanted = update + memory
    return _top(wanted, np.abs(wanted), k)
