"""What notebook 03 is built on; its exercises are tested in test_exercises.py."""

from __future__ import annotations

from fedtutor.course.lessons.hospitals_non_iid import SMALLEST_ALPHA, deals


def test_the_alpha_of_the_study_is_the_first_at_which_no_hospital_lacks_a_class():
    tenths = [k / 10 for k in range(1, 30)]
    assert next(alpha for alpha in tenths if deals(alpha).all()) == SMALLEST_ALPHA
