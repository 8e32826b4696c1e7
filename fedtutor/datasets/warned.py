"""Warnings: collected for the report that they belong to, and printed."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from fedtutor.errors import visible
from fedtutor.images import MedicalImages, patients_of

FEW = 20
"""Of fewer patients, or images, each moves a share by more than 5 points."""

logger = logging.getLogger(__name__)


@contextmanager
def heard_warnings() -> Iterator[list[str]]:
    """Yield a list to which all is added that the package warns of in the block."""
    log, heard, printer = logging.getLogger("fedtutor"), list[str](), logging.StreamHandler()
    handled = log.hasHandlers()  # else Python prints warnings, but not beside a handler of ours

    def hear(record: logging.LogRecord) -> bool:
        record.msg, record.args = visible(record.getMessage()), ()
        heard.append(record.msg)
        return not handled

    printer.setLevel(logging.WARNING)
    printer.addFilter(hear)
    log.addHandler(printer)
    try:
        yield heard
    finally:
        log.removeHandler(printer)


def warn_of_small_test_set(test: MedicalImages, what: str = "The test set") -> None:
    """Warn of classes, or findings, of which a test set, called ``what``, has few patients."""
    patients, classes = patients_of(test), range(len(test.class_names))
    has = [test.labels[:, k] == 1 if test.multi_label else test.labels == k for k in classes]
    counts = {f"of {test.class_names[k]}": len(set(patients[has[k]])) for k in classes}
    whom = "patients" if "patient" in test.table.columns else "images"
    warn_if_few(f"{what} has few {whom}", counts)


def warn_if_few(what: str, counts: Mapping[str, int]) -> None:
    """Warn, after the words ``what``, of those counts that are below :data:`FEW`."""
    if few := ", ".join(f"{count} {name}" for name, count in counts.items() if count < FEW):
        logger.warning("%s: %s. Below %d, each moves a share by over 5 points.", what, few, FEW)
