"""The class's desk: where laptops enrol, and the board on the wall; it listens on 127.0.0.1.

Laptops reach ``/class/...`` through the gate and prove that they know the code. The board is for
whoever has its address, which holds a key: no other page in the teacher's browser knows it, and no
other user of the machine, so nobody else starts or stops a run.
"""

from __future__ import annotations

import hmac
import io
import json
import secrets
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from importlib.resources import files
from pathlib import Path

import segno
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from fedtutor.classroom import PORT, versions
from fedtutor.classroom.app import SCENARIOS
from fedtutor.classroom.code import is_proof, key_of, proof, show
from fedtutor.classroom.host import Classroom
from fedtutor.deployment.processes import free_port
from fedtutor.errors import FedtutorError
from fedtutor.federation.strategies import STRATEGIES
from fedtutor.partition import DEALS
from fedtutor.settings import RunSettings

NONCE_SECONDS, MOST_NONCES = 60.0, 1000
CHOICES = {"strategy": tuple(STRATEGIES), "partition": ("by:hospital", *DEALS)}
"""What the board offers for a run."""


class Desk:
    """Answers laptops and the board for a :class:`~fedtutor.classroom.host.Classroom`.

    Attributes
    ----------
    port : on 127.0.0.1.
    board : the board's address, with its key.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self.classroom: Classroom | None = None
        self._key = secrets.token_urlsafe(24)
        self._nonces: dict[str, float] = {}
        self.app = self._make_app()
        config = uvicorn.Config(self.app, log_level="critical", access_log=False, lifespan="off")
        self._server = uvicorn.Server(config)

    @property
    def board(self) -> str:
        """The board's address."""
        return f"http://127.0.0.1:{self.port}/#{self._key}"

    def open(self, classroom: Classroom) -> None:
        """Listen, in a thread of its own; the classroom starts after it."""
        self.classroom = classroom
        listener = socket.create_server(("127.0.0.1", self.port))
        serve = partial(self._server.run, sockets=[listener])
        self._thread = threading.Thread(target=serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.should_exit = True
        self._thread.join(10)

    def _make_app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/class/hello", _answering(self.hello), methods=["POST"]),
                Route("/class/enrol", _answering(self.enrol), methods=["POST"]),
                Route("/", self._page),
                Route("/state", self._for_the_teacher(self.state)),
                Route("/start", self._for_the_teacher(self.start), methods=["POST"]),
                Route("/stop", self._for_the_teacher(self.stop), methods=["POST"]),
            ]
        )

    def hello(self, asked: dict) -> dict:
        """Say who we are, and prove that we know the code and own the certificate."""
        room, nonce = self._room(), secrets.token_hex(16)
        now = time.monotonic()
        fresh = [(n, t) for n, t in self._nonces.items() if now - t < NONCE_SECONDS]
        self._nonces = dict(fresh[1 - MOST_NONCES :]) | {nonce: now}
        seats = {"hospitals": room.settings.hospitals, "taken": len(room.seats)}
        facts = json.dumps(
            {
                **versions(),
                **seats,
                "time": time.time(),
                "dataset": room.settings.dataset,
                "classes": list(room.cohort.test.class_names),
            }
        )
        authority = self._authority().public_bytes(Encoding.PEM).decode()
        parts = (str(asked["nonce"]), nonce, authority, facts)
        return {
            "nonce": nonce,
            "authority": authority,
            "facts": facts,
            "proof": proof(self._class_key(), "desk", *parts),
        }

    def enrol(self, asked: dict) -> dict:
        """Give a laptop that knows the code its seat; each nonce counts once."""
        room = self._room()
        fields = ("nonce", "public_key", "name", "images")
        nonce, public, name, images = (str(asked[field]) for field in fields)
        if time.monotonic() - self._nonces.pop(nonce, -NONCE_SECONDS) >= NONCE_SECONDS:
            raise PermissionError("This enrolment was used already, or is too old; join again.")
        if not is_proof(
            str(asked["proof"]), self._class_key(), "laptop", nonce, public, name, images
        ):
            raise PermissionError("That is not this class's code.")
        counts = json.loads(images)
        classes = len(room.cohort.test.class_names)
        if counts is not None and not (len(counts) == classes and all(n >= 0 for n in counts)):
            raise ValueError("images")
        number = room.enrol(public, name, counts)
        return {
            "number": number,
            "name": room.seats[number].name,
            "hospitals": room.settings.hospitals,
        }

    def state(self, asked: dict) -> dict:
        """Return what the board shows."""
        return self._room().state()

    def start(self, asked: dict) -> dict:
        """Start the run that the board asks for."""
        options = {
            "rounds": int(asked["rounds"]),
            "strategy": str(asked["strategy"]),
            "partition": str(asked["partition"]),
            "alpha": float(asked["alpha"]),
        }
        seat = asked.get("seat")
        run = self._room().start_run(
            options, str(asked["scenario"]), None if seat in (None, "") else int(seat)
        )
        return {"number": run.number}

    def stop(self, asked: dict) -> dict:
        """Stop the run that is under way."""
        self._room().stop_run()
        return {}

    def _room(self) -> Classroom:
        if self.classroom is None or self.classroom.tls_files is None:
            raise FedtutorError("The class is not open yet; come again.")
        return self.classroom

    def _authority(self) -> x509.Certificate:
        files = self._room().tls_files
        assert files is not None
        return x509.load_pem_x509_certificate(files.authority.read_bytes())

    def _class_key(self) -> bytes:
        return key_of(self._room().code, self._authority().public_bytes(Encoding.DER))

    async def _page(self, request: Request) -> Response:
        """Send the page, which holds what is on the wall; the key is in its address only."""
        room = self._room()
        given = room.settings
        offered = {
            **CHOICES,
            "scenario": SCENARIOS,
            "rounds": given.rounds,
            "alpha": given.alpha,
            "chosen": {"strategy": given.strategy, "partition": room.cohort.scheme},
            "command": join_command(room),
        }
        page = (files("fedtutor.classroom") / "board.html").read_text(encoding="utf-8")
        page = page.replace("{{offered}}", json.dumps(offered).replace("<", "\\u003c"))
        page = page.replace("{{qr}}", qr_code(join_command(room)))
        policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
        policy += "connect-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'"
        return HTMLResponse(page, headers={"content-security-policy": policy})

    def _for_the_teacher(self, answer: Callable[[dict], dict]) -> Callable:
        endpoint = _answering(answer)

        async def checked(request: Request) -> Response:
            said = request.headers.get("x-key", "").encode()
            if not hmac.compare_digest(said, self._key.encode()):
                return JSONResponse({"detail": "The board is the teacher's."}, 403)
            return await endpoint(request)

        return checked


