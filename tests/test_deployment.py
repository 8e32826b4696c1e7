"""A federation of real processes: who is let in, what is on the wire, what happens when one fails.

The hospitals here train in NumPy, in a few lines, so that nearly all of the time is Flower's own.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
import time

import numpy as np
import psutil
import pytest
from cryptography import x509

from fedtutor.__main__ import main
from fedtutor.deployment import (
    LocalFederation,
    LocalSimulation,
    RecordingProxy,
    SuperLink,
    write_app,
    write_key_pair,
    write_tls_files,
)
from fedtutor.deployment.processes import Program, Watchdog, free_port
from fedtutor.errors import FederationError

PATTERN = np.random.default_rng(0).normal(size=(4, 16)).astype(np.float32)

APP = """
import json, os, time
from pathlib import Path

import numpy as np
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

from fedtutor import federation
from fedtutor.federation.records import to_record, to_weights

client_app = ClientApp()
server_app = ServerApp()
START = [np.random.default_rng(0).normal(size=(4, 16)).astype(np.float32)]


@client_app.query()
def who(message, context):
    name = ConfigRecord({"name": context.node_config["name"]})
    return Message(RecordDict({"hospital": name}), reply_to=message)


@client_app.train()
def train(message, context):
    name, server_round = context.node_config["name"], message.content["config"]["server-round"]
    what = json.loads(context.run_config["plan"]).get(f"{name} {server_round}")
    (weights,) = to_weights(message.content["arrays"])
    weights = weights + np.float32(1)
    if what == "hangs":
        time.sleep(3600)
    if what == "raises":
        raise MemoryError("the scanner caught fire")
    if what == "NaN":
        weights = weights * np.float32("nan")
    if what == "shape":
        weights = weights.T.copy()
    if what == "huge":
        weights = weights + np.float32(99)
    metrics = MetricRecord({"num-examples": 10})
    content = RecordDict({"arrays": to_record([weights]), "metrics": metrics})
    return Message(content, reply_to=message)


@server_app.main()
def main(grid, context):
    config = context.run_config
    journal = Path(config["out"]) / "progress.jsonl"

    def note(event, **values):
        with journal.open("a") as file:
            file.write(json.dumps({"event": event, **values}) + "\\n")

    def on_round(server_round, weights, guarded):
        np.save(journal.with_name("model.npy"), weights[0])
        left_out = [vars(out) for out in guarded.left_out if out.round == server_round]
        trained = guarded.traffic[server_round].hospitals if server_round else []
        note("round", round=server_round, names=sorted(trained), left_out=left_out)

    app = federation.make_server_app(
        START,
        federation.make_strategy("fedavg", 3, min_train_nodes=1, min_available_nodes=1),
        num_rounds=config["rounds"],
        config=ConfigRecord({"seed": 0}),
        timeout=config["timeout"],
        on_round=on_round,
        max_ratio=10.0,
        roll=federation.Roll(
            config["expected"],
            minimum=config["minimum"],
            patience=config["patience"],
            tell=lambda line: note("waiting", text=line),
        ),
    )
    try:
        app(grid, context)
    except Exception as error:
        note("stopped", reason=str(error))
        raise
    note("end")
"""


def start(federation, plan=None, *, rounds=1, timeout=60.0, expected=3, minimum=1, patience=5.0):
    """Run the little app; ``plan`` says who does what in which round."""
    out = federation.folder / "out"
    out.mkdir(exist_ok=True)
    (out / "progress.jsonl").unlink(missing_ok=True)
    config = {
        "out": str(out),
        "plan": json.dumps(plan or {}),
        "rounds": rounds,
        "timeout": timeout,
        "expected": expected,
        "minimum": minimum,
        "patience": patience,
    }
    app = write_app(federation.folder / "app", config, APP)
    return federation.run(app, out / "progress.jsonl")


def ours(folder):
    """The running processes that have anything to do with a federation's folder."""
    found = []
    for process in psutil.process_iter(["pid", "status", "environ", "cmdline"]):
        words = " ".join(
            [*(process.info["cmdline"] or []), *(process.info["environ"] or {}).values()]
        )
        if str(folder) in words and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return [process for process in found if process.pid != os.getpid()]


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    """Three hospitals over TLS, with somebody listening; shared by the tests, as it takes time."""
    folder = tmp_path_factory.mktemp("secure")
    names = ["North", "South", "West"]
    with LocalFederation(dict.fromkeys(names), folder=folder, listen=True) as federation:
        yield federation


