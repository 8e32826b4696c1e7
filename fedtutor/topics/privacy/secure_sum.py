"""Secure aggregation by hand: the server learns the sum of the updates and none of them.

Bonawitz et al. 2017, "Practical secure aggregation for privacy-preserving machine learning",
figure 4, against a server that keeps to the protocol and is curious. Each :class:`Party` does four
things, in order: ``public_keys``, ``shares`` (of two secrets, the seed of its self-mask and its
masking key), ``masked``, and ``reveal``, which of every party opens only *one* of the two secrets.
The pairwise masks and Shamir's sharing are functions that it is given; by default those above it.
What the server does with the messages, :func:`open_secret` apart, is spelt out in notebook 10.

Left out are the signatures of the paper's rounds 0 and 3, by which parties make sure that all of
them were told the same list of names: without these a server that lies can unmask an update.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from os import urandom
from secrets import randbelow
from typing import TypeAlias

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedtutor.errors import FederationError, UpdateError
from fedtutor.model import Weights

FRACTION_BITS = 24
"""A weight is sent as the nearest multiple of 2**-24, as fine as float32 is just below 1."""

PRIME = 2**521 - 1
"""Shamir's field: a prime beyond any secret of 32 bytes."""

SECRET_BYTES = 32
FIELD_BYTES = 66

Masks: TypeAlias = Callable[[np.ndarray, int, Mapping[int, bytes]], np.ndarray]
Split: TypeAlias = Callable[[int, Sequence[int], int], Mapping[int, int]]


def encode(weights: Weights, *, parties: int = 1) -> np.ndarray:
    """Turn float arrays into fixed point: uint64 (size of all arrays), counted modulo 2**64.

    ``parties`` is how many such vectors will be added; their sum must not wrap around.

    Raises
    ------
    UpdateError
        For NaN, infinity, or a number so large that the sum could wrap around.
    """
    flat = np.concatenate([np.ravel(array) for array in weights]).astype(np.float64)
    most = 2.0 ** (63 - FRACTION_BITS) / parties
    if not (np.abs(flat) < most).all():  # also false for NaN
        raise UpdateError(
            f"fixed point takes finite numbers below {most:.3g} from {parties} parties; the "
            f"largest is {np.abs(flat).max():.3g}. Clip the update."
        )
    return np.rint(flat * 2.0**FRACTION_BITS).astype(np.int64).view(np.uint64)


def decode(total: np.ndarray, like: Weights) -> Weights:
    """Turn fixed point back into float64 arrays of the shapes of ``like``."""
    flat = total.view(np.int64) / 2.0**FRACTION_BITS
    ends = np.cumsum([array.size for array in like])
    pieces = np.split(flat, ends[:-1])
    return [piece.reshape(array.shape) for piece, array in zip(pieces, like, strict=True)]


def mask(seed: bytes, size: int) -> np.ndarray:
    """Return ChaCha20's key stream of a 32-byte seed, uint64 (size,): noise that two make alike."""
    stream = Cipher(ChaCha20(seed, bytes(16)), mode=None).encryptor().update(bytes(8 * size))
    return np.frombuffer(stream, "<u8").astype(np.uint64)


def shared_seed(private: X25519PrivateKey, public: bytes, purpose: bytes) -> bytes:
    """Return what only two parties can compute: X25519 (RFC 7748), then HKDF (RFC 5869)."""
    secret = private.exchange(X25519PublicKey.from_public_bytes(public))
    return HKDF(SHA256(), SECRET_BYTES, salt=None, info=b"fedtutor " + purpose).derive(secret)


def add_masks(vector: np.ndarray, number: int, seeds: Mapping[int, bytes]) -> np.ndarray:
    """Return the uint64 vector with a party's masks: one with each party of ``seeds``.

    Of each pair the party with the lower number adds the common mask and the other takes it
    off, so that over all parties nothing is left (Bonawitz et al. 2017, section 4).
    """
    for other, seed in seeds.items():
        common = mask(seed, vector.size)
        vector = vector + common if number < other else vector - common
    return vector


def split(secret: int, holders: Sequence[int], threshold: int) -> dict[int, int]:
    """Share a secret: any ``threshold`` of the shares give it, fewer say nothing.

    The secret is the value at 0 of a random polynomial of degree ``threshold - 1`` modulo
    :data:`PRIME`; a holder gets the value at its own number (Shamir 1979).

    Raises
    ------
    FederationError
        If there are fewer holders than the threshold, or two of one number.
    """
    if not 1 <= threshold <= len(set(holders)) == len(holders) or min(holders) < 1:
        raise FederationError(
            f"{len(holders)} holders and a threshold of {threshold}: the holders need different "
            "numbers from 1 on, and at least as many as the threshold."
        )
    coefficients = [secret, *(randbelow(PRIME) for _ in range(threshold - 1))]
    return {
        x: sum(c * pow(x, k, PRIME) for k, c in enumerate(coefficients)) % PRIME for x in holders
    }


def recover(shares: Mapping[int, int]) -> int:
    """Return the value at 0 of the polynomial through the shares, by Lagrange's interpolation.

    With at least ``threshold`` shares that is the secret; with fewer it says nothing about it.
    """
    weights = {x: prod(k * pow(k - x, -1, PRIME) for k in shares if k != x) for x in shares}
    return sum(value * weights[x] for x, value in shares.items()) % PRIME


