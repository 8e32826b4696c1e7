"""The code of a class: what is read off a wall, and what both sides prove with it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedtutor.classroom.code import SIGNS, is_proof, key_of, new_code, proof, read_code, show
from fedtutor.errors import FederationError

CODES = st.builds(new_code)


def is_refused(text):
    try:
        read_code(text)
    except FederationError:
        return True
    return False


@given(CODES)
def test_a_code_is_read_as_it_was_made_however_it_is_typed(code):
    assert read_code(show(code)) == code
    assert read_code(f" {code[:3].lower()} {code[3:].lower()} ") == code


@given(CODES, st.data())
def test_one_wrong_sign_is_always_found(code, data):
    k = data.draw(st.integers(0, len(code) - 1))
    sign = data.draw(st.sampled_from(SIGNS.replace(code[k], "")))
    assert is_refused(code[:k] + sign + code[k + 1 :])


@given(CODES, st.data())
def test_neighbours_that_changed_places_are_always_found(code, data):
    k = data.draw(st.integers(0, len(code) - 2))
    swapped = code[:k] + code[k + 1] + code[k] + code[k + 2 :]
    assert swapped == code or is_refused(swapped)


def test_codes_differ():
    assert len({new_code() for _ in range(100)}) == 100


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("K7QF3-9MPX0", "'0' in it; a code has the digits 1 to 9"),
        ("K7QF3", "a code has 10 signs, like "),
        ("", "a code has 10 signs"),
    ],
)
def test_what_cannot_be_a_code_is_explained(text, words):
    with pytest.raises(FederationError, match=words):
        read_code(text)


@settings(max_examples=5, deadline=None)
@given(CODES, CODES)
def test_another_code_or_another_certificate_gives_another_key(code, other):
    key = key_of(code, b"certificate")
    assert key == key_of(code, b"certificate")
    assert key != key_of(code, b"another")
    assert code == other or key != key_of(other, b"certificate")


def test_a_proof_holds_for_its_side_and_its_parts_only():
    key = bytes(32)
    said = proof(key, "desk", "a", "bc")
    assert is_proof(said, key, "desk", "a", "bc")
    assert not is_proof(said, key, "laptop", "a", "bc")
    assert not is_proof(said, key, "desk", "ab", "c")
    assert not is_proof(said, bytes(31) + b"1", "desk", "a", "bc")
    assert not is_proof("ü", key, "desk", "a", "bc")
