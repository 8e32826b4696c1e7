"""The gate's own rules, before a SuperLink that is a function; the real one is in test_stranger."""

from __future__ import annotations

import asyncio
import datetime
import inspect
import os
import re
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
from flwr.app import ArrayRecord
from flwr.proto.fleet_pb2 import ActivateNodeRequest
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supernode import fleet_http_client
from gates import connect, hear, open_gate, request, say, until_the_end
from hypothesis import given, settings
from hypothesis import strategies as st

from fedtutor.deployment import certificates
from fedtutor.deployment.certificates import write_tls_files
from fedtutor.deployment.gate import ALIVE, FLEET, PAUSES, Caller, Limits

SMALL, LARGE = min(FLEET.values()), max(FLEET.values())
PATIENT = Limits(patience=60.0)
NO_PATIENCE = Limits(patience=0.2, slowest=1e9)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_tls_files(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def heard():
    """What has reached the SuperLink, as it came."""
    return []


@pytest.fixture(scope="module")
def port(files, heard):
    def answer(asked):
        heard.append(asked)
        return httpx.Response(200, content=b"yes", headers={"flwr-x": "1", "server": "secret"})

    with open_gate(files, answer, PATIENT) as port:
        yield port


def yes(asked):
    return httpx.Response(200, content=b"yes")


def refused(reply, status, *words):
    assert reply.startswith(f"HTTP/1.1 {status} ".encode()), reply
    assert b"onnection: close" in reply
    for word in words:
        assert word.encode() in reply


def test_what_a_hospital_asks_is_passed_on_with_flower_s_headers_and_no_other(port, files, heard):
    headers = ("Flwr-Signature: abc", "Cookie: a=b", "X-Forwarded-For: 10.0.0.1")
    with connect(port, files) as connection:
        for k in range(3):  # one connection is enough
            connection.sendall(request("/v1/fleet/push-object", b"weights %d" % k, *headers))
            reply = hear(connection)
            assert reply.startswith(b"HTTP/1.1 200 ")
            assert b"flwr-x: 1" in reply.lower()
            assert b"secret" not in reply
    assert [asked.content for asked in heard[-3:]] == [b"weights 0", b"weights 1", b"weights 2"]
    assert heard[-1].headers["flwr-signature"] == "abc"
    assert not {"cookie", "x-forwarded-for"} & set(heard[-1].headers)
    assert str(heard[-1].url) == "https://superlink/v1/fleet/push-object"


TRICKS = [
    *("/v1/control/start-run", "/v1/runtime/acquire-task", "/docs", "/health", "/", "*"),
    *("//v1/fleet/activate-node", "/v1//fleet/activate-node", "/v1/fleet/../control/start-run"),
    *("/v1/fleet/%2e%2e/control/start-run", "/v1/fleet%2f..%2fcontrol/start-run"),
    *("/v1/fleet/..;/control/start-run", "/v1/fleet/activate-node/", "/v1/fleet/activate-node."),
    *("/V1/Fleet/activate-node", "/v1/fleet/activate%2Dnode", "/v1/fleet/activate-node?x=1"),
    *("https://localhost/v1/control/start-run", "https://localhost/v1/fleet/activate-node"),
    *("/v1/fleet/", "/v1/fleet/register-node", "/v1/fleet/unregister-node", "/v1\\fleet\\get-run"),
    *("/v1/fleet/activate-node#/../../control/start-run", "/v1/fleet/\xe4", "v1/fleet/get-run"),
]


@pytest.mark.parametrize("path", TRICKS)
def test_no_other_path_and_no_other_spelling_of_one_is_passed_on(port, files, heard, path):
    before = len(heard)
    reply = say(port, files, request(path))
    assert reply.startswith((b"HTTP/1.1 403 ", b"HTTP/1.1 400 ")), reply
    assert b"hospitals only" in reply or b"not HTTP/1.1" in reply
    assert len(heard) == before


@pytest.mark.parametrize("method", ["GET", "PUT", "CONNECT", "OPTIONS", "PRI"])
def test_only_post_is_passed_on(port, files, method):
    refused(say(port, files, request(method=method)), 403, "hospitals only")


def test_a_second_request_inside_the_first_is_read_as_one_of_its_own(port, files, heard):
    """No body hides a request: it is as long as its header says, and is sent on as one."""
    before = len(heard)
    smuggled = request("/v1/control/start-run")
    refused(say(port, files, request(body=b"ab") + smuggled, 2).partition(b"yes")[2], 403)
    assert [asked.content for asked in heard[before:]] == [b"ab"]
    both = request("/v1/fleet/get-run", b"0\r\n\r\n", "Transfer-Encoding: chunked")
    refused(say(port, files, both + smuggled), 411, "how long")
    twice = request("/v1/fleet/get-run", b"", "Content-Length: 0", "Content-Length: 9")
    refused(say(port, files, twice), 400, "not HTTP/1.1")
    assert len(heard) == before + 1


@pytest.mark.parametrize(
    ("bytes_said", "status"),
    [
        (request(version="1.0"), 505),
        (b"\x16\x03\x01 garbage\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 403),
        (b"GET /\r\n\r\n", 400),
        (request("/v1/fleet/get-run", b"", "X: " + "x" * 100_000), 431),
        (request("/v1/fleet/get-run", b"", "Content-Length: -1"), 400),
        (request("/v1/fleet/get-run", b"", "Content-Length: 9" + "9" * 30), 400),
    ],
)
def test_what_is_not_http_1_1_is_told_so(port, files, bytes_said, status):
    refused(say(port, files, bytes_said), status)


def test_a_body_that_is_too_long_is_refused_before_it_is_read(port, files, heard):
    before = len(heard)
    for path, most in FLEET.items():
        header = f"Content-Length: {most + 1}"
        refused(say(port, files, request(path.decode(), b"", header)), 413, f"at most {most} bytes")
    refused(say(port, files, request("/v1/fleet/push-object", bytes(LARGE + 1))), 413)
    assert len(heard) == before
    assert say(port, files, request(body=bytes(SMALL))).startswith(b"HTTP/1.1 200 ")


def test_the_pieces_of_the_largest_array_fit_in_a_request():
    record = ArrayRecord([np.arange(8_000_000, dtype=np.float32)])  # equal pieces are sent once
    sizes = [len(one.deflate()) for one in get_all_nested_objects(record).values()]
    assert sum(sizes) > 32_000_000
    assert max(sizes) < LARGE * 3 // 4


def test_every_call_of_flower_s_client_is_known_but_those_of_nodes_without_a_key():
    calls = set(re.findall(r"/v1/fleet/[a-z-]+", inspect.getsource(fleet_http_client)))
    without_key = {"/v1/fleet/register-node", "/v1/fleet/unregister-node"}
    assert {path.decode() for path in FLEET} == calls - without_key


def test_who_trickles_is_hung_up_on_and_the_others_go_on(files, capsys):
    with open_gate(files, yes, NO_PATIENCE) as port:
        raw = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(5)]
        slow = [connect(port, files) for _ in range(10)]
        for k, connection in enumerate(slow):
            with suppress(OSError):  # on a busy machine it may be hung up on already
                connection.sendall(request(body=b"1234")[: -3 * (k % 2) - 1])  # header, or body
        assert say(port, files, request()).startswith(b"HTTP/1.1 200 ")
        assert [until_the_end(connection) for connection in slow] == [b""] * 10
        assert [connection.recv(1) for connection in raw] == [b""] * 5  # not one byte of TLS
        for connection in (*raw, *slow):
            connection.close()
    assert "hung up: TimeoutError" in capsys.readouterr().out


def test_hospitals_calls_reach_the_superlink_one_by_one(files):
    at_once, most = [], []

    async def slow(asked):
        at_once.append(asked)
        most.append(len(at_once))
        await asyncio.sleep(0.02)
        at_once.pop()
        return httpx.Response(200, content=b"yes")

    with open_gate(files, slow) as port, ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: say(port, files, request()), range(8)))
    assert all(reply.startswith(b"HTTP/1.1 200 ") for reply in replies)
    assert most == [1] * 8


