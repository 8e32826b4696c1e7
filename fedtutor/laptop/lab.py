"""``fedtutor lab``: the course in a folder of the learner's own, and JupyterLab on it."""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from fedtutor.errors import FedtutorError
from fedtutor.support.language import LANGUAGE
from fedtutor.support.output import check_writable, whole, write_text
from fedtutor.support.places import material
from fedtutor.support.system import ask_to_end

COURSE = (
    *("notebooks/**/*.ipynb", "notebooks/**/*.md", "notebooks/**/*.py"),
    *("datasets/README.md", "datasets/*/README.md", "site/explorer.html"),
)
FIRST = "notebooks/00_start_here.ipynb"
NOTE = ".fedtutor.json"
"""What was copied into a folder: a hash of each file, by its path."""


def copy_course(folder: Path) -> dict[str, list[str]]:
    """Copy the notebooks, their solutions and the data sets' cards, over nothing of the learner's.

    A notebook is the learner's as soon as the text of its cells is not what was copied; outputs do
    not count, as running it changes them. Such a file is kept, and if it is another in the course
    by now, that one is put beside it, as ``NAME.new.ipynb``.

    Returns
    -------
    The files, by what was done: "copied" (they were not there), "updated", "kept", "beside".
    """
    note, done = check_writable(folder) / NOTE, dict[str, list[str]]()
    before, course = dict[str, str](), course_hashes()
    with suppress(FileNotFoundError, ValueError, TypeError):  # without it, all that differs is kept
        before |= json.loads(note.read_text(encoding="utf-8"))
    for name, new in course.items():
        target = folder / name
        old = content_hash(target) if target.is_file() else None
        if old == new:
            continue
        what = "copied" if old is None else "updated" if old == before.get(name) else "kept"
        done.setdefault(what, []).append(name)
        if what == "kept":
            if new == before.get(name):
                continue
            target = _beside(target)
            done.setdefault("beside", []).append(target.relative_to(folder).as_posix())
        with whole(target) as temporary:
            shutil.copyfile(material() / name, temporary)
    write_text(note, json.dumps(course, indent=1))
    return done


def course_hashes() -> dict[str, str]:
    """Return the hash of each file of the installed course, by its path."""
    root = material()
    files = {p.relative_to(root).as_posix(): p for one in COURSE for p in root.glob(one)}
    return {name: content_hash(files[name]) for name in sorted(files) if "/." not in name}


def content_hash(file: Path) -> str:
    """Return a hash of a file; of a notebook that of its cells' text, without their outputs."""
    content = file.read_bytes()
    if file.suffix == ".ipynb":
        with suppress(ValueError, KeyError, TypeError):  # what is no notebook is hashed as it is
            cells = [(c["cell_type"], "".join(c["source"])) for c in json.loads(content)["cells"]]
            content = json.dumps(cells).encode()
    return hashlib.sha256(content).hexdigest()


def _beside(file: Path) -> Path:
    """Return ``NAME.new.ipynb``, or if that is taken the first of ``NAME.new1.ipynb`` and so on."""
    names = (file.with_suffix(f".new{number or ''}{file.suffix}") for number in itertools.count())
    return next(path for path in names if not path.exists())


def serve(root: Path, options: Sequence[str] = ()) -> int:
    """Run JupyterLab in the folder ``root`` until it is ended, and return its exit code.

    Its kernel "Python 3" is this very Python, whatever kernel of that name others have installed.
    """
    if not importlib.util.find_spec("jupyterlab"):
        raise FedtutorError("JupyterLab is not installed; 'fedtutor check' says how to get it.")
    from ipykernel.kernelspec import write_kernel_spec

    translated = f"notebooks/{os.environ.get(LANGUAGE)}/00_start_here.ipynb"
    begin = translated if (root / translated).is_file() else FIRST
    with tempfile.TemporaryDirectory(prefix="fedtutor-") as first:
        write_kernel_spec(Path(first) / "kernels" / "python3")
        paths = os.pathsep.join(filter(None, [first, os.environ.get("JUPYTER_PATH")]))
        command = [
            *(sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={root.resolve()}"),
            *(f"--LabApp.default_url=/lab/tree/{begin}", "--ServerApp.answer_yes=True"),
            *("--allow-root", *options),  # in a container everybody is root
        ]
        server = subprocess.Popen(command, env=os.environ | {"JUPYTER_PATH": paths})
        try:
            return server.wait()
        except KeyboardInterrupt:
            ask_to_end(server)  # Ctrl-C has reached JupyterLab as well, SIGTERM has not
            with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
                server.wait(30)
            server.kill()
            raise
