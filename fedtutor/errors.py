"""Errors a person can act on: what came, what is allowed, what to do next."""


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
