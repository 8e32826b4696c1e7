"""What a learner is told when the host does not answer."""

from __future__ import annotations

import ipaddress
import socket

import pytest

from fedtutor.classroom import PORT, network
from fedtutor.deployment.processes import free_port
from fedtutor.errors import FederationError


def fails(error):
    def connect(*arguments, **options):
        raise error

    return connect


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.168.1.20", ("192.168.1.20", PORT)),
        (" 192.168.1.20:99 ", ("192.168.1.20", 99)),
        ("https://host.local:1/", ("host.local", 1)),
    ],
)
def test_an_address_is_read_however_it_is_typed(text, address):
    assert network.split_address(text) == address


@pytest.mark.parametrize("text", ["", ":99", "host:port", "host:0", "host:70000", "host:-1"])
def test_what_is_no_address_is_explained(text):
    with pytest.raises(FederationError, match="is not an address such as"):
        network.split_address(text)


def test_this_machine_has_an_address():
    for address in network.own_addresses():
        ipaddress.IPv4Address(address)


def test_a_machine_without_a_network_has_one_too(monkeypatch):
    monkeypatch.setattr(network.psutil, "net_if_addrs", dict)
    assert network.own_addresses() == ["127.0.0.1"]


def test_a_port_that_listens_is_reached():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        network.reach(*listener.getsockname())


def test_a_port_that_nobody_listens_on():
    with pytest.raises(FederationError, match="nobody listens on port"):
        network.reach("127.0.0.1", free_port())


def test_a_name_that_nobody_has(monkeypatch):
    monkeypatch.setattr(socket, "create_connection", fails(socket.gaierror(-2, "unknown")))
    with pytest.raises(FederationError, match=r"a machine called 'no\.invalid'"):
        network.reach("no.invalid", 1)


def test_silence_within_one_network_is_a_firewall_or_a_wifi_that_keeps_guests_apart(monkeypatch):
    ours = ipaddress.IPv4Interface("192.168.7.5/24")
    monkeypatch.setattr(network, "own_networks", lambda: iter([ours]))
    monkeypatch.setattr(socket, "create_connection", fails(TimeoutError()))
    with pytest.raises(
        FederationError, match=r"client isolation\). The way out: a phone's hotspot"
    ):
        network.reach("192.168.7.20", 1)


def test_silence_from_another_network_names_both(monkeypatch):
    ours = ipaddress.IPv4Interface("10.0.0.5/24")
    monkeypatch.setattr(network, "own_networks", lambda: iter([ours]))
    monkeypatch.setattr(socket, "create_connection", fails(TimeoutError()))
    with pytest.raises(FederationError, match=r"another network than this laptop \(10.0.0.5/24\)"):
        network.reach("192.168.7.20", 1)


def test_no_way_there(monkeypatch):
    monkeypatch.setattr(socket, "create_connection", fails(OSError(101, "Network is unreachable")))
    with pytest.raises(FederationError, match=r"Network is unreachable.*Join the Wi-Fi"):
        network.reach("192.168.7.20", 1)
