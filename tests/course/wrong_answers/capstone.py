"""Wrong answers to the exercises of the capstone; each must earn a hint of its own."""

from __future__ import annotations

import hashlib
import json

import numpy as np
from wrong import wrong

from fedtutor.course.lessons.capstone import share_by_hospital, verdict_of


def _sha(text):
    return hashlib.sha256(text.encode())


@wrong("14.1")
def pythons_own_hash(plan):
    return hash(json.dumps(plan, sort_keys=True))


@wrong("14.1")
def keys_as_they_come(plan):
    return _sha(json.dumps(plan)).hexdigest()


@wrong("14.1")
def the_keys_only(plan):
    return _sha(json.dumps(sorted(plan))).hexdigest()


@wrong("14.1")
def another_hash(plan):
    return hashlib.md5(json.dumps(plan, sort_keys=True).encode()).hexdigest()


@wrong("14.1")
def the_plan_with_its_keys_in_order_as_python_shows_it(plan):
    return _sha(str(sorted(plan.items()))).hexdigest()


@wrong("14.2")
def the_share_of_all(train_hospital, train_ill, test_hospital):
    return np.full(len(test_hospital), train_ill.mean())


@wrong("14.2")
def how_many_are_ill(train_hospital, train_ill, test_hospital):
    return np.array([train_ill[train_hospital == h].sum() for h in test_hospital])


@wrong("14.2")
def how_large_the_hospital_is(train_hospital, train_ill, test_hospital):
    return np.array([(train_hospital == h).mean() for h in test_hospital])


@wrong("14.2")
def the_well(train_hospital, train_ill, test_hospital):
    return 1 - share_by_hospital(train_hospital, train_ill, test_hospital)


@wrong("14.2")
def ill_or_well(train_hospital, train_ill, test_hospital):
    return (share_by_hospital(train_hospital, train_ill, test_hospital) > 0.5).astype(float)


@wrong("14.2")
def by_position(train_hospital, train_ill, test_hospital):
    return train_ill[: len(test_hospital)].astype(float)


@wrong("14.2")
def nothing_for_a_new_hospital(train_hospital, train_ill, test_hospital):
    known = np.isin(test_hospital, train_hospital)
    return np.where(known, share_by_hospital(train_hospital, train_ill, test_hospital), 0)


@wrong("14.2")
def nan_for_a_new_hospital(train_hospital, train_ill, test_hospital):
    known = np.isin(test_hospital, train_hospital)
    return np.where(known, share_by_hospital(train_hospital, train_ill, test_hospital), np.nan)


@wrong("14.2")
def one_number(train_hospital, train_ill, test_hospital):
    return train_ill.mean()


@wrong("14.3")
def sure_is_enough(low, high, least):
    return "useful gain" if low > 0 else verdict_of(low, high, least)


@wrong("14.3")
def by_the_middle(low, high, least):
    middle = (low + high) / 2
    return "useful gain" if middle >= least else verdict_of(low, high, least)


@wrong("14.3")
def nothing_is_ever_too_small(low, high, least):
    found = verdict_of(low, high, least)
    return "cannot tell" if found == "no useful gain" else found


@wrong("14.3")
def losses_are_no_gains(low, high, least):
    return "no useful gain" if high < least else verdict_of(low, high, least)


@wrong("14.3")
def what_is_missing_loses(low, high, least):
    return "loses" if not high > -least else verdict_of(low, high, least)


@wrong("14.3")
def a_loss_however_small(low, high, least):
    return "loses" if high < 0 else verdict_of(low, high, least)


@wrong("14.3")
def above_and_not_at(low, high, least):
    return "cannot tell" if low == least else verdict_of(low, high, least)


@wrong("14.3")
def yes_and_no(low, high, least):
    return low >= least


@wrong("14.3")
def a_written_number(low, high, least):
    return verdict_of(low, high, 0.02)


@wrong("14.3")
def upside_down(low, high, least):
    return {"useful gain": "loses", "loses": "useful gain"}.get(
        found := verdict_of(low, high, least), found
    )
