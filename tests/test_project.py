"""The project's own files: versions in one place, documents that hold, a light import, help."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

import fedtutor
from fedtutor.cli import main
from fedtutor.laptop import check

ROOT = Path(__file__).resolve().parents[1]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


PYPROJECT = tomllib.loads(read("pyproject.toml"))
PROJECT = PYPROJECT["project"]
EXTRAS = PROJECT["optional-dependencies"]
LOCK = [Requirement(line) for line in read("requirements.lock").splitlines()]


def canonical(name):
    return name.lower().replace("_", "-").replace(".", "-")


def pinned_for(**system):
    """Return the version of each package that the lock names for a system; by default for this."""
    lines = [line for line in LOCK if line.marker is None or line.marker.evaluate(system)]
    names = [canonical(line.name) for line in lines]
    assert len(names) == len(set(names))
    return {canonical(line.name): Version(str(line.specifier)[2:]) for line in lines}


PINNED = pinned_for()
TEXTS = [*PROJECT["dependencies"], *EXTRAS["ray"], *EXTRAS["test"]]
WANTED = [Requirement(text) for text in TEXTS if not text.startswith("fedtutor[")]


@pytest.mark.parametrize("requirement", WANTED, ids=str)
def test_the_lock_holds_what_pyproject_asks_for(requirement):
    assert requirement.specifier.contains(PINNED[canonical(requirement.name)])


def test_the_lock_holds_all_that_its_packages_need():
    for name in PINNED:
        for text in importlib.metadata.distribution(name).requires or []:
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                assert needed.specifier.contains(PINNED[canonical(needed.name)], prereleases=True)


def test_what_is_installed_is_what_is_locked():
    for name, version in PINNED.items():
        assert Version(importlib.metadata.version(name)) == version


SYSTEMS = {
    "Windows": {"sys_platform": "win32", "os_name": "nt"},
    "macOS": {"sys_platform": "darwin", "os_name": "posix"},
    "Linux": {"sys_platform": "linux", "os_name": "posix"},
}


@pytest.mark.parametrize("python", ["3.11.0", "3.11.5", "3.12.0", "3.13.0"])
@pytest.mark.parametrize("system", SYSTEMS)
def test_the_lock_is_for_every_system_and_python(system, python):
    version = {"python_full_version": python, "python_version": python[:4]}
    pinned = pinned_for(**SYSTEMS[system], platform_system=system, **version)
    windows = system == "Windows"
    assert ("uvloop" in pinned) is not windows
    assert ("pywinpty" in pinned) is windows
    assert ("ray" in pinned) is not (windows and python == "3.13.0")
    assert ("appnope" in pinned) is (system == "macOS")
    assert str(pinned["soupsieve"]) == ("2.10" if python == "3.11.0" else "4.1.2")


def test_ci_looks_at_the_lock_and_windows_installs_from_it():
    assert "make check-lock\n" in read(".ci/run")
    jobs = yaml.safe_load(read(".github/workflows/test.yml"))["jobs"]
    complete, quick = (
        [step.get("run", "") for step in jobs[job]["steps"]] for job in ("complete", "quick")
    )
    assert any("tools/check_lock.py --strict" in run for run in complete)
    assert any("python -m pip install -r requirements.lock" in run for run in quick)


STUB = """#!/bin/sh
case "$*" in *"pip show"*) exit ${NO_TORCH};; esac
echo "$*" >> "$0.asked"
"""


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere PyTorch comes without CUDA")
@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
@pytest.mark.parametrize(
    ("there", "options", "installs"), [(0, [], False), (0, ["YES=1"], True), (1, [], True)]
)
def test_make_torch_asks_before_it_brings_cuda(there, options, installs, tmp_path):
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(STUB, encoding="utf-8")
    python.chmod(0o755)
    (tmp_path / ".ready").touch()
    done = subprocess.run(
        ["make", f"VENV={tmp_path}", "torch", *options],
        cwd=ROOT,
        env=os.environ | {"NO_TORCH": str(1 - there)},
        capture_output=True,
        encoding="utf-8",
    )
    asked = python.with_name("python.asked")
    assert asked.exists() is installs
    assert ("pip install" in asked.read_text("utf-8")) if installs else "2.7 GB" in done.stdout
    assert (done.returncode == 0) is installs


@pytest.mark.process
@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_make_says_at_once_that_an_intel_mac_has_no_tensorflow(tmp_path):
    text = "import platform\nplatform.system, platform.machine = lambda: 'Darwin', lambda: 'x86_64'"
    (tmp_path / "sitecustomize.py").write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["make", f"PYTHON={sys.executable}", f"VENV={tmp_path / 'venv'}", "setup"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode
    assert done.stderr.startswith(
        "TensorFlow has no wheel for Intel Macs or a Python made for them"
    )
    assert not (tmp_path / "venv").exists()


def test_ray_is_an_extra_and_the_tests_have_it():
    assert not [text for text in PROJECT["dependencies"] if "simulation" in text or "ray" in text]
    assert "fedtutor[ray]" in EXTRAS["test"]
    assert "fedtutor[ray]" in EXTRAS["bench"]


ONLY_IN_EXTRAS = ("ray", "pytest", "nbval", "hypothesis", "mypy", "torch", "kagglehub", "_pytest")
IMPORT_ALL = f"""
import importlib, pkgutil, sys
sys.modules.update(dict.fromkeys({ONLY_IN_EXTRAS}))
import fedtutor
for module in pkgutil.walk_packages(fedtutor.__path__, "fedtutor."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""


@pytest.mark.slow
@pytest.mark.process
def test_every_module_is_imported_without_any_extra():
    command = [sys.executable, "-c", IMPORT_ALL]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr


def test_conda_uses_the_lock_and_a_python_that_fits():
    environment = yaml.safe_load(read("environment.yml"))
    *packages, pip = environment["dependencies"]
    assert pip == {"pip": ["-r requirements.lock", "."]}
    (python,) = [text for text in packages if text.startswith("python=")]
    assert SpecifierSet(PROJECT["requires-python"]).contains(python.removeprefix("python=") + ".0")


def test_no_file_names_a_package_index():
    lock = read("requirements.lock")
    assert "://" not in lock
    assert "@" not in lock


def test_every_data_set_has_a_card_that_names_its_licence_and_files():
    from fedtutor.datasets import DATASETS

    for info in DATASETS.values():
        card = read(f"datasets/{info.name}/README.md")
        assert info.licence.split(",")[0] in card
        assert info.source in card or info.synthetic
        files = [file.name for file in info.parts.values()]
        assert all(file in card for file in files[:1] + files[-1:])
        assert info.images is None or f"{info.images:,}" in card
        assert info.patients is None or f"{info.patients:,}" in card
        needed = ("Licence:", "Traps:", "Who must not be harmed:")
        for heading in needed if info.synthetic else (*needed, "Cite:", "Labels:", "By hand:"):
            assert heading in card
        assert ("(synthetic)" in card) == info.synthetic


def test_the_list_of_data_sets_links_to_every_card():
    from fedtutor.datasets import DATASETS

    links = re.findall(r"\]\(([\w-]+)/README\.md\)", read("datasets/README.md"))
    assert sorted(links) == sorted(DATASETS)


DOCUMENTS = [
    *ROOT.glob("*.md"),
    *(
        path
        for folder in ("docs", "notebooks", "benchmarks")
        for path in ROOT.glob(f"{folder}/**/*.md")
    ),
    *ROOT.glob("datasets/README.md"),
    *ROOT.glob("datasets/*/README.md"),
]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_links_to_is_there(document):
    text = document.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        target, _, anchor = link.partition("#")
        if "://" in link:
            continue
        file = document.parent / target if target else document
        assert file.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), flags=re.M)
            assert anchor in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_make_target_that_a_document_names_exists(document):
    targets = re.findall(r"^([a-z-]+):", read("Makefile"), flags=re.M)
    blocks = re.findall(r"```sh\n(.*?)```|`([^`\n]+)`", document.read_text("utf-8"), flags=re.S)
    code = "\n".join(block or span for block, span in blocks)
    assert set(re.findall(r"^make ([a-z-]+)", code, flags=re.M)) <= set(targets)


