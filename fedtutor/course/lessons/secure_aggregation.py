"""What notebook 10 checks: masks that cancel, Shamir's shares, and the secret from them."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from fedtutor.course.exercises import Answer, Wrong, exercise, other_case
from fedtutor.topics.privacy.secure_sum import PRIME, add_masks, mask, recover, split


@exercise(
    """10.1, masks that cancel
    More: for other, seed in seeds.items(): add mask(seed, len(vector)) if number < other, else
    subtract it; begin with a copy of the vector""",
    reference=add_masks,
)
def masks(masked: Answer) -> None:
    numbers, rng = (2, 5, 7, 11), np.random.default_rng(0)
    seeds = {  # one for each pair of parties, the same for both
        i: {j: bytes([min(i, j), max(i, j)]) * 16 for j in numbers if j != i} for i in numbers
    }
    vectors = {k: rng.integers(0, 2**40, 6, dtype=np.uint64) for k in numbers}
    given = {k: vector.copy() for k, vector in vectors.items()}
    got = {k: masked(given[k], k, dict(seeds[k])) for k in numbers}
    for k, vector in got.items():
        if getattr(vector, "dtype", None) != np.uint64 or vector.shape != (6,):
            raise Wrong("""A masked vector is a uint64 array like the vector; yours is not.
                Hint: floats lose digits, and then nothing cancels exactly.""")
        if np.array_equal(vector, vectors[k]):
            raise Wrong(f"""Party {k} sends its vector without any mask.
                Hint: one mask for each of the other parties in `seeds`.""")
    if any(not np.array_equal(given[k], vectors[k]) for k in numbers):
        raise Wrong("""The vector that your function was given has changed under its hands.
            Hint: `a += b` on an array changes the array itself; `a = a + b` makes a new one.""")
    total = sum(got.values(), np.zeros(6, np.uint64))
    if not total.any():
        raise Wrong("""The sum of your masked vectors is 0: the vectors are not in it.
            Hint: the mask comes on top of the vector.""")
    all_masks = {k: sum(mask(s, 6) for s in seeds[k].values()) for k in numbers}
    if all(np.array_equal(got[k] - vectors[k], all_masks[k]) for k in numbers):
        raise Wrong("""Everybody adds all of the masks, so that each mask is in the sum twice.
            Hint: of two parties one must add and the other subtract. Which one?""")
    if not np.array_equal(total, sum(vectors.values())):
        raise Wrong("""The masks do not cancel in the sum of the masked vectors.
            Hint: of each pair one adds the mask, one subtracts it. How do both know who?""")
    right = add_masks(vectors[2], 2, seeds[2])
    if np.array_equal(vectors[2] - got[2], right - vectors[2]):
        raise Wrong("""The masks cancel, but the lower number is to add them; yours subtracts.
            Hint: what if one hospital keeps to the agreement and another does not?""")
    if not np.array_equal(got[2], right):
        raise Wrong("""Party 2 does not share each of its masks: a few others can unmask it.
            Hint: a mask with every other party, not only with some.""")


@exercise(
    """10.2, Shamir's shares
    More: coefficients = [secret] and threshold - 1 times randbelow(PRIME); the share of x is the
    sum of c * x**k over k, c in enumerate(coefficients), % PRIME""",
    reference=split,
)
def shares_of_a_secret(shared: Answer) -> None:
    secret, holders, threshold = 2**200 + 7, [1, 2, 4, 7, 9], 3
    got, again = (shared(secret, list(holders), threshold) for _ in range(2))
    if not isinstance(got, dict) or sorted(got) != holders:
        raise Wrong("""Give back a dict with one share for each of the holders, by their numbers.
            Hint: {x: ... for x in holders}""")
    if not all(isinstance(share, int) and 0 <= share < PRIME for share in got.values()):
        raise Wrong("""A share is a whole number from 0 to PRIME - 1, and not all of yours are.
            Hint: take the remainder, % PRIME, and no floats.""")
    if secret in got.values():
        raise Wrong("""Somebody has been handed the secret itself.
            Hint: the holder's own number is the x, and no holder has number 0.""")
    if got == again:
        raise Wrong("""Sharing twice gives the same shares: your polynomial is not drawn at random.
            Hint: randbelow(PRIME) draws a coefficient; draw new ones in every call.""")
    if any(recover(_some(got, few)) == secret for few in combinations(holders, threshold - 1)):
        raise Wrong(f"""With a threshold of {threshold}, {threshold - 1} shares give the secret.
            Hint: a straight line is known from two points. How many random coefficients?""")
    if any(recover(_some(got, few)) != secret for few in combinations(holders, threshold)):
        raise Wrong(f"""{threshold} shares do not give the secret back.
            Hint: the secret is the value at 0, and there are `threshold` coefficients in all.""")
    if max(got.values()) < 2**400:
        raise Wrong("""Your coefficients are small, and whoever has a share can try them all.
            Hint: any number below PRIME must be equally likely.""")
    more = shared(5, [3, 6, 8, 12], 4)
    other_case(recover(more) == 5 != recover(_some(more, (3, 6, 8))))


def _some(shares: dict[int, int], holders: tuple[int, ...]) -> dict[int, int]:
    return {x: shares[x] for x in holders}


@exercise(
    """10.3, the secret from the shares
    More: for x in shares: weight = 1, then for each other k: weight = weight * k * pow(k - x, -1,
    PRIME); add up shares[x] * weight, all % PRIME""",
    reference=recover,
)
def secret_from_shares(recovered: Answer) -> None:
    shares = {1: 16, 3: 46}  # 1 + 15x
    got = recovered(dict(shares))
    if not isinstance(got, int):
        raise Wrong(f"""The secret is a whole number; yours is a {type(got).__name__}.
            Hint: do not divide with `/`; multiply by pow(k - x, -1, PRIME).""")
    if got == 62:
        raise Wrong("""You have added up the shares.
            Hint: each share is multiplied by a weight of its own first.""")
    if got == 0:
        raise Wrong("""Your secret is 0, whatever the shares.
            Hint: leave out k = x in the product, or one factor in it is 0.""")
    if got % PRIME == 1 != got:
        raise Wrong("""It is the secret but for a multiple of PRIME.
            Hint: take the remainder at the end, % PRIME.""")
    if got != 1:
        raise Wrong("""On a line with 16 at 1 and 46 at 3 the value at 0 is 1; yours is another.
            Hint: is the sign right? The weight of 16 is 3 / (3 - 1), that of 46 is 1 / (1 - 3).""")
    other_case(all(recovered(split(s, [2, 5, 6, 9], 3)) == s for s in (2**250 + 1, 3, 0)))
