from __future__ import annotations

from functools import lru_cache
from types import SimpleNamespace

import pytest

from fedtutor.classroom import host
from fedtutor.classroom.desk import Desk
from fedtutor.classroom.host import Classroom
from fedtutor.settings import RunSettings


class Operator:
    """In place of the SuperLink's Control API: remembers who was registered."""

    def __init__(self):
        self.keys, self.online = [], set()

    def RegisterNode(self, request):
        assert request.public_key not in self.keys
        self.keys.append(request.public_key)

    def ListNodes(self, request):
        status = {key: "online" if key in self.online else "offline" for key in self.keys}
        nodes = [SimpleNamespace(public_key=key, status=word) for key, word in status.items()]
        return SimpleNamespace(nodes_info=nodes)

    def close(self):
        pass


build_cohort = lru_cache(host.build_cohort)


@pytest.fixture
def open_room(tmp_path, monkeypatch):
    """Return a function that opens a class without Flower's programs, in the same folder."""
    monkeypatch.setattr(host, "build_cohort", build_cohort)

    def open_room(**settings):
        desk = Desk()
        room = Classroom(
            RunSettings(**{"hospitals": 2, "size": 16, "rounds": 2} | settings),
            tmp_path / "class",
            desk_port=desk.port,
            address="127.0.0.1",
        )
        room._operator = Operator()
        room.tls_files = room._make_tls_files(tmp_path / "class" / "tls")
        desk.classroom = room
        return room, desk

    return open_room
