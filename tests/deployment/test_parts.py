"""What a federation of processes is made of: certificates, keys, programs, ports, a proxy."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
from contextlib import closing

import psutil
import pytest
from cryptography import x509
from toy import secrets_in

from fedtutor.deployment.certificates import write_key_pair, write_tls_files
from fedtutor.deployment.federation import LocalFederation
from fedtutor.deployment.processes import Program, free_port, processes_in
from fedtutor.deployment.proxy import RecordingProxy
from fedtutor.deployment.running import Running
from fedtutor.errors import FederationError

pytestmark = pytest.mark.process


def test_nobody_is_no_federation():
    with pytest.raises(FederationError, match="at least one hospital"):
        LocalFederation({})


def test_certificates_are_for_this_machine_and_signed_by_the_authority(tmp_path):
    files = write_tls_files(tmp_path)
    context = ssl.create_default_context(cafile=files.authority)
    assert context.verify_mode is ssl.CERT_REQUIRED
    certificate, authority = (
        x509.load_pem_x509_certificate(path.read_bytes())
        for path in (files.certificate, files.authority)
    )
    certificate.verify_directly_issued_by(authority)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert sys.platform == "win32" or files.key.stat().st_mode & 0o077 == 0


def test_a_key_pair_is_of_openssh_s_kind(tmp_path):
    public = write_key_pair(tmp_path / "key")
    assert public.read_text().startswith("ecdsa-sha2-nistp384 ")


SLEEP = "import time; time.sleep(600)"


def program(code, folder, **options):
    return Program(
        "the server",
        [sys.executable, "-c", code],
        folder / "log",
        environment=os.environ | {"FLWR_HOME": str(folder)},
        folder=folder,
        **options,
    )


START_ONE = "import subprocess, sys; subprocess.run([sys.executable, '-c', " + repr(SLEEP) + "])"


@pytest.mark.parametrize("behind", [False, True])
def test_a_program_that_lets_others_come_first_does_so_with_all_that_it_starts(tmp_path, behind):
    started = program(START_ONE, tmp_path, behind=behind)
    process = psutil.Process(started.process.pid)
    started.wait_until(process.children, 600, "its child")
    own = psutil.Process().nice()
    assert [one.nice() == own for one in (process, *process.children())] == 2 * [not behind]
    started.kill()


def test_a_program_that_ends_at_its_start_is_quoted(tmp_path):
    broken = program("print('the disk is full'); raise SystemExit(3)", tmp_path)
    with pytest.raises(FederationError, match=r"(?s)server ended with exit code 3 .*disk is full"):
        broken.wait_until(lambda: False, 600, "it answered")


def test_one_that_never_is_ready_is_not_waited_for_without_end(tmp_path):
    slow = program(SLEEP, tmp_path)
    with pytest.raises(FederationError, match=r"no sign of an answer after 0\.2 s"):
        slow.wait_until(lambda: False, 0.2, "an answer")
    slow.kill()
    assert not slow.running


def test_a_command_that_is_worth_another_try_is_watched_from_its_start_again(tmp_path):
    def tries():
        for event in ("start", "end"):
            (tmp_path / "journal").unlink(missing_ok=True)
            text = f'{{"event": "{event}"}}\n'
            yield program(f"open('journal', 'w').write({text!r})", tmp_path)

    again = tries()
    running = Running(next(again), tmp_path / "journal", lambda: next(again, None))
    assert running.wait() == {"event": "end"}


FAMILY = """
import subprocess, sys
command = [sys.executable, "-c", "import time; print('child', flush=True); time.sleep(600)"]
subprocess.Popen(command, env={}, start_new_session=True)
subprocess.Popen(command, start_new_session=True).wait()
"""


def test_a_killed_program_takes_along_what_it_has_started_and_nobody_else(tmp_path):
    """Also who leads a session of its own, or has another environment, as Ray's workers."""
    folders = [tmp_path / "here", tmp_path / "here too"]
    for folder in folders:
        folder.mkdir()
    here, there = (program(FAMILY, folder) for folder in folders)
    for one in (here, there):
        one.wait_until(lambda said=one.said: said().count("child") == 2, 600, "its children")
    family = processes_in(folders[0])
    assert len(family) == 3
    here.kill()
    assert processes_in(folders[0]) == set()
    assert not any(map(lives, family))
    assert len(processes_in(folders[1])) == 3
    there.kill()


KILLED = """
import os, sys
from pathlib import Path
from fedtutor.deployment.processes import Program, Watchdog
folder, leave = Path({folder!r}), {leave!r}
watchdog = Watchdog(folder, leave=leave)
command = [sys.executable, "-c", "import time; time.sleep(600)"]
environment = os.environ | {{"FLWR_HOME": str(folder)}}
program = Program("p", command, folder / "log", environment=environment, folder=folder)
print(program.process.pid, flush=True)
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("leave", ["nothing", "results"])
def test_a_python_that_is_killed_takes_its_programs_and_secrets_along(tmp_path, leave):
    """As when a notebook's kernel is restarted: nobody is left to clean up but the watchdog."""
    doomed = tmp_path / "doomed"
    write_key_pair(doomed / "hospital-1" / "key")
    script = KILLED.format(folder=str(doomed), leave=leave)
    # It returns when nobody writes to its pipe any more, and so when the watchdog has gone, too.
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (abs(done.returncode), done.stderr) == (9, "")  # 9 on Windows, else -9
    assert int(done.stdout) not in [
        process.pid for process in psutil.process_iter() if lives(process)
    ]
    assert secrets_in(doomed) == []
    assert (doomed / "log").exists() == doomed.exists() == (leave == "results")


STOPPED = """
import os, runpy, signal, sys
class Pipe:
    def read(self):
        os.kill(os.getpid(), signal.SIGTERM)
        return ""
sys.stdin = Pipe()
runpy.run_module("fedtutor.deployment.processes", run_name="__main__")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there a signal from outside just ends it")
def test_the_watchdog_does_its_work_although_all_are_told_to_end(tmp_path):
    """A service manager sends SIGTERM to all processes of a service, the watchdog among them."""
    write_key_pair(tmp_path / "server" / "key")
    subprocess.run([sys.executable, "-c", STOPPED, tmp_path, "results"], check=True)
    assert secrets_in(tmp_path) == []


def lives(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_the_proxy_passes_everything_on_and_remembers_it():
    with socket.create_server(("127.0.0.1", 0)) as server:
        with closing(RecordingProxy(server.getsockname()[1])) as wire:
            client = socket.create_connection(("127.0.0.1", wire.port))
            behind, _ = server.accept()
            client.sendall(b"a secret, or so we thought")
            assert behind.recv(100) == b"a secret, or so we thought"
            behind.sendall(b"well")
            assert client.recv(100) == b"well"
            assert wire.heard(b"secret") and wire.heard(b"well")
            assert not wire.heard(b"thought well")  # the two directions are two streams
            assert wire.num_bytes == 30
            client.close()
            assert behind.recv(100) == b""
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", wire.port))


def test_free_ports_are_free():
    with socket.create_server(("127.0.0.1", free_port())):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="Popen has no such lock there")
def test_a_lock_that_a_signal_has_left_shut_is_not_waited_for_without_end(tmp_path):
    program = Program(
        "sleeper",
        [sys.executable, "-c", SLEEP],
        tmp_path / "log",
        environment=os.environ | {"FLWR_HOME": str(tmp_path / "flwr")},
        folder=tmp_path,
    )
    program.process._waitpid_lock.acquire()
    program.kill()
    assert not processes_in(tmp_path)