def test_bad_updates_and_failing_hospitals_are_left_out_by_name(secure):
    plan = {"South 1": "raises", "West 1": "NaN", "North 2": "huge", "South 2": "shape"}
    running = start(secure, plan, rounds=2)
    first, second = (running.wait_for_round(r) for r in (1, 2))
    assert first["names"] == ["North"]
    reasons = {out["hospital"]: out["reason"] for out in first["left_out"]}
    assert set(reasons) == {"South", "West"}
    assert "the scanner caught fire" in reasons["South"]
    assert "NaN" in reasons["West"]
    assert second["names"] == ["West"]
    reasons = {out["hospital"]: out["reason"] for out in second["left_out"]}
    assert "100 times as long" in reasons["North"]
    assert "shape (16, 4)" in reasons["South"]
    running.wait()
    model = np.load(secure.folder / "out" / "model.npy")
    np.testing.assert_allclose(model, PATTERN + 2, atol=1e-6)


def test_a_power_cut_in_training_leaves_one_out_and_the_same_one_comes_back(secure):
    running = start(secure, {"West 1": "hangs"}, rounds=2, timeout=600.0, patience=120.0)
    secure.wait_until_training("West", 1)
    group = secure._programs["West"].process.pid
    secure.kill_hospital("West")
    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)
    first = running.wait_for_round(1)
    assert first["names"] == ["North", "South"]
    ((name, reason),) = [(out["hospital"], out["reason"]) for out in first["left_out"]]
    assert name == "West"
    assert "Node Unavailable" in reason
    secure.start_hospital("West")
    assert running.wait_for_round(2)["names"] == ["North", "South", "West"]
    running.wait()


def test_too_few_hospitals_end_the_run_with_a_reason_after_the_patience(secure):
    running = start(secure, expected=4, minimum=4, patience=1.0)
    with pytest.raises(FederationError, match="3 of 4 hospitals are connected after 1 s"):
        running.wait()
    waiting = [event["text"] for event in running.events() if event["event"] == "waiting"]
    assert waiting == ["waiting for hospitals: 3 of 4 are connected"]


def test_who_is_not_invited_is_turned_away(secure):
    assert "Failed to activate SuperNode" in secure.try_to_join("Stranger")
    assert "disconnected without sending a response" in secure.try_to_join("Naked", tls=False)
    left = {path.name for path in secure.folder.iterdir()}
    assert left == {"server", "app", "out", *(f"hospital-{k}" for k in (1, 2, 3))}


def test_each_hospital_keeps_its_key_to_itself(secure):
    for site in secure.sites.values():
        assert site.key.stat().st_mode & 0o077 == 0
        assert b"PRIVATE" in site.key.read_bytes()
    secrets = [path for path in secure.server_folder.rglob("*") if path.is_file()]
    assert not any(b"OPENSSH PRIVATE KEY" in path.read_bytes() for path in secrets)


def test_with_tls_no_weight_can_be_read_on_the_wire(secure):
    enough = 20 * PATTERN.nbytes  # the tests above have sent more
    if secure.wire.num_bytes < enough:
        start(secure).wait()
    assert secure.wire.num_bytes > enough
    assert not secure.wire.heard(PATTERN.tobytes()[:64])
    assert not secure.wire.heard(b"num-examples")


def test_a_superlink_that_comes_back_without_its_state_knows_nobody(secure):
    """Flower keeps runs and nodes in memory unless told otherwise; keys must be registered anew."""
    secure.kill_server()
    secure.start_server()
    assert "Failed to activate SuperNode" in secure.try_to_join("Stranger")
    secure.register()
    for name in secure.sites:
        secure.kill_hospital(name)
        secure.start_hospital(name)
    assert start(secure).wait()["event"] == "end"


