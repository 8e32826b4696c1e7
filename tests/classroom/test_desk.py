"""The desk's own rules, without Flower's programs; the whole is in test_class."""

from __future__ import annotations

import json
import re
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from starlette.testclient import TestClient

from fedtutor.classroom import desk as desks
from fedtutor.classroom.code import is_proof, key_of, new_code, proof
from fedtutor.classroom.runs import doing
from fedtutor.deployment.certificates import write_key_pair, write_tls_files
from fedtutor.errors import FederationError

NAME = "a laptop's own"


@pytest.fixture
def class_(open_room):
    room, desk = open_room()
    return room, desk, TestClient(desk.app, raise_server_exceptions=False)


@pytest.fixture
def keys(tmp_path):
    return [write_key_pair(tmp_path / f"{k}").read_text(encoding="utf-8") for k in range(4)]


def hello(client, room):
    told = client.post("/class/hello", json={"nonce": "n"}).json()
    certificate = x509.load_pem_x509_certificate(told["authority"].encode())
    return told, key_of(room.code, certificate.public_bytes(Encoding.DER))


def enrol(client, room, public, name="", images="null", **other):
    told, key = hello(client, room)
    asked = {"nonce": told["nonce"], "public_key": public, "name": name, "images": images}
    asked["proof"] = proof(other.pop("key", key), "laptop", *asked.values())
    return client.post("/class/enrol", json=asked | other)


def test_the_host_proves_that_it_knows_the_code_and_has_the_certificate(class_):
    room, _, client = class_
    told, key = hello(client, room)
    parts = ("n", *(told[name] for name in ("nonce", "authority", "facts")))
    assert is_proof(told["proof"], key, "desk", *parts)
    facts = json.loads(told["facts"])
    assert (facts["hospitals"], facts["taken"]) == (2, 0)
    assert room.code not in json.dumps(told)


def test_a_laptop_gets_a_seat_and_the_same_one_again(class_, keys):
    room, _, client = class_
    first, second = (enrol(client, room, key).json() for key in keys[:2])
    assert (first["number"], second["number"], second["hospitals"]) == (0, 1, 2)
    assert [first["name"], second["name"]] == list(room.cohort.names)
    assert enrol(client, room, keys[0], "another name").json() == first
    assert len(room._operator.keys) == 2


def test_a_full_class_says_so_and_how_to_make_it_larger(class_, keys):
    room, _, client = class_
    said = [enrol(client, room, key) for key in keys[:3]]
    assert [reply.status_code for reply in said] == [200, 200, 409]
    assert "the class is full: all 2 hospitals are taken" in said[2].json()["detail"]


def test_another_code_gets_no_seat(class_, keys):
    room, desk, client = class_
    authority = desk._authority().public_bytes(Encoding.DER)
    reply = enrol(client, room, keys[0], key=key_of(new_code(), authority))
    assert (reply.status_code, room.seats) == (403, [])
    assert reply.json()["detail"] == "That is not this class's code."


def test_a_proof_is_for_one_key_and_counts_once(class_, keys):
    room, _, client = class_
    assert enrol(client, room, keys[0], public_key=keys[1]).status_code == 403
    told, key = hello(client, room)
    asked = {"nonce": told["nonce"], "public_key": keys[0], "name": "", "images": "null"}
    asked["proof"] = proof(key, "laptop", *asked.values())
    assert client.post("/class/enrol", json=asked).status_code == 200
    again = client.post("/class/enrol", json=asked)
    assert again.status_code == 403
    assert "used already, or is too old" in again.json()["detail"]


def test_an_old_enrolment_is_not_taken(class_, keys, monkeypatch):
    room, _, client = class_
    told, key = hello(client, room)
    asked = {"nonce": told["nonce"], "public_key": keys[0], "name": "", "images": "null"}
    asked["proof"] = proof(key, "laptop", *asked.values())
    later = time.monotonic() + desks.NONCE_SECONDS + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert client.post("/class/enrol", json=asked).status_code == 403


def test_no_more_than_so_many_are_awaited(class_):
    _, desk, _ = class_
    for _ in range(desks.MOST_NONCES + 5):
        desk.hello({"nonce": "n"})
    assert len(desk._nonces) == desks.MOST_NONCES


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP521R1()])
def test_a_key_that_flower_does_not_take_is_refused(class_, curve):
    room, _, client = class_
    from cryptography.hazmat.primitives.serialization import PublicFormat

    public = ec.generate_private_key(curve).public_key()
    text = public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    assert "of the curve secp384r1" in enrol(client, room, text).json()["detail"]
    assert "not a public key" in enrol(client, room, "x").json()["detail"]


