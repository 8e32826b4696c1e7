"""The addresses of this machine, and what it means when the host's does not answer."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from contextlib import suppress

import psutil

from fedtutor.classroom import PORT
from fedtutor.errors import FederationError

SECONDS = 6.0
"""How long a connection in a room may take."""
AWAY = ("192.0.2.1", 9)
"""An address for documents (RFC 5737), to ask which way is out; nothing is sent there."""


def own_networks() -> Iterator[ipaddress.IPv4Interface]:
    """Yield this machine's IPv4 addresses, with their networks, but 127.0.0.1."""
    state = psutil.net_if_stats()
    for name, addresses in psutil.net_if_addrs().items():
        for one in addresses:
            if one.family == socket.AF_INET and one.netmask and state[name].isup:
                interface = ipaddress.IPv4Interface(f"{one.address}/{one.netmask}")
                if not interface.ip.is_loopback and not interface.ip.is_link_local:
                    yield interface


def own_addresses() -> list[str]:
    """Return this machine's addresses, first the one that it would go out with; never none."""
    found = [str(interface.ip) for interface in own_networks()]
    # There may be no way out, as in a room without a network.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):
        probe.connect(AWAY)
        found.sort(key=lambda address: address != probe.getsockname()[0])
    return found or ["127.0.0.1"]


def split_address(text: str) -> tuple[str, int]:
    """Return host and port from "192.168.1.20", "192.168.1.20:8765" or a name."""
    host, _, port = text.strip().removeprefix("https://").rstrip("/").partition(":")
    if not host or (port and not port.isdigit()) or not 0 < int(port or PORT) < 2**16:
        raise FederationError(
            f"{text!r} is not an address such as 192.168.1.20 or 192.168.1.20:{PORT}; the board "
            "shows it."
        )
    return host, int(port or PORT)


def reach(host: str, port: int) -> None:
    """Connect once; raise a :class:`FederationError` that says what is wrong and the way out."""
    try:
        socket.create_connection((host, port), timeout=SECONDS).close()
    except socket.gaierror as error:
        raise FederationError(
            f"nobody knows a machine called {host!r}; use the address in numbers that the board "
            "shows."
        ) from error
    except ConnectionRefusedError as error:
        raise FederationError(
            f"{host} is there, but nobody listens on port {port}. Does `fedtutor host` run, and is "
            "this the port on the board?"
        ) from error
    except TimeoutError as error:
        raise FederationError(f"{host} does not answer. {_why_silent(host)}") from error
    except OSError as error:
        ours = ", ".join(own_addresses())
        raise FederationError(
            f"there is no way from here to {host} ({error.strerror}); this laptop's address is "
            f"{ours}. Join the Wi-Fi that the host is in, and leave a VPN."
        ) from error


def _why_silent(host: str) -> str:
    """Say why a connection may get no answer, by whether both are in one network."""
    networks = list(own_networks())
    way_out = "The way out: a phone's hotspot for all, or a cable."
    try:
        address = ipaddress.IPv4Address(socket.gethostbyname(host))
    except (OSError, ValueError):
        return way_out
    if any(address in interface.network for interface in networks):
        return (
            "Both are in one network, so either the host's firewall drops the call (allow Python "
            "or the port there), or the Wi-Fi keeps its guests apart (client isolation). "
            f"{way_out}"
        )
    ours = ", ".join(str(interface) for interface in networks) or "none"
    return f"It is in another network than this laptop ({ours}): join the host's Wi-Fi. {way_out}"