def test_afterwards_nothing_runs_and_no_port_is_open(secure):
    """The last one to use it: what it has started is gone, and its logs are still there."""
    assert ours(secure.folder)
    secure.close()
    assert ours(secure.folder) == []
    for port in (secure.port, secure.wire.port):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)
    assert "Starting Flower SuperLink" in (secure.server_folder / "superlink.log").read_text()


def test_without_tls_all_can_be_read_and_what_a_hang_and_a_server_s_restart_do(tmp_path):
    with LocalFederation(
        {"North": None}, tls=False, listen=True, database=True, folder=tmp_path
    ) as federation:
        start(federation, expected=1).wait()
        assert federation.wire.heard(PATTERN.tobytes()[:64])
        assert federation.wire.heard(b"num-examples")
        with pytest.raises(FederationError, match="0 of 1 .* did not reply within 8 s"):
            start(federation, {"North 1": "hangs"}, expected=1, timeout=8.0).wait()
        federation.kill_hospital("North")  # it hangs still, as it was told to
        federation.start_hospital("North")
        running = start(federation, {"North 1": "hangs"}, expected=1)
        federation.wait_until_training("North", 1)
        federation.kill_server()
        with pytest.raises(FederationError, match="the run ended before its end"):
            running.wait(60)
        federation.start_server()
        federation.kill_hospital("North")
        federation.start_hospital("North")
        assert start(federation, expected=1).wait()["event"] == "end"
    assert ours(tmp_path) == []


def test_a_port_in_use_is_an_error_that_names_it():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(FederationError, match=f"port {port} .*give another port"),
            SuperLink(port=port),
        ):
            pass


def test_an_expired_certificate_is_an_error_that_says_so(tmp_path):
    with (
        pytest.raises(FederationError, match="certificate has expired"),
        LocalFederation({"North": None}, valid_days=-1, folder=tmp_path),
    ):
        pass
    assert ours(tmp_path) == []


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
    assert files.key.stat().st_mode & 0o077 == 0


def test_a_key_pair_is_of_openssh_s_kind(tmp_path):
    public = write_key_pair(tmp_path / "key")
    assert public.read_text().startswith("ecdsa-sha2-nistp384 ")


def test_a_program_that_ends_at_its_start_is_quoted(tmp_path):
    watchdog = Watchdog()
    command = [sys.executable, "-c", "print('the disk is full'); raise SystemExit(3)"]
    program = Program(
        "the server", command, tmp_path / "log", watchdog, environment=os.environ, folder=tmp_path
    )
    with pytest.raises(FederationError, match="(?s)server ended with exit code 3 .*disk is full"):
        program.wait_until(lambda: False, 30, "it answered")
    program.kill()
    watchdog.close()


def test_one_that_never_is_ready_is_not_waited_for_without_end(tmp_path):
    watchdog = Watchdog()
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    program = Program(
        "the server", command, tmp_path / "log", watchdog, environment=os.environ, folder=tmp_path
    )
    with pytest.raises(FederationError, match="no sign of an answer after 0.2 s"):
        program.wait_until(lambda: False, 0.2, "an answer")
    program.kill()
    assert not program.running
    watchdog.close()


def test_a_python_that_is_killed_takes_its_programs_and_its_folder_along(tmp_path):
    """As when a notebook's kernel is restarted: nobody is left to clean up but the watchdog."""
    doomed = tmp_path / "doomed"
    doomed.mkdir()
    script = f"""
        import os, sys
        from pathlib import Path
        from fedtutor.deployment.processes import Program, Watchdog
        folder = Path({str(doomed)!r})
        watchdog = Watchdog(folder)
        command = [sys.executable, "-c", "import time; time.sleep(600)"]
        program = Program("p", command, folder / "log", watchdog, environment=os.environ,
                          folder=folder)
        print(program.process.pid, flush=True)
        os.kill(os.getpid(), 9)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL
    pid = int(done.stdout)
    deadline = time.monotonic() + 30
    while _alive(pid) or doomed.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_the_proxy_passes_everything_on_and_remembers_it():
    with socket.create_server(("127.0.0.1", 0)) as server:
        with RecordingProxy(server.getsockname()[1]) as wire:
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
            socket.create_connection(("127.0.0.1", wire.port), timeout=5)


def test_free_ports_are_free():
    with socket.create_server(("127.0.0.1", free_port())):
        pass


SMALL = ["--hospitals", "2", "--rounds", "2", "--size", "28", "--batch-size", "32"]


@pytest.fixture(scope="module")
def deployed(tmp_path_factory):
    """``fedtutor deploy``, in a home of its own so that nothing can be written to the user's."""
    folder = tmp_path_factory.mktemp("deploy")
    home = folder / "home"
    home.mkdir()
    command = [sys.executable, "-m", "fedtutor", "deploy", *SMALL, "--out", str(folder / "out")]
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"HOME": str(home), "TMPDIR": str(home)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder, json.loads((folder / "out" / "summary.json").read_text()), done.stdout


