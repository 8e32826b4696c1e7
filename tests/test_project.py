"""The project's own files: versions in one place, a light import, help that helps."""

from __future__ import annotations

import importlib.metadata
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

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = dict(
    line.split("==") for line in (ROOT / "requirements.lock").read_text().splitlines() if line
)


def canonical(name):
    return name.lower().replace("_", "-").replace(".", "-")


PINNED = {canonical(name): Version(version) for name, version in LOCK.items()}
WANTED = [Requirement(text) for text in PROJECT["dependencies"]] + [
    Requirement(text) for text in PROJECT["optional-dependencies"]["test"]
]


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


def test_conda_uses_the_lock_and_a_python_that_fits():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *packages, pip = environment["dependencies"]
    assert pip == {"pip": ["-r requirements.lock", "-e ."]}
    (python,) = [text for text in packages if text.startswith("python=")]
    assert SpecifierSet(PROJECT["requires-python"]).contains(python.removeprefix("python=") + ".0")


def test_no_file_names_a_package_index():
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    assert "@" not in lock


def test_every_data_set_has_a_card_that_names_its_licence_and_files():
    from fedtutor.datasets import DATASETS

    for info in DATASETS.values():
        card = (ROOT / "datasets" / info.name / "README.md").read_text()
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


@pytest.mark.parametrize("command", [[], ["run"], ["check"], ["datasets"]])
def test_every_command_has_a_help_text(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([*command, "--help"])
    assert len(capsys.readouterr().out) > 200


def test_the_help_names_every_strategy_and_partition(capsys):
    from fedtutor.federation import STRATEGIES
    from fedtutor.partition import SCHEMES

    with pytest.raises(SystemExit):
        main(["run", "--help"])
    text = capsys.readouterr().out
    for word in (*STRATEGIES, *SCHEMES):
        assert word in text


def test_check_says_that_this_machine_can_run_the_course(capsys):
    assert main(["check"]) == 0
    assert "can run the course" in capsys.readouterr().out


def test_check_prints_the_fix_for_what_is_missing(monkeypatch, capsys):
    def missing(name):
        if name == "nbval":
            raise importlib.metadata.PackageNotFoundError
        return PINNED[canonical(name)].public

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert main(["check"]) == 1
    text = capsys.readouterr().out
    assert "MISSING" in text
    assert "pip install -r requirements.lock" in text


def test_datasets_lists_names_licences_and_presence(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("FEDTUTOR_DATA", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["datasets"]) == 0
    text = capsys.readouterr().out
    for word in ("chest-phantoms", "oct-phantoms", "pneumoniamnist", "CC BY 4.0", "generated"):
        assert word in text
