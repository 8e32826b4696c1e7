"""Wrong answers to the exercises of algorithms; each must earn a hint of its own."""

from __future__ import annotations

from wrong import wrong, wrong_value

from fedtutor.course.lessons.algorithms import OF_BATCH_NORM


@wrong("12.1")
def plain_step(weights, gradient, common, own, learning_rate):
    return weights - learning_rate * gradient


@wrong("12.1")
def the_wrong_way(weights, gradient, common, own, learning_rate):
    return weights - learning_rate * (gradient + own - common)


@wrong("12.1")
def outside_the_brackets(weights, gradient, common, own, learning_rate):
    return weights - learning_rate * gradient - own + common


@wrong("12.1")
def nothing_in_its_place(weights, gradient, common, own, learning_rate):
    return weights - learning_rate * (gradient - own)


@wrong("12.1")
def own_still_there(weights, gradient, common, own, learning_rate):
    return weights - learning_rate * (gradient + common)


@wrong("12.1")
def uphill(weights, gradient, common, own, learning_rate):
    return weights + learning_rate * (gradient - own + common)


@wrong("12.1")
def in_place(weights, gradient, common, own, learning_rate):
    weights -= learning_rate * (gradient - own + common)
    return weights


@wrong("12.1")
def one_number(weights, gradient, common, own, learning_rate):
    return float((weights - learning_rate * (gradient - own + common)).sum())


@wrong("12.2")
def the_other_way(own, common, sent, trained, num_steps, learning_rate):
    return own - common + (trained - sent) / (num_steps * learning_rate)


@wrong("12.2")
def still_corrected(own, common, sent, trained, num_steps, learning_rate):
    return (sent - trained) / (num_steps * learning_rate)


@wrong("12.2")
def the_sum(own, common, sent, trained, num_steps, learning_rate):
    return own - common + (sent - trained) / learning_rate


@wrong("12.2")
def the_way_of_a_step(own, common, sent, trained, num_steps, learning_rate):
    return own - common + (sent - trained) / num_steps


@wrong("12.2")
def the_whole_way(own, common, sent, trained, num_steps, learning_rate):
    return own - common + (sent - trained)


@wrong("12.2")
def common_still_there(own, common, sent, trained, num_steps, learning_rate):
    return own + (sent - trained) / (num_steps * learning_rate)


@wrong("12.2")
def signs_swapped(own, common, sent, trained, num_steps, learning_rate):
    return common - own + (sent - trained) / (num_steps * learning_rate)


@wrong("12.2")
def three_tenths(own, common, sent, trained, num_steps, learning_rate):
    return own - common + (sent - trained) / 0.3


wrong_value("12.4", "statistics_only", lambda names: _where(names, "moving"))
wrong_value("12.4", "affine_only", lambda names: [*_where(names, "gamma"), *_where(names, "beta")])
wrong_value(
    "12.4", "what_travels", lambda names: [k for k in range(len(names)) if "norm" not in names[k]]
)
wrong_value("12.4", "everything", lambda names: list(range(len(names))))
wrong_value("12.4", "names_not_places", lambda names: [n for n in names if "norm" in n])
wrong_value("12.4", "fixed_places", lambda names: [2, 3, 4, 5])
wrong_value("12.4", "mean_only", lambda names: _where(names, "moving_mean"))
wrong_value(
    "12.4", "the_first_of_each", lambda names: [names.index(name) for name in OF_BATCH_NORM]
)


def _where(names: list[str], part: str) -> list[int]:
    return [k for k, name in enumerate(names) if part in name]


def _around(values, half) -> tuple[float, float]:
    return values.mean() - half, values.mean() + half


wrong_value("12.3", "as_for_many", lambda v: _around(v, 1.96 * v.std(ddof=1) / len(v) ** 0.5))
wrong_value("12.3", "as_for_many_and_n", lambda v: _around(v, 1.96 * v.std() / len(v) ** 0.5))
wrong_value("12.3", "divided_by_n", lambda v: _around(v, 4.30 * v.std() / len(v) ** 0.5))
wrong_value("12.3", "of_one_seed", lambda v: _around(v, 4.30 * v.std(ddof=1)))
wrong_value("12.3", "no_root", lambda v: _around(v, 4.30 * v.std(ddof=1) / len(v)))
wrong_value("12.3", "one_error", lambda v: _around(v, v.std(ddof=1) / len(v) ** 0.5))
wrong_value("12.3", "always_430", lambda v: _around(v, 4.30 * v.std(ddof=1) / len(v) ** 0.5))
wrong_value("12.3", "smallest_and_largest", lambda v: (v.min(), v.max()))
wrong_value("12.3", "half_only", lambda v: 4.30 * v.std(ddof=1) / len(v) ** 0.5)
