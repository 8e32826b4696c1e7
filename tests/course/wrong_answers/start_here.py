"""Wrong answers to the exercises of start_here; each must earn a hint of its own."""

from __future__ import annotations

from wrong import wrong, wrong_value

wrong_value("00.1", "every image", 1498)
wrong_value("00.1", "one from each hospital", 5)
wrong_value("00.1", "in words", "none")
wrong_value("00.1", "less than nothing", -1)


@wrong("00.2")
def the_gain_itself(alone, federated, pooled):
    return federated - alone


@wrong("00.2")
def ratio_to_pooled(alone, federated, pooled):
    return federated / pooled


@wrong("00.2")
def what_is_left(alone, federated, pooled):
    return (pooled - federated) / (pooled - alone)


@wrong("00.2")
def in_per_cent(alone, federated, pooled):
    return 100 * (federated - alone) / (pooled - alone)


@wrong("00.2")
def ratio_to_alone(alone, federated, pooled):
    return federated / alone


@wrong("00.2")
def never_negative(alone, federated, pooled):
    return max(0.0, (federated - alone) / (pooled - alone))


@wrong("00.2")
def a_fixed_number(alone, federated, pooled):
    return 0.75
