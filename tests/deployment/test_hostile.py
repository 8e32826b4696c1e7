"""Over TLS two of three hospitals send what no honest one would, round by round."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from toy import PATTERN, start

from fedtutor.deployment.federation import LocalFederation

pytestmark = [pytest.mark.slow, pytest.mark.process]

LIES = """
import io

from flwr.app import Array, Error
from flwr.supercore.inflatable.inflatable_object import add_header_to_object_body


def with_data(data, dtype="float32"):
    def lie(reply, message):
        arrays = ArrayRecord()
        arrays["0"] = Array(dtype, (4, 16), "numpy.ndarray", data)
        reply.content["arrays"] = arrays
        return reply

    return lie


def zipped():
    file = io.BytesIO()
    np.savez(file, START[0])
    return file.getvalue()


def huge():
    text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000), }\\n"
    return b"\\x93NUMPY\\x01\\x00" + len(text).to_bytes(2, "little") + text + bytes(256)


def packed_wrongly(reply, message):
    class Garbled(Array):
        def deflate(self):
            return add_header_to_object_body(b"no JSON", self)

    Garbled.__qualname__ = "Array"
    reply.content["arrays"]["0"] = Garbled("float32", (4, 16), "numpy.ndarray", b"")
    return reply


def of_another(reply, message):
    class Forged(Message):
        def deflate(self):
            said, true = self.metadata.__dict__, dict(self.metadata.__dict__)
            said.update(_src_node_id=12345, _reply_to_message_id="0" * 64)
            try:
                return super().deflate()
            finally:
                said.update(true)

    Forged.__qualname__ = "Message"
    return Forged(reply.content, reply_to=message)


def with_metrics(**metrics):
    def lie(reply, message):
        metric_record = reply.content["metrics"]
        for key, value in metrics.items():
            metric_record[key.replace("_", "-")] = value
        return reply

    return lie


LIES |= {
    "no bytes": with_data(b""),
    "a zip": with_data(zipped()),
    "terabytes": with_data(huge()),
    "nonsense": with_data(START[0].tobytes(), "nonsense"),
    "packed wrongly": packed_wrongly,
    "of another": of_another,
    "blank": lambda reply, message: Message(Error(7, "  "), reply_to=message),
    "a list": with_metrics(num_examples=[10, 10]),
    "more": with_metrics(more=1.0, loss=[0.5]),
    "all images": with_metrics(num_examples=2**53),
}
"""
PLAN = {
    **{"South 0": "no name"},
    **{"South 1": "no bytes", "West 1": "a zip"},
    **{"South 2": "terabytes", "West 2": "packed wrongly"},
    **{"South 3": "nonsense", "West 3": "of another"},
    **{"South 4": "a list", "West 4": "blank"},
    **{"South 5": "more", "West 5": "all images"},
}


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    told = SimpleNamespace()
    folder = tmp_path_factory.mktemp("hostile")
    with LocalFederation(dict.fromkeys(["North", "South", "West"]), folder=folder) as federation:
        running = start(federation, PLAN, rounds=6, lies=LIES)
        running.wait()
        told.rounds = [event for event in running.events() if event["event"] == "round"]
        told.model = np.load(folder / "out" / "model.npy")
    return told


def test_the_run_goes_on_without_them_by_name(story):
    assert [event["names"][0] for event in story.rounds[1:]] == ["North"] * 6
    assert [len(event["names"]) for event in story.rounds[1:]] == [1, 1, 1, 1, 2, 3]
    for event in story.rounds[1:5]:
        west, south = sorted(event["left_out"], key=lambda out: out["hospital"])
        assert west["hospital"] == "West"
        assert south["hospital"].startswith("node ")
    assert [out["hospital"] for out in story.rounds[5]["left_out"]] == ["West"]
    assert story.rounds[6]["left_out"] == []
    np.testing.assert_allclose(story.model, PATTERN + 6, atol=1e-6)


def test_it_is_said_why_in_a_line_that_can_be_seen(story):
    reasons = [[out["reason"] for out in event["left_out"]] for event in story.rounds[1:6]]
    said = "\n".join(reason for of_round in reasons for reason in of_round)
    assert all(0 < len(line) <= 500 and line.isprintable() for line in said.splitlines())
    for word in ("1000000", "nonsense", "cannot be unpacked", "gave no reason", "nan examples"):
        assert word in said
    assert "claims 9.0072e+15 examples" in said
