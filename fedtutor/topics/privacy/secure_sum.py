"""Secure aggregation by hand: the server learns the sum of the updates and none of them.

Bonawitz et al. 2017, "Practical secure aggregation for privacy-preserving machine learning",
figure 4, against a server that keeps to the protocol and is curious. Each :class:`Party` does four
things, in order: ``public_keys``, ``shares`` (of two secrets, the seed of its self-mask and its
masking key), ``masked``, and ``reveal``, which of every party opens only *one* of the two secrets.

Left out are the signatures of the paper's rounds 0 and 3, by which parties make sure that all of
them were told the same list of names: without these a server that lies can unmask an update.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from os import urandom

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


def pairwise_mask(
    number: int, private: X25519PrivateKey, keys: Mapping[int, PublicKeys], size: int
) -> np.ndarray:
    """Sum up a party's masks with all others, uint64 (size,).

    Of each pair the party with the lower number adds the common mask and the other takes it
    off, so that over all parties nothing is left (Bonawitz et al. 2017, section 4).
    """
    total = np.zeros(size, np.uint64)
    for other in sorted(keys):
        if other != number:
            common = mask(shared_seed(private, keys[other].masking, b"mask"), size)
            total = total + common if number < other else total - common
    return total


def split_secret(secret: bytes, holders: Sequence[int], threshold: int) -> dict[int, bytes]:
    """Share a 32-byte secret: any ``threshold`` of the shares give it, fewer say nothing.

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
    drawn = [urandom(FIELD_BYTES + 16) for _ in range(threshold - 1)]
    coefficients = [int.from_bytes(number, "big") % PRIME for number in (secret, *drawn)]
    values = {
        x: sum(c * pow(x, k, PRIME) for k, c in enumerate(coefficients)) % PRIME for x in holders
    }
    return {x: value.to_bytes(FIELD_BYTES, "big") for x, value in values.items()}


def recover_secret(shares: Mapping[int, bytes]) -> bytes:
    """Recover the secret of at least ``threshold`` shares, by Lagrange's interpolation at 0.

    Raises
    ------
    FederationError
        If the shares are too few or do not belong together, as far as one can tell: the value is
        then nearly always too large for a secret.
    """
    total = 0
    for x, share in shares.items():
        weight = prod(k * pow(k - x, -1, PRIME) for k in shares if k != x)
        total = (total + int.from_bytes(share, "big") * weight) % PRIME
    if total >= 2 ** (8 * SECRET_BYTES):
        raise FederationError(
            f"{len(shares)} shares give no secret: too few of them, or of different secrets."
        )
    return total.to_bytes(SECRET_BYTES, "big")


@dataclass(frozen=True)
class PublicKeys:
    """What a party publishes: one key for masks, one for the letters between parties."""

    masking: bytes
    letters: bytes


class Party:
    """One hospital in one secure sum; its secrets are used once.

    Parameters
    ----------
    number : 1 or more, different for every party.
    threshold : how many must be there at the end; more than half of all.
    """

    def __init__(self, number: int, threshold: int) -> None:
        self.number = number
        self._threshold = threshold
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
        seeds, masking_keys = (split_secret(one, numbers, self._threshold) for one in secrets)
        letters = {k: seeds[k] + masking_keys[k] for k in numbers}
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
        pairwise = pairwise_mask(self.number, self._masking_key, self._keys, vector.size)
        return vector + mask(self._self_seed, vector.size) + pairwise

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


def unmask(
    masked: Mapping[int, np.ndarray],
    keys: Mapping[int, PublicKeys],
    revealed: Mapping[int, Mapping[int, bytes]],
) -> np.ndarray:
    """Open the sum over the parties in ``masked``, uint64 (size,), modulo 2**64: the last step.

    Takes off each survivor's self-mask, and of each missing party the masks it has in common with
    the survivors, which had nothing to cancel with. ``revealed`` is what each party handed out.

    Raises
    ------
    FederationError
        If the shares are too few to recover a secret, or if a vector is of another size than the
        others, or of a party without keys.
    """
    sizes = {number: vector.size for number, vector in masked.items()}
    if not set(sizes) <= set(keys) or len(set(sizes.values())) != 1:
        raise FederationError(
            f"vectors of {sizes} numbers by party, for parties {sorted(keys)}; give vectors of one "
            "size, of parties in this round only."
        )
    total = sum(masked.values(), np.zeros(next(iter(sizes.values())), np.uint64))
    present = {number: keys[number] for number in masked}
    for number in keys:
        secret = recover_secret({k: shares[number] for k, shares in revealed.items()})
        if number in masked:
            total -= mask(secret, total.size)
        else:
            private = X25519PrivateKey.from_private_bytes(secret)
            total += pairwise_mask(number, private, present, total.size)
    return total


def secure_sum(
    vectors: Mapping[int, np.ndarray], *, threshold: int, missing: Collection[int] = ()
) -> np.ndarray:
    """Take all four steps in one process: the sum over the parties who are not missing.

    Parameters
    ----------
    vectors : from a party's number, from 1 on, to its uint64 vector; all of one size.
    threshold : see :class:`Party`.
    missing : parties that fail after they have shared their secrets and before they send.

    Returns
    -------
    uint64 (size,), exactly the plain sum modulo 2**64; refused with fewer left than the threshold,
    with vectors of different sizes, or if somebody is missing who has no vector.
    """
    if unknown := set(missing) - set(vectors):
        raise FederationError(f"missing parties {sorted(unknown)} are not among {sorted(vectors)}.")
    parties = open_round(list(vectors), threshold)
    masked = {k: p.masked(vectors[k]) for k, p in parties.items() if k not in missing}
    keys = {k: p.public_keys() for k, p in parties.items()}
    revealed = {k: parties[k].reveal(set(masked)) for k in masked}
    return unmask(masked, keys, revealed)


def open_round(numbers: Sequence[int], threshold: int) -> dict[int, Party]:
    """Return parties by number that have exchanged keys and shares and are ready to mask."""
    parties = {number: Party(number, threshold) for number in numbers}
    keys = {number: party.public_keys() for number, party in parties.items()}
    letters = {number: party.shares(keys) for number, party in parties.items()}
    for number, party in parties.items():
        party.receive({sender: letters[sender][number] for sender in parties})
    return parties