def _answering(answer: Callable[[dict], dict]) -> Callable:
    """Make a function from JSON to JSON an endpoint; what it raises becomes a status and words."""

    async def endpoint(request: Request) -> Response:
        try:
            asked = await request.json() if request.method == "POST" else {}
            return JSONResponse(await run_in_threadpool(answer, asked))
        except PermissionError as error:
            return JSONResponse({"detail": str(error)}, 403)
        except FedtutorError as error:
            return JSONResponse({"detail": str(error)}, 409)
        except (ValueError, TypeError, KeyError, AttributeError):
            return JSONResponse({"detail": "This is not a request of fedtutor's."}, 400)

    return endpoint


def join_command(room: Classroom) -> str:
    """Return what a learner types."""
    port = "" if room.hospitals_port == PORT else f":{room.hospitals_port}"
    return f"fedtutor join {room.address}{port} {show(room.code)}"


def qr_code(text: str) -> str:
    """Return the text as a QR code, in SVG."""
    out = io.BytesIO()
    code = segno.make(text, error="m")
    code.save(out, kind="svg", xmldecl=False, svgns=False, omitsize=True, border=2)
    return out.getvalue().decode()


def open_class(settings: RunSettings, folder: Path, **further: object) -> tuple[Classroom, Desk]:
    """Return a classroom and its desk, both started; close the classroom first."""
    desk = Desk()
    classroom = Classroom(settings, folder, desk_port=desk.port, **further)  # type: ignore[arg-type]
    desk.open(classroom)
    try:
        classroom.start()
    except BaseException:
        desk.close()
        raise
    return classroom, desk
