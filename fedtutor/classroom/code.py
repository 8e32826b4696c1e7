"""The code of a class: short enough to read off a wall, and what both sides prove with it.

A code has nine random signs of 31, so 2**44 possibilities, and a tenth that shows a typing error. A
few signs of a certificate's fingerprint could be met by trying certificates; so the code does not
hold any. It is a secret from which, slowly, a key is made together with the host's certificate, and
each side shows the other that it has that key (HMAC, RFC 2104) without sending it. Another machine
cannot show it, with whatever certificate; and who listens can only try all codes, at 16 MB of
memory each (scrypt, RFC 7914).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from functools import lru_cache

from fedtutor.errors import FederationError

SIGNS = "123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Digits and letters but 0, I, L, O and U; 31, a prime, so that the check finds what it should."""
LENGTH = 10


def new_code() -> str:
    """Return a code that nobody can guess."""
    values = [secrets.randbelow(len(SIGNS)) for _ in range(LENGTH - 1)]
    total = sum(k * value for k, value in enumerate(values, start=1))
    last = -total * pow(LENGTH, -1, len(SIGNS)) % len(SIGNS)
    return "".join(SIGNS[value] for value in (*values, last))


def read_code(text: str) -> str:
    """Return a code as it was made from what somebody has typed, in any case, with or without "-".

    Raises :class:`FederationError` for what cannot be one: one wrong sign, or two neighbours that
    have changed places, are always found.
    """
    code = "".join(text.upper().split()).replace("-", "")
    if strange := [sign for sign in code if sign not in SIGNS]:
        raise FederationError(
            f"the code {text!r} has {strange[0]!r} in it; a code has the digits 1 to 9 and letters "
            "but I, L, O and U. Look at the board again."
        )
    if len(code) != LENGTH:
        raise FederationError(f"a code has {LENGTH} signs, like {show(new_code())}; got {text!r}.")
    if sum(k * SIGNS.index(sign) for k, sign in enumerate(code, start=1)) % len(SIGNS):
        raise FederationError(f"the code {text!r} is mistyped somewhere; look at the board again.")
    return code


def show(code: str) -> str:
    """Return the code in two halves, as people read it."""
    return f"{code[:5]}-{code[5:]}"


@lru_cache(maxsize=4)
def key_of(code: str, authority: bytes) -> bytes:
    """Return the key that a code and the certificate of the class's authority (DER) give."""
    salt = hashlib.sha256(b"fedtutor class" + authority).digest()
    return hashlib.scrypt(code.encode(), salt=salt, n=2**14, r=8, p=1, dklen=32)


def proof(key: bytes, who: str, *parts: str) -> str:
    """Return what only someone with the key can say of the parts; ``who`` is "desk" or "laptop"."""
    content = b"".join(len(part.encode()).to_bytes(4) + part.encode() for part in (who, *parts))
    return hmac.new(key, content, hashlib.sha256).hexdigest()


def is_proof(said: str, key: bytes, who: str, *parts: str) -> bool:
    """Return whether ``said`` is that, in the same time whatever was said."""
    return hmac.compare_digest(said.encode(), proof(key, who, *parts).encode())