def test_who_says_that_it_is_alive_does_not_wait_behind_the_others(files):
    heard = asyncio.Event()

    async def one_waits_for_a_heartbeat(asked):
        if asked.url.path == ALIVE:
            heard.set()
        else:
            await asyncio.wait_for(heard.wait(), 60)
        return httpx.Response(200, content=b"yes")

    with open_gate(files, one_waits_for_a_heartbeat) as port, ThreadPoolExecutor(2) as pool:
        first = pool.submit(say, port, files, request())
        assert say(port, files, request(ALIVE)).startswith(b"HTTP/1.1 200 ")
        assert first.result().startswith(b"HTTP/1.1 200 ")


@pytest.mark.slow
@pytest.mark.parametrize(("failures", "status"), [(2, b"200"), (100, b"500")])
def test_a_database_that_was_locked_is_asked_again_and_not_without_end(files, failures, status):
    asked = []

    def locked(_):
        asked.append(1)
        return httpx.Response(500 if len(asked) <= failures else 200, content=b"")

    with open_gate(files, locked) as port:
        assert say(port, files, request()).startswith(b"HTTP/1.1 " + status)
    assert len(asked) == min(failures + 1, len(PAUSES))


def test_one_address_has_so_many_connections_and_no_more(files, capsys):
    limits = Limits(patience=60.0, connections_of_one=3, connections=4)
    with open_gate(files, yes, limits) as port:
        mine = [connect(port, files) for _ in range(3)]
        with pytest.raises((OSError, ssl.SSLError)):
            connect(port, files)
        mine[0].sendall(request())
        assert mine[0].recv(9) == b"HTTP/1.1 "
        for connection in mine:
            connection.close()
    assert "too many connections" in capsys.readouterr().out