def test_names_are_short_visible_and_one_s_own(class_, keys):
    room, _, client = class_
    for name in (41 * "x", "North, South"):
        assert (
            "at most 40 signs, and no comma" in enrol(client, room, keys[0], name).json()["detail"]
        )
    name = "Spital \u202eBern"
    assert enrol(client, room, keys[0], name).json()["name"] == r"Spital \u202eBern"
    said = enrol(client, room, keys[1], "SPITAL \u202eBern").json()["detail"]
    assert "is a SPITAL" in said
    assert len(room.seats) == 1


def test_own_images_are_counted_on_the_board_and_keep_the_references_away(class_, keys):
    room, _, client = class_
    assert enrol(client, room, keys[0], images="[3, 0, 4]").status_code == 200
    assert room.state()["seats"][0]["images"] == [3, 0, 4]
    for wrong in ("[3]", "[-1, 0, 4]", '"x"', "{"):
        assert enrol(client, room, keys[1], images=wrong).status_code == 400


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"nonce": 1}', b"\xff", b"null"])
def test_nonsense_is_told_so(class_, content):
    _, _, client = class_
    reply = client.post("/class/enrol", content=content)
    assert (reply.status_code, reply.json()) == (
        400,
        {"detail": "This is not a request of fedtutor's."},
    )


@pytest.mark.parametrize("path", ["/state", "/start", "/stop"])
def test_the_board_is_for_who_has_its_address(class_, path):
    _, desk, client = class_
    method = "GET" if path == "/state" else "POST"
    for key in ("", "x", desk._key[:-1]):
        reply = client.request(method, path, headers={"x-key": key}, json={})
        assert reply.status_code == 403
    assert client.request(method, path, json={}).status_code == 403


def test_the_page_holds_no_key_and_asks_nobody_else(class_):
    _, desk, client = class_
    page = client.get("/")
    assert desk._key not in page.text
    assert "connect-src 'self'" in page.headers["content-security-policy"]
    assert not re.findall(r"(?:src|href)=|https?://(?!www\.w3\.org)", page.text)
    assert "{{" not in page.text


def test_a_run_needs_somebody_and_known_options(class_, keys):
    room, desk, client = class_
    enrol(client, room, keys[0])
    asked = {"rounds": 1, "strategy": "fedavg", "partition": "iid", "alpha": 1, "scenario": "none"}

    def start(**other):
        reply = client.post("/start", headers={"x-key": desk._key}, json=asked | other)
        return reply.status_code, reply.json()["detail"]

    assert start() == (409, "no hospital is connected yet; the board shows who joins.")
    room._operator.online.update(room._operator.keys)
    room._listed = (0.0, {})
    assert start(scenario="rain")[1].startswith("no scenario 'rain'; known: none, leaves")
    assert start(rounds=0) == (409, "rounds must be at least 1; got 0.")
    assert start(strategy="best")[0] == 409
    assert start(partition="x")[0] == 409
    assert start(rounds="x")[0] == 400
    assert room.runs == []


def test_a_class_goes_on_where_it_was(open_room, keys):
    room, desk = open_room()
    enrol(TestClient(desk.app), room, keys[0], "Ostspital")
    again, _ = open_room(rounds=9)
    assert (again.code, again.seats) == (room.code, room.seats)
    assert again.tls_files.authority.read_bytes() == room.tls_files.authority.read_bytes()


def test_a_class_of_other_data_is_not_mixed_up(open_room):
    open_room()[0]._save()
    with pytest.raises(FederationError, match="has a class of other data"):
        open_room(seed=1)


def test_a_certificate_for_another_address_is_made_anew(open_room, tmp_path):
    room, _ = open_room()
    files = write_tls_files(tmp_path / "other")
    for name, path in vars(files).items():
        path.replace(vars(room.tls_files)[name])
    room.address = "192.0.2.7"
    before = room.tls_files.certificate.read_bytes()
    assert room._make_tls_files(room.tls_files.authority.parent).certificate.read_bytes() != before


def test_what_a_hospital_does_is_read_from_the_journal():
    round_1 = {"event": "round", "round": 1, "left_out": [{"hospital": "B", "reason": "NaN"}]}
    events = [round_1, {"event": "reply", "round": 2, "hospital": "A"}]
    assert [doing(name, events) for name in "ABC"] == ["sent", "left out: NaN", "trains"]
    assert doing("A", []) == ""