def test_deploy_writes_a_summary_like_that_of_run(deployed):
    folder, summary, said = deployed
    assert [row["round"] for row in summary["rounds"]] == [0, 1, 2]
    assert [row["hospitals"] for row in summary["rounds"]] == [0, 2, 2]
    assert summary["left_out"] == []
    assert summary["synthetic"] is True
    low, high = summary["auc_interval"]["fedavg"]
    assert 0 < low <= summary["auc"]["fedavg"] <= high <= 1
    assert summary["versions"]["flwr"].startswith("1.41")
    assert sum(row["num_examples"] for row in summary["hospitals"]) == summary["num_train"]
    assert "round 2 of 2: AUC" in said


def test_deploy_leaves_nothing_running_and_nothing_outside_its_folder(deployed):
    folder, _, _ = deployed
    assert ours(folder) == []
    assert sorted(path.name for path in folder.iterdir()) == ["home", "out"]
    assert list((folder / "home").rglob("*")) == []
    assert {path.name for path in (folder / "out").iterdir()} == {
        *("summary.json", "global-model.keras", "progress.jsonl", "federation"),
    }


def test_one_process_ray_and_tls_give_the_same_weights(deployed, tmp_path):
    """The same seed, the same hospitals, three engines."""
    from fedtutor import app
    from fedtutor.experiment import RunSettings, run_experiment
    from fedtutor.model import load_keras
    from fedtutor.training import TrainingSettings

    settings = RunSettings(
        hospitals=2, rounds=2, size=28, training=TrainingSettings(learning_rate=1e-3, batch_size=32)
    )
    here = run_experiment(settings).global_weights
    config = app.run_config(settings, app.ServerSettings(out=str(tmp_path)))
    with LocalSimulation(2) as simulation:
        running = simulation.run(write_app(tmp_path / "app", config), tmp_path / app.PROGRESS)
        running.wait()
    assert ours(simulation.folder) == []
    load = load_keras().models.load_model
    for path in (tmp_path / app.LAST_GOOD, deployed[0] / "out" / "global-model.keras"):
        for one, other in zip(here, load(path).get_weights(), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)


def test_deploy_does_not_touch_a_folder_that_is_not_its_own(tmp_path, capsys):
    theirs = tmp_path / "federation" / "thesis.txt"
    theirs.parent.mkdir()
    theirs.write_text("years of work")
    assert main(["deploy", *SMALL, "--out", str(tmp_path)]) == 1
    assert "not made by" in capsys.readouterr().err
    assert theirs.read_text() == "years of work"


def test_ctrl_c_ends_all_processes(tmp_path):
    command = [sys.executable, "-m", "fedtutor", "deploy", *SMALL, "--out", str(tmp_path / "out")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        for line in process.stdout:
            if "connected over TLS" in line:
                break
        assert len(ours(tmp_path)) > 3
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert "stopped" in process.stderr.read()
    assert ours(tmp_path) == []


@pytest.mark.parametrize("option", [["--hospitals", "0"], ["--rounds", "1", "--kill-one"]])
def test_what_cannot_be_deployed_is_refused_in_one_line(option, tmp_path, capsys):
    assert main(["deploy", *option, "--out", str(tmp_path)]) in (1, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("fedtutor: ")
