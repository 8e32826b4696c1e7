"""Errors a person can act on: what came, what is allowed, what to do next."""

from numbers import Integral


def visible(text: str) -> str:
    r"""Return the text with all that cannot be seen written out, a line break as ``\n``.

    Such signs could move a terminal's cursor or turn the direction of writing. What means something
    to one medium only, as ``<``, ``[`` and ``$`` do, is left to that medium.
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class FedtutorError(Exception):
    """Bad input of any kind; the command prints its one line and ends with exit code 2."""


class DataError(FedtutorError, ValueError):
    """Images, labels or tables that cannot be used as they are."""


class PartitionError(FedtutorError, ValueError):
    """A split over hospitals that cannot exist."""


class UpdateError(FedtutorError, ValueError):
    """A hospital's update that must not enter the average."""


class FederationError(FedtutorError, RuntimeError):
    """A federated run that cannot go on."""


def check_whole(name: str, value: object, least: int, error: type[Exception] = DataError) -> None:
    """Raise an ``error`` unless ``value`` is a whole number of at least ``least``."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise error(f"{name} must be a whole number of at least {least}; got {value!r}.")
