"""What is in the wheel and the sdist, and the course from the wheel, with no repository in sight.

Built from a copy of the repository in which data, runs and checkpoints lie about. The build backend
comes from the package index; without one these tests are skipped.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tarfile
import time
import tomllib
import urllib.request
import venv
import zipfile
from pathlib import Path

import psutil
import pytest

import fedtutor

pytestmark = [pytest.mark.process, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[1]
NAME = f"fedtutor-{fedtutor.__version__}"
NOT_OURS = (".git", ".venv*", "__pycache__", ".*_cache", ".hypothesis", ".ipynb_checkpoints")
MATERIAL = ("notebooks/**/*.ipynb", "notebooks/**/*.md", "notebooks/**/*.py", "datasets/**/*.md")
MATERIAL += ("site/explorer.html",)
LEFT_BEHIND = (
    "datasets/pneumoniamnist/pneumoniamnist.npz",
    "datasets/nih-chestxray14/images/00000001_000.png",
    "datasets/nih-chestxray14/images/README.md",
    "datasets/my-own/patient.png",
    "notebooks/.ipynb_checkpoints/00_start_here-checkpoint.ipynb",
    "notebooks/appendix/for_tff.npz",
    "notebooks/fedtutor-run/model.keras",
    "notebooks/xray.png",
    "fedtutor-course/notebooks/00_start_here.ipynb",
    "xrays/patient.png",
    "benchmarks/results-quick.json",
    ".venv-tff/lib/x.py",
)


def run(*command, **options):
    """Run a command to its end, and return what it has printed."""
    done = subprocess.run(
        list(map(str, command)), stdout=-1, stderr=-2, encoding="utf-8", timeout=600, **options
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def backend(tmp_path_factory):
    """The environment of a build: the backend that pyproject.toml asks for, and nothing of ours."""
    folder = tmp_path_factory.mktemp("backend")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", folder]
    try:
        run(*pip, *project["build-system"]["requires"])
    except AssertionError as error:
        pytest.skip(f"the build backend cannot be had, so nothing is built: {str(error)[-200:]}")
    return os.environ | {"PYTHONPATH": str(folder)}


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A copy of the repository, with all that may lie about in one."""
    folder = tmp_path_factory.mktemp("clone") / "fedtutor"
    shutil.copytree(ROOT, folder, ignore=_not_ours)
    for name in LEFT_BEHIND:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("left behind", encoding="utf-8")
    return folder


def _not_ours(folder, names):
    """Leave out what may be large: environments, and the data of this very clone."""
    in_a_set = Path(folder).parent == ROOT / "datasets"
    data = {name for name in names if in_a_set and name != "README.md"}
    return data | shutil.ignore_patterns(*NOT_OURS)(folder, names)


@pytest.fixture(scope="module")
def built(repository, backend, tmp_path_factory):
    """The folder with the wheel and the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    build = (sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-t", "wheel")
    run(*build, "-d", folder, cwd=repository, env=backend)
    return folder


@pytest.fixture(scope="module")
def wheel(built):
    return built / f"{NAME}-py3-none-any.whl"


@pytest.fixture(scope="module")
def unpacked(built, tmp_path_factory):
    """The sdist's folder."""
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(built / f"{NAME}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder / NAME


def files(folder, *patterns):
    found = {p.relative_to(folder).as_posix() for one in patterns for p in folder.glob(one)}
    return {name for name in found if (folder / name).is_file()} - set(LEFT_BEHIND)


def test_the_wheel_brings_the_whole_course_and_no_data(wheel, repository):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"fedtutor/py.typed", "fedtutor/report/page.html.jinja"} <= names
    package = files(repository, "fedtutor/**/*")
    course = {f"fedtutor/_material/{name}" for name in files(repository, *MATERIAL)}
    assert len(course) > 40
    assert {name for name in names if ".dist-info/" not in name} == package | course


def test_the_sdist_brings_all_to_build_and_test_and_no_data(unpacked, repository):
    brought = files(unpacked, "**/*")
    assert brought <= files(repository, "**/*") | {"PKG-INFO"}
    needed = ("fedtutor/**/*", "tests/**/*.py", "tools/*", "benchmarks/*", "*.*", "Makefile")
    assert files(repository, *needed, ".github/**/*", *MATERIAL) - brought == {".editorconfig"}
    assert sum((unpacked / name).stat().st_size for name in brought) < 13_000_000
    assert not [name for name in LEFT_BEHIND if (unpacked / name).exists()]


def test_a_wheel_built_from_the_sdist_is_the_same(unpacked, wheel, backend, tmp_path):
    build = (sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path)
    run(*build, cwd=unpacked, env=backend)
    ours, theirs = (zipfile.ZipFile(folder / wheel.name) for folder in (wheel.parent, tmp_path))
    crcs = [{i.filename: i.CRC for i in archive.infolist()} for archive in (ours, theirs)]
    assert crcs[0] == crcs[1]