def test_the_minutes_of_the_teacher_s_plans_add_up():
    plans = read("notebooks/TEACHING.md").split("## Three plans")[1].split("\n## ")[0]
    for title, plan in re.findall(r"^### (.*)\n((?:(?!###).*\n)*)", plans, flags=re.M):
        whole = int(re.search(r"(\d+) minutes", title)[1])
        assert sum(map(int, re.findall(r"^\| (\d+) \|", plan, flags=re.M))) == whole, title


def test_the_front_page_is_read_in_a_few_minutes():
    assert len(read("README.md").splitlines()) <= 150


def test_licence_and_versions_agree():
    citation = yaml.safe_load(read("CITATION.cff"))
    assert PROJECT["license"] == citation["license"] == "Apache-2.0"
    assert "Apache License\n                           Version 2.0" in read("LICENSE")
    assert fedtutor.__version__ == PROJECT["version"] == citation["version"]
    assert f"## [{fedtutor.__version__}]" in read("CHANGELOG.md")
    assert PROJECT["urls"]["Homepage"] == citation["repository-code"]


def test_the_workflow_runs_every_python_on_three_systems_and_may_write_nothing():
    workflow = yaml.safe_load(read(".github/workflows/test.yml"))
    assert workflow["permissions"] == {"contents": "read"}
    strategy = workflow["jobs"]["quick"]["strategy"]
    assert strategy["fail-fast"] is False
    assert {name.split("-")[0] for name in strategy["matrix"]["os"]} == {
        "ubuntu",
        "macos",
        "windows",
    }
    known = [text.split(" :: ")[-1] for text in PROJECT["classifiers"] if "Python :: 3." in text]
    assert strategy["matrix"]["python"] == known
    assert all(SpecifierSet(PROJECT["requires-python"]).contains(f"{python}.0") for python in known)
    for job in workflow["jobs"].values():
        (checkout,) = [step for step in job["steps"] if "checkout" in step.get("uses", "")]
        assert checkout["with"] == {"persist-credentials": False}


