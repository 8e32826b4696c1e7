"""Wrong answers to the exercises of fedavg_by_hand; each must earn a hint of its own."""

from __future__ import annotations

from wrong import wrong

from fedtutor.aggregation import weighted_average


@wrong("04.1")
def plain_mean(weights, num_examples):
    return [sum(arrays) / len(arrays) for arrays in zip(*weights, strict=True)]


@wrong("04.1")
def divided_by_hospitals(weights, num_examples):
    return [20 * array for array in weighted_average(weights, num_examples)]


@wrong("04.1")
def not_divided(weights, num_examples):
    return [sum(num_examples) * array for array in weighted_average(weights, num_examples)]


@wrong("04.1")
def first_array_only(weights, num_examples):
    return weighted_average(weights, num_examples)[0]


@wrong("04.1")
def mean_of_all_numbers(weights, num_examples):
    return [array.mean() for array in weighted_average(weights, num_examples)]


@wrong("04.1")
def examples_the_wrong_way_round(weights, num_examples):
    return weighted_average(weights, num_examples[::-1])


@wrong("04.1")
def writes_over_a_hospital(weights, num_examples):
    total = weights[0]
    for array, new in zip(total, weighted_average(weights, num_examples), strict=True):
        array[:] = new
    return total


@wrong("04.2")
def one_after_the_other(global_weights, hospitals, train):
    updates = []
    for images in hospitals:
        global_weights = train(global_weights, images)
        updates.append(global_weights)
    return weighted_average(updates, [len(images) for images in hospitals])


@wrong("04.2")
def large_as_small(global_weights, hospitals, train):
    return weighted_average([train(global_weights, images) for images in hospitals], [1, 1])


@wrong("04.2")
def forgets_the_update(global_weights, hospitals, train):
    for images in hospitals:
        train(global_weights, images)
    return global_weights


@wrong("04.2")
def only_the_first(global_weights, hospitals, train):
    return train(global_weights, hospitals[0])


@wrong("04.2")
def averages_the_old_model_in(global_weights, hospitals, train):
    updates = [global_weights, *(train(global_weights, images) for images in hospitals)]
    return weighted_average(updates, [4, 2, 6])


@wrong("04.2")
def writes_over_the_model(global_weights, hospitals, train):
    updates = [train(global_weights, images) for images in hospitals]
    for array, new in zip(global_weights, weighted_average(updates, [2, 6]), strict=True):
        array[:] = new
    return global_weights