@pytest.fixture(scope="module")
def bare(wheel, tmp_path_factory):
    """The Python of an environment with the wheel in it, a folder elsewhere, and what is set there.

    All that the package needs comes from the environment of these tests, but not what that has
    been told of this repository: it is told so in .pth files of its own, which are not read.
    """
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder / "venv", with_pip=False, symlinks=os.name != "nt")
    scripts = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / Path(sys.executable).name
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (site / "ours.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    shutil.copytree(Path(sys.prefix) / "share" / "jupyter", folder / "venv" / "share" / "jupyter")
    run(
        sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel
    )
    hidden = ("PYTHONPATH", "FEDTUTOR_DATA", "JUPYTER_PATH", "VIRTUAL_ENV", "XDG_DATA_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    home = folder / "home"
    homes = {"HOME": home, "USERPROFILE": home, "LOCALAPPDATA": home, "APPDATA": home}
    environment |= {name: str(path) for name, path in homes.items()} | {"JUPYTER_TOKEN": "token"}
    environment["PATH"] = os.pathsep.join([str(scripts), environment["PATH"]])
    (folder / "elsewhere").mkdir()
    home.mkdir()
    return scripts, {"cwd": folder / "elsewhere", "env": environment}


def test_the_package_and_the_course_are_those_of_the_wheel(bare):
    scripts, there = bare
    code = "import fedtutor; from fedtutor.support import places; "
    code += "print(fedtutor.__file__, places.material(), places.data_folder(), sep='\\n')"
    lines = run(scripts / "python", "-c", code, **there).splitlines()
    assert all(str(there["cwd"].parent) in line for line in lines), lines
    assert str(ROOT) not in "".join(lines)


def test_check_is_content(bare):
    scripts, there = bare
    text = run(scripts / "fedtutor", "check", **there)
    assert "This machine can run the course." in text
    assert "tested with" not in text


def test_the_main_job_runs(bare, corners, tmp_path):
    """On few images: the phantoms are drawn by the wheel in the notebook below."""
    scripts, there = bare
    options = ("--dataset", corners, "--hospitals", "2", "--rounds", "1")
    run(scripts / "fedtutor", "run", *options, **there)
    summary = json.loads((there["cwd"] / "fedtutor-run" / "summary.json").read_text("utf-8"))
    assert summary["auc"]["federated"] > 0


@pytest.fixture(scope="module")
def course(bare):
    """A learner's folder, with a space in its name."""
    scripts, there = bare
    text = run(scripts / "fedtutor", "lab", "my course", "--copy-only", **there)
    assert text.splitlines()[0] == f"The course is in {there['cwd'] / 'my course'}"
    return there["cwd"] / "my course"


def test_a_notebook_gives_its_stored_outputs(bare, course):
    scripts, there = bare
    quick = course / "notebooks" / "solutions" / "09_differential_privacy.ipynb"
    options = ("-c", os.devnull, "-p", "no:cacheprovider")
    text = run(scripts / "python", ROOT / "tools" / "compare.py", quick, *options, **there)
    assert " passed" in text
    assert str(ROOT / "fedtutor") not in text


@pytest.fixture
def lab(bare, course, tmp_path):
    """JupyterLab on that folder: how to ask it, and its process."""
    scripts, there = bare
    kernels = tmp_path / "kernels"
    for name in ("python3", "another"):
        (kernels / name).mkdir(parents=True)
        spec = json.dumps({"argv": ["other"], "display_name": name})
        (kernels / name / "kernel.json").write_text(spec, encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [str(scripts / "fedtutor"), "lab", str(course), "--no-browser", "--port", port]
    there = there | {"env": there["env"] | {"JUPYTER_PATH": str(tmp_path)}}
    log = tmp_path / "log.txt"
    with log.open("wb") as out:
        server = subprocess.Popen(command, stdout=out, stderr=out, **there)

    def ask(path, data=None):
        url, headers = f"http://127.0.0.1:{port}/api/{path}", {"Authorization": "token token"}
        request = urllib.request.Request(url, data, headers)
        with urllib.request.urlopen(request, timeout=10) as reply:
            return json.load(reply)

    deadline = time.monotonic() + 600  # on a machine that is busy
    while server.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            ask("status")
            break
        time.sleep(0.2)
    yield ask, server, log
    server.kill()
    server.wait()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM that a program could act on")
def test_jupyterlab_serves_the_course_with_this_python_and_nothing_outlives_it(bare, lab):
    ask, server, log = lab
    listed = {entry["name"] for entry in ask("contents/notebooks")["content"]}
    assert "00_start_here.ipynb" in listed, log.read_text(encoding="utf-8")
    specs = ask("kernelspecs")["kernelspecs"]
    assert Path(specs["python3"]["spec"]["argv"][0]).parent == bare[0]
    assert specs["another"]["spec"]["argv"] == ["other"]
    ask("kernels", b'{"name": "python3"}')
    family = psutil.Process(server.pid).children(recursive=True)
    assert len(family) >= 2
    server.terminate()
    assert server.wait(60) == 130
    assert psutil.wait_procs(family, 30)[1] == []
    text = log.read_text(encoding="utf-8")
    assert "Kernel shutdown" in text
    assert text.rstrip().endswith("fedtutor: stopped.")
