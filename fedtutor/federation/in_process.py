"""The in-process grid: Flower's apps in this very process, at the speed of plain training."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import count
from typing import Any

from flwr.app import Context, Error, Message, MessageType, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from fedtutor.cores import Stopped, side_by_side
from fedtutor.errors import FederationError

FIRST_NODE_ID = SUPERLINK_NODE_ID + 1


class InProcessGrid(Grid):
    """A Flower ``Grid`` whose hospitals are trained when their reply is asked for.

    One on each core at a time (why: :mod:`fedtutor.cores`) if the app has the attribute
    ``side_by_side``, as :func:`~fedtutor.federation.make_client_app`'s; else in turns, as its code
    may share what two threads must not. Replies come in the order of the hospitals' numbers,
    whatever the strategy drew, as a generator: if the strategy adds up while it iterates, memory
    grows with the cores only.

    Parameters
    ----------
    client_app : any Flower ``ClientApp``.
    names : one name a hospital; the app finds it, with ``partition-id`` and ``num-partitions``,
        in ``context.node_config``. Each keeps its own ``Context`` over the rounds.
    run_config : what the app finds in ``context.run_config``.
    """

    def __init__(
        self, client_app: ClientApp, names: Sequence[str], run_config: dict | None = None
    ) -> None:
        if not names:
            raise FederationError("a federation needs at least one hospital; got none.")
        # Flower writes these into every message; its own simulation sets them the same way.
        TaskIdentity.run_id, TaskIdentity.task_id = 1, 1
        TaskIdentity.node_id = SUPERLINK_NODE_ID
        self._client_app = client_app
        self._side_by_side = getattr(client_app, "side_by_side", False)
        self._replies: Generator[Message] | None = None
        self._run = Run.create_empty(run_id=1)
        self._waiting: dict[str, Message] = {}
        self._ids = map(str, count(1))
        self._contexts = {
            FIRST_NODE_ID + k: Context(
                run_id=1,
                node_id=FIRST_NODE_ID + k,
                node_config={"partition-id": k, "num-partitions": len(names), "name": name},
                state=RecordDict(),
                run_config=run_config or {},
            )
            for k, name in enumerate(names)
        }

    def set_run(self, run: Run) -> None:
        self._run = run

    @property
    def run(self) -> Run:
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Take the messages in; nobody trains before :meth:`pull_messages` is iterated."""
        pushed = dict(zip(self._ids, messages, strict=False))
        for message_id, message in pushed.items():
            message.metadata.__dict__["_message_id"] = message_id  # as Flower's grids set it
        self._waiting |= pushed
        return list(pushed)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterator[Message]:
        waiting = [self._waiting.pop(message_id) for message_id in message_ids]
        waiting.sort(key=lambda message: message.metadata.dst_node_id)
        queries = all(message.metadata.message_type == MessageType.QUERY for message in waiting)
        if self._side_by_side and not queries:  # which take no time
            self._replies = side_by_side(self._reply, waiting)
        else:
            self._replies = (self._reply(message) for message in waiting)
        return self._replies

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterator[Message]:
        """Train on demand; nobody is late in a machine that all share, whatever the ``timeout``."""
        return self.pull_messages(self.push_messages(messages))

    def stop(self) -> None:
        """Leave off what still goes on."""
        if self._replies:
            self._replies.close()

    def _reply(self, message: Message) -> Message:
        """Return the hospital's answer; as in Flower's own engines an error if its app raises."""
        node_id = message.metadata.dst_node_id
        context = self._contexts.get(node_id)
        if context is None:
            error = Error(ErrorCode.NODE_UNAVAILABLE, f"there is no node {node_id}")
            return Message(error, reply_to=message)
        try:
            reply = self._client_app(message, context)
            if reply.metadata.reply_to_message_id != message.metadata.message_id:
                raise ValueError("it answers another message; give Message(..., reply_to=message)")
            return reply
        except (KeyboardInterrupt, Stopped):
            raise
        except BaseException:  # whatever a hospital's code does, sys.exit() too, the others go on
            reason = traceback.format_exc()
            return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message)


def _passed_on(name: str) -> Any:
    return lambda self, *args, **kwargs: getattr(self._grid, name)(*args, **kwargs)


class WrappedGrid(Grid):
    """Any Flower grid, passed through; subclasses say what they do otherwise."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    run = property(lambda self: self._grid.run)
    set_run = _passed_on("set_run")
    create_message = _passed_on("create_message")
    get_node_ids = _passed_on("get_node_ids")
    push_messages = _passed_on("push_messages")
    pull_messages = _passed_on("pull_messages")
    send_and_receive = _passed_on("send_and_receive")


def run_in_process(
    server_app: ServerApp,
    client_app: ClientApp,
    names: Sequence[str],
    *,
    run_config: dict | None = None,
) -> Context:
    """Run a Flower app in this process, as ``flwr run`` would over the network.

    Parameters
    ----------
    server_app, client_app : the two halves of the app.
    names : one name a hospital.
    run_config : what both halves find in ``context.run_config``.

    Returns
    -------
    The server's ``Context``, with whatever the app left in its ``state``.
    """
    context = Context(1, SUPERLINK_NODE_ID, {}, RecordDict(), run_config or {})
    grid = InProcessGrid(client_app, names, run_config)
    logging.getLogger("flwr").setLevel(logging.ERROR)
    try:
        server_app(grid, context)
    finally:
        grid.stop()
    return context