@pytest.fixture(scope="module")
def tracked():
    """The paths of all files that git keeps, from the root on."""
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("no clone, or no git")
    command = ["git", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return [name for name in listed.stdout.decode().split("\0") if name]


@pytest.mark.process
def test_files_keep_their_names_on_every_system(tracked):
    assert len({name.casefold() for name in tracked}) == len(tracked)
    parts = {part.casefold() for name in tracked for part in name.split("/")}
    assert not {part.split(".")[0] for part in parts} & {"con", "prn", "aux", "nul", "com1", "lpt1"}
    assert not [part for part in parts if re.search(r'[<>:"|?*\\]|[ .]$', part)]
    assert max(map(len, tracked)) < 100  # of the 260 that a path may have on Windows


@pytest.mark.process
def test_a_checkout_on_windows_has_the_same_bytes(tracked, tmp_path):
    """Hashes, stored outputs and digests are those of files with LF."""
    git = ["git", "-c", "core.autocrlf=true", "-c", "core.eol=crlf"]
    command = [*git, "checkout-index", "--all", f"--prefix={tmp_path.as_posix()}/"]
    subprocess.run(command, cwd=ROOT, check=True)
    for name in tracked:
        content = (tmp_path / name).read_bytes()
        if b"\0" in content:
            assert f"*{Path(name).suffix} binary" in read(".gitattributes"), name
        else:
            assert b"\r" not in content, name


def test_pre_commit_tidies_with_the_locked_ruff():
    hooks = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    (ruff,) = [hook for hook in hooks if hook["repo"].endswith("ruff-pre-commit")]
    assert ruff["rev"] == f"v{PINNED['ruff']}"


@pytest.mark.process
def test_importing_fedtutor_loads_nothing_heavy():
    code = "import sys, fedtutor; print(*{m.split('.')[0] for m in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert not {"tensorflow", "keras", "flwr", "pandas", "numpy", "matplotlib"} & set(
        loaded.split()
    )


def test_every_public_name_is_there():
    for name in fedtutor.__all__:
        assert getattr(fedtutor, name) is not None
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        fedtutor.nothing_of_the_kind  # noqa: B018


@pytest.mark.parametrize("command", [[], ["run"], ["check"], ["lab"], ["datasets"]])
def test_every_command_has_a_help_text(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([*command, "--help"])
    assert len(capsys.readouterr().out) > 200


def test_the_help_names_every_strategy_and_partition(capsys):
    from fedtutor.federation import STRATEGIES
    from fedtutor.partition import DEALS

    with pytest.raises(SystemExit):
        main(["run", "--help"])
    text = capsys.readouterr().out
    for word in (*STRATEGIES, *DEALS, "by:COLUMN"):
        assert word in text


def test_check_says_that_this_machine_can_run_the_course(capsys):
    assert main(["check"]) == 0
    assert "can run the course" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("clone", "fix"),
    [
        (ROOT, "make setup; or pip install -r requirements.lock, then"),
        (None, "pip install fedtutor"),
    ],
    ids=["clone", "wheel"],
)
def test_check_prints_the_fix_for_what_is_missing(clone, fix, monkeypatch, capsys):
    def missing(name):
        if name == "seaborn":
            raise importlib.metadata.PackageNotFoundError
        return PINNED[canonical(name)].public

    monkeypatch.setattr(importlib.metadata, "version", missing)
    monkeypatch.setattr(check, "clone", lambda: clone)
    assert main(["check"]) == 1
    text = capsys.readouterr().out
    assert "MISSING  seaborn" in text
    assert f"seaborn: {fix}" in text
    assert "\x1b" not in text