def open_secret(shares: Mapping[int, bytes], recover: Callable = recover) -> bytes:
    """Recover a secret of 32 bytes from what parties have revealed.

    Raises
    ------
    FederationError
        If the shares are too few or do not belong together, as far as one can tell: the value is
        then nearly always too large for a secret.
    """
    value = recover({k: int.from_bytes(share, "big") for k, share in shares.items()})
    if value >= 2 ** (8 * SECRET_BYTES):
        raise FederationError(
            f"{len(shares)} shares give no secret: too few of them, or of different secrets."
        )
    return value.to_bytes(SECRET_BYTES, "big")


@dataclass(frozen=True)
class PublicKeys:
    """What a party publishes: one key for masks, one for the letters between parties."""

    masking: bytes
    letters: bytes


def mask_seeds(
    number: int, private: X25519PrivateKey, keys: Mapping[int, PublicKeys]
) -> dict[int, bytes]:
    """Return the seed that a party shares with each of the others, by their numbers."""
    return {k: shared_seed(private, keys[k].masking, b"mask") for k in keys if k != number}


class Party:
    """One hospital in one secure sum; its secrets are used once.

    Parameters
    ----------
    number : 1 or more, different for every party.
    threshold : how many must be there at the end; more than half of all.
    add_masks, split : what masks a vector and shares a secret, see the functions of these names.
    """

    def __init__(
        self, number: int, threshold: int, *, add_masks: Masks = add_masks, split: Split = split
    ) -> None:
        self.number, self._threshold = number, threshold
        self._add_masks, self._split = add_masks, split
        self._masking_key = X25519PrivateKey.from_private_bytes(urandom(SECRET_BYTES))
        self._letter_key = X25519PrivateKey.from_private_bytes(urandom(SECRET_BYTES))
        self._self_seed = urandom(SECRET_BYTES)
        self._keys: dict[int, PublicKeys] = {}
        self._letters: dict[int, bytes] = {}
        self._has_masked = self._has_revealed = False

    def public_keys(self) -> PublicKeys:
        """Return the two X25519 keys for everybody."""
        pair = (self._masking_key, self._letter_key)
        return PublicKeys(*(key.public_key().public_bytes_raw() for key in pair))

    def shares(self, keys: Mapping[int, PublicKeys]) -> dict[int, bytes]:
        """Write every party an encrypted letter with a share of each of the two secrets.

        Raises
        ------
        FederationError
            With too few parties: the threshold must be more than half of them, or else a server
            could ask one half for a party's self-mask and the other half for its masking key.
        """
        if not len(keys) // 2 < self._threshold <= len(keys):
            raise FederationError(
                f"a threshold of {self._threshold} of {len(keys)} parties; it must be more than "
                "half of them and at most all."
            )
        self._keys = dict(keys)
        numbers = sorted(keys)
        secrets = (self._self_seed, self._masking_key.private_bytes_raw())
        shared = [self._split(int.from_bytes(s, "big"), numbers, self._threshold) for s in secrets]
        letters = {k: b"".join(s[k].to_bytes(FIELD_BYTES, "big") for s in shared) for k in numbers}
        nonce = _nonce(self.number)
        return {k: self._cipher(k).encrypt(nonce, both, None) for k, both in letters.items()}

    def receive(self, letters: Mapping[int, bytes]) -> None:
        """Keep the letters of the others, still closed."""
        self._letters = dict(letters)

    def masked(self, vector: np.ndarray) -> np.ndarray:
        """Put the self-mask and the masks with all others on the vector, uint64 (size,).

        Refused a second time: under the same masks two vectors would give their difference away.
        """
        if self._has_masked:
            raise FederationError(f"party {self.number} has masked a vector already; begin anew.")
        self._has_masked = True
        seeds = mask_seeds(self.number, self._masking_key, self._keys)
        return self._add_masks(vector + mask(self._self_seed, vector.size), self.number, seeds)

    def reveal(self, survivors: Collection[int]) -> dict[int, bytes]:
        """Hand out one share of every party: of a survivor's self-mask, else of its masking key.

        Raises
        ------
        FederationError
            If fewer than the threshold survive, or when asked again: two answers could unmask.
        """
        if self._has_revealed:
            raise FederationError(f"party {self.number} has revealed its shares already.")
        if len(survivors) < self._threshold or not set(survivors) <= set(self._keys):
            raise FederationError(
                f"{len(survivors)} parties have sent their update and {self._threshold} are "
                "needed; the sum cannot be opened. Begin anew with those who are there."
            )
        self._has_revealed = True
        letters = self._letters.items()
        opened = {k: self._cipher(k).decrypt(_nonce(k), one, None) for k, one in letters}
        return {
            k: both[:FIELD_BYTES] if k in survivors else both[FIELD_BYTES:]
            for k, both in opened.items()
        }

    def _cipher(self, other: int) -> ChaCha20Poly1305:
        public = self._keys[other].letters
        return ChaCha20Poly1305(shared_seed(self._letter_key, public, b"letters"))


def _nonce(sender: int) -> bytes:
    """Return a nonce by the sender: a pair has one key, used once in each direction."""
    return sender.to_bytes(12, "big")