def test_bodies_that_are_not_whole_have_so_many_bytes_and_no_more(files):
    limits = Limits(patience=60.0, bytes_of_one=3000)
    with open_gate(files, yes, limits) as port:
        with connect(port, files) as waits:
            waits.sendall(request(body=bytes(2000))[:-1])
            second = say(port, files, request(body=bytes(2000)))
            refused(second, 503, "come again")
            waits.sendall(b"\0")
            assert waits.recv(9) == b"HTTP/1.1 "
        assert say(port, files, request(body=bytes(2999))).startswith(b"HTTP/1.1 200")


def test_who_asks_faster_than_is_allowed_waits_for_his_turn(monkeypatch):
    now = [5.0]
    monkeypatch.setattr("fedtutor.deployment.gate.time", SimpleNamespace(monotonic=lambda: now[0]))
    caller = Caller("10.0.0.1")
    assert [caller.turn(rate=10.0) for _ in range(3)] == pytest.approx([0.0, 0.1, 0.2])
    now[0] = 5.25
    assert caller.turn(rate=10.0) == pytest.approx(0.05)
    now[0] = 9.0
    assert caller.turn(rate=10.0) == 0.0


def test_thirty_callers_at_once_are_all_answered(port, files):
    with ThreadPoolExecutor(30) as pool:
        replies = pool.map(lambda k: say(port, files, request()), range(30))
    assert all(reply.startswith(b"HTTP/1.1 200 ") for reply in replies)


def test_a_superlink_that_is_not_there_is_said_and_flower_tries_again(files):
    with open_gate(files, None, PATIENT) as port:
        refused(say(port, files, request()), 502, "come again")

    def late(asked):
        raise httpx.ReadTimeout("late")

    with open_gate(files, late, PATIENT) as port:
        refused(say(port, files, request()), 504, "come again")


def test_the_log_has_no_secret_and_does_not_grow_with_the_number_of_attempts(files, capsys):
    with open_gate(files, yes, PATIENT) as port:
        for k in range(20):
            path = f"/v1/control/{k}?token=hush"
            say(port, files, request(path, b"body", "Authorization: hush", f"Flwr-Key: hush{k}"))
        say(port, files, request("/\x1b[31m", b""))
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 6  # the 1st, 2nd, 4th, 8th, 16th time, and what is no path
    assert "127.0.0.1 (1.) 403" in out
    assert "/v1/control/0" in out
    assert "hush" not in out
    assert "\x1b" not in out


@pytest.mark.slow
@settings(max_examples=60)
@given(st.binary(max_size=400), st.booleans())
def test_garbage_does_no_harm(port, files, garbage, in_tls):
    if in_tls:
        said = say(port, files, garbage + b"\n\n\r\n\r\n")
        assert said[:9] in (b"", b"HTTP/1.1 ")
    else:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as raw:
            raw.sendall(garbage or b"\0")
    assert say(port, files, request()).startswith(b"HTTP/1.1 200 ")


def test_old_tls_is_not_spoken(port, files):
    context = ssl.create_default_context(cafile=str(files.authority))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", port), timeout=60) as raw,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        context.wrap_socket(raw, server_hostname="localhost")


def activate(port, authority):
    """Ask as Flower's SuperNode does."""
    client = fleet_http_client.FleetHttpClient.from_server_address(
        f"localhost:{port}", False, authority.read_bytes(), interceptors=[]
    )
    with client:
        return client.ActivateNode(ActivateNodeRequest(public_key=b"", heartbeat_interval=30))


def test_a_supernode_speaks_to_no_server_of_another_authority(port, tmp_path):
    with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
        activate(port, write_tls_files(tmp_path).authority)


def test_a_supernode_speaks_to_no_server_whose_certificate_has_expired(tmp_path, monkeypatch):
    class Past(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.datetime(2020, 1, 1, tzinfo=tz)

    past = SimpleNamespace(datetime=Past, UTC=datetime.UTC)
    monkeypatch.setattr(certificates, "datetime", past)
    old = write_tls_files(tmp_path)
    with (
        open_gate(old, yes, PATIENT) as port,
        pytest.raises(httpx.ConnectError, match="certificate has expired"),
    ):
        activate(port, old.authority)


def test_no_proxy_of_the_environment_is_asked(files, monkeypatch):
    """The way to the SuperLink is on this machine, whatever a hospital's proxy is."""
    monkeypatch.setitem(os.environ, "HTTPS_PROXY", "http://127.0.0.1:9")
    with open_gate(files, None, PATIENT) as port:
        refused(say(port, files, request()), 502)
