"""Wrong answers to the exercises of algorithms; each must earn a hint of its own."""

from __future__ import annotations

import numpy as np
from wrong import wrong, wrong_value


def _rounds(step, renew):
    """A hospital's round with this direction of a step and this renewal of its own direction."""

    def answer(weights, own, common, gradient, num_steps, learning_rate):
        trained = weights
        for _ in range(num_steps):
            trained = trained - step(gradient(trained), own, common, learning_rate)
        way = (weights - trained) / (num_steps * learning_rate)
        return trained, renew(own, common, way, num_steps, learning_rate)

    return answer


def _right_step(g, own, common, rate):
    return rate * (g - own + common)


def _right_renewal(own, common, way, steps, rate):
    return own - common + way


STEPS = {
    "plain": lambda g, own, common, rate: rate * g,
    "the_wrong_way": lambda g, own, common, rate: rate * (g + own - common),
    "outside_the_brackets": lambda g, own, common, rate: rate * g - own + common,
    "nothing_in_its_place": lambda g, own, common, rate: rate * (g - own),
    "own_still_there": lambda g, own, common, rate: rate * (g + common),
    "uphill": lambda g, own, common, rate: -rate * (g - own + common),
}
RENEWALS = {
    "never_renewed": lambda own, common, way, steps, rate: own,
    "still_corrected": lambda own, common, way, steps, rate: way,
    "common_still_there": lambda own, common, way, steps, rate: own + way,
    "signs_swapped": lambda own, common, way, steps, rate: common - own + way,
    "the_sum": lambda own, common, way, steps, rate: own - common + way * steps,
    "the_way_of_a_step": lambda own, common, way, steps, rate: own - common + way * rate,
    "three_tenths": lambda own, common, way, steps, rate: own - common + way * steps * rate / 0.3,
    "the_other_way": lambda own, common, way, steps, rate: own - common - way,
}
for name, step in STEPS.items():
    wrong_value("12.1", name, _rounds(step, _right_renewal))
for name, renewal in RENEWALS.items():
    wrong_value("12.1", name, _rounds(_right_step, renewal))


@wrong("12.1")
def in_place(weights, own, common, gradient, num_steps, learning_rate):
    start = weights.copy()
    for _ in range(num_steps):
        weights -= learning_rate * (gradient(weights) - own + common)
    return weights, own - common + (start - weights) / (num_steps * learning_rate)


@wrong("12.1")
def only_trained(weights, own, common, gradient, num_steps, learning_rate):
    for _ in range(num_steps):
        weights = weights - learning_rate * (gradient(weights) - own + common)
    return weights


@wrong("12.1")
def always_at_the_start(weights, own, common, gradient, num_steps, learning_rate):
    trained = weights
    for _ in range(num_steps):
        trained = trained - learning_rate * (gradient(weights) - own + common)
    return trained, own - common + (weights - trained) / (num_steps * learning_rate)


@wrong("12.1")
def one_step(weights, own, common, gradient, num_steps, learning_rate):
    trained = weights - learning_rate * (gradient(weights) - own + common)
    return trained, own - common + (weights - trained) / learning_rate


@wrong("12.1")
def last_gradient(weights, own, common, gradient, num_steps, learning_rate):
    for _ in range(num_steps):
        last = gradient(weights)
        weights = weights - learning_rate * (last - own + common)
    return weights, last


def _server(update=1.0, of=None, squared=True, begin=0, root=True, sign=1):
    def answer(model, mean, momentum, spread, eta):
        delta = of(model, mean) if of else update * (mean - model)
        momentum = 0.9 * momentum + 0.1 * delta
        spread = 0.99 * spread + 0.01 * (delta**2 if squared else delta)
        under = np.sqrt(np.abs(spread)) if root else spread
        first = mean if begin else model
        return first + sign * eta * momentum / (under + 1e-3), momentum, spread

    return answer


wrong_value("12.2", "backwards_update", _server(update=-1.0))
wrong_value("12.2", "momentum_of_models", _server(of=lambda model, mean: mean))
wrong_value("12.2", "momentum_swapped", _server(update=9.0))
wrong_value("12.2", "not_squared", _server(squared=False))
wrong_value("12.2", "from_the_mean", _server(begin=1))
wrong_value("12.2", "no_root", _server(root=False))
wrong_value("12.2", "minus", _server(sign=-1))


@wrong("12.2")
def model_only(model, mean, momentum, spread, eta):
    return _server()(model, mean, momentum, spread, eta)[0]


@wrong("12.2")
def momentum_in_place(model, mean, momentum, spread, eta):
    momentum *= 0.9
    momentum += 0.1 * (mean - model)
    spread = 0.99 * spread + 0.01 * (mean - model) ** 2
    return model + eta * momentum / (np.sqrt(spread) + 1e-3), momentum, spread


@wrong("12.2")
def old_momentum(model, mean, momentum, spread, eta):
    _, new, spread = _server()(model, mean, momentum, spread, eta)
    return model + eta * momentum / (np.sqrt(spread) + 1e-3), new, spread


@wrong("12.2")
def always_three_tenths(model, mean, momentum, spread, eta):
    return _server()(model, mean, momentum, spread, 0.3)


def _rows(values):
    return values / values.sum(axis=1, keepdims=True)


wrong_value("12.3", "as_they_came", lambda p, own, common: p)
wrong_value("12.3", "no_sum", lambda p, own, common: p * own / common)
wrong_value("12.3", "turned_round", lambda p, own, common: _rows(p * common / own))
wrong_value("12.3", "common_still_there", lambda p, own, common: _rows(p * own))
wrong_value(
    "12.3", "sum_of_all", lambda p, own, common: p * own / common / (p * own / common).sum()
)
wrong_value(
    "12.3", "sum_of_columns", lambda p, own, common: p * own / common / (p * own / common).sum(0)
)
wrong_value("12.3", "added", lambda p, own, common: _rows(p + own - common))
wrong_value("12.3", "labels_only", lambda p, own, common: p.argmax(axis=1))
wrong_value("12.3", "fixed_mixture", lambda p, own, common: _rows(p * [0.4, 2 / 3, 3]))
