"""How the package is built: who may import whom, how large it may become, what it must not contain.

An import counts wherever it stands: at the top of a file, inside a function, or under
``if TYPE_CHECKING``. A type that is needed from above belongs further down.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "fedtutor"

# From the ground up: a module imports only from its own layer and from those named before it.
LAYERS = (
    "errors",
    "settings",
    "support",
    "cores",
    "images",
    "options",
    "datasets",
    "partition",
    "cohort",
    "model",
    "training",
    "compiled_training",
    "aggregation",
    "evaluation",
    "gradcam",
    "explaining",
    "federation",
    "summary",
    "figures",
    "external",
    "experiment",
    "report",
    "console",
    "topics",
    "deployment",
    "classroom",
    "laptop",
    "cli",
    "__main__",
    "course",
)
AROUND_THE_CORE = {"support", "datasets", "figures", "external", "topics"}
AROUND_THE_CORE |= {"deployment", "classroom", "laptop", "course"}
# What only these layers (and the room itself) may import, however high they stand.
ONLY_FOR = {
    "topics": {"course"},
    "deployment": {"classroom", "cli", "course"},
    "classroom": {"cli", "laptop", "course"},
    "laptop": {"cli"},
    "course": set(),
}
# What these rooms may import besides themselves, though more lies below them.
ONLY_FROM = {
    "datasets": {"errors", "support", "cores", "images"},
    "figures": {"errors", "support", "images", "evaluation", "model"},
}
MOST_LINES_CORE, MOST_LINES = 4_000, 22_180


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def layer(module: str) -> str:
    """Return "report" for ``fedtutor.report.figures``."""
    return module.split(".")[1]


def topic(module: str) -> str | None:
    """Return "privacy" for ``fedtutor.topics.privacy.models``; None outside the topics."""
    parts = module.split(".")
    return parts[2] if parts[1:2] == ["topics"] and len(parts) > 2 else None


def imported_names(tree: ast.Module) -> Iterator[str]:
    """Yield "package.module.name" for ``from package.module import name``, and so on."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "a relative import; write it from fedtutor on"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_modules(tree: ast.Module) -> set[str]:
    """Return the modules of the package that a file imports, wherever in the file."""
    found = set()
    for name in imported_names(tree):
        if name.split(".")[0] == "fedtutor":
            found.add(name if name in MODULES else name.rpartition(".")[0] or name)
    return found


IMPORTS = {name: imported_modules(tree) for name, tree in TREES.items()}
# The root's own names are shortcuts for users, and `fedtutor.__version__`, which anybody may ask.
EDGES = sorted(
    (module, other) for module, others in IMPORTS.items() for other in others - {"fedtutor"}
)


def sentence(module: str, other: str) -> str:
    return f"{module} imports {other}"


def lines_of(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def in_core(module: str) -> bool:
    return module == "fedtutor" or layer(module) not in AROUND_THE_CORE


def test_the_list_of_layers_names_all_there_are():
    assert {layer(module) for module in MODULES if module != "fedtutor"} == set(LAYERS)


def test_nobody_imports_from_a_layer_above():
    height = {name: number for number, name in enumerate(LAYERS)}
    upward = [
        sentence(module, other)
        for module, other in EDGES
        if height.get(layer(other), 0) > height.get(layer(module), len(LAYERS))
    ]
    assert not upward, "\n".join(upward)


def test_the_root_imports_nothing_and_inside_only_its_version_is_asked_for():
    assert not IMPORTS["fedtutor"]
    shortcuts = [
        sentence(module, name)
        for module, tree in TREES.items()
        for name in imported_names(tree)
        if name.startswith("fedtutor.") and name.count(".") == 1 and name not in MODULES
    ]
    assert {text.rpartition(" ")[2] for text in shortcuts} <= {"fedtutor.__version__"}, shortcuts


def test_no_modules_import_each_other_in_a_circle():
    try:
        TopologicalSorter(IMPORTS).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


@pytest.mark.parametrize("room", ONLY_FOR)
def test_some_rooms_are_imported_by_few(room):
    intruders = [
        sentence(module, other)
        for module, other in EDGES
        if layer(other) == room and layer(module) not in ONLY_FOR[room] | {room}
    ]
    assert not intruders, "\n".join(intruders)


@pytest.mark.parametrize("room", ONLY_FROM)
def test_some_rooms_import_few(room):
    astray = [
        sentence(module, other)
        for module, other in EDGES
        if layer(module) == room and layer(other) not in ONLY_FROM[room] | {room}
    ]
    assert not astray, "\n".join(astray)


def test_topics_do_not_import_each_other():
    for module, other in EDGES:
        if topic(module) and topic(other):
            assert topic(module) == topic(other), sentence(module, other)


def test_the_core_is_read_in_an_afternoon():
    core = {module: lines_of(path) for module, path in MODULES.items() if in_core(module)}
    assert sum(core.values()) <= MOST_LINES_CORE, core


def test_the_package_stays_small():
    rooms: dict[str, int] = {}
    for module, path in MODULES.items():
        room = "core" if in_core(module) else layer(module)
        rooms[room] = rooms.get(room, 0) + lines_of(path)
    assert sum(rooms.values()) <= MOST_LINES, rooms


def test_imports_are_sorted_without_exceptions():
    mark = "isort" + ": split"
    assert [m for m, p in MODULES.items() if mark in p.read_text(encoding="utf-8")] == []


def test_nothing_ends_processes_by_their_name():
    word = "p" + "kill"  # it hits what others have started
    folders = (
        ".ci",
        ".github",
        "benchmarks",
        "docs",
        "fedtutor",
        "notebooks",
        "site",
        "tests",
        "tools",
    )
    kinds = {"", ".py", ".md", ".ipynb", ".yml", ".yaml", ".toml", ".cfg", ".cff", ".txt"}
    files = [path for path in ROOT.iterdir() if path.is_file()]
    files += [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    texts = (path for path in files if path.suffix in kinds)
    assert [str(p.relative_to(ROOT)) for p in texts if word in p.read_text("utf-8", "ignore")] == []


def unencoded(tree: ast.Module) -> Iterator[int]:
    """Yield the lines of calls that read or write text in whatever encoding the system has."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or any(k.arg == "encoding" for k in node.keywords):
            continue
        method = getattr(node.func, "attr", None)
        name = method or getattr(node.func, "id", None)
        if method in {"read_text", "write_text"} or (name == "open" and _is_text(node)):
            yield node.lineno


def _is_text(call: ast.Call) -> bool:
    """Whether ``open(path, mode)`` or ``path.open(mode)`` is of text.

    With an argument that is no mode, as in ``Image.open(path)``, it is somebody else's ``open``.
    """
    builtin = isinstance(call.func, ast.Name)
    modes = [k.value for k in call.keywords if k.arg == "mode"] or call.args[builtin:][:1]
    if not modes:
        return builtin or not call.args
    mode = getattr(modes[0], "value", None)
    return isinstance(mode, str) and set(mode) <= set("rwaxt+")


OUTSIDE = {
    path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
    for pattern in ("tools/*.py", "benchmarks/*.py", "site/*.py", "notebooks/appendix/*.py")
    for path in sorted(ROOT.glob(pattern))
}
"""What comes with the package and is run on learners' machines, too."""


def test_text_is_always_read_and_written_in_a_named_encoding():
    trees = TREES | OUTSIDE
    found = [f"{module}:{line}" for module, tree in trees.items() for line in unencoded(tree)]
    assert found == []


# Of the documentation's "Availability: Unix", what Windows lacks or does otherwise.
OS = """
O_CLOEXEC O_DIRECTORY O_DSYNC O_NOCTTY O_NOFOLLOW O_NONBLOCK O_SYNC WEXITSTATUS WIFEXITED
WIFSIGNALED WIFSTOPPED WNOHANG WSTOPSIG WTERMSIG chflags chown chroot confstr copy_file_range
ctermid eventfd fchdir fchmod fchown fdatasync fork forkpty fpathconf fstatvfs get_blocking getegid
geteuid getgid getgrouplist getgroups getloadavg getpgid getpgrp getpriority getrandom getresgid
getresuid getsid getuid getxattr initgroups kill killpg lchflags lchmod lchown listxattr lockf
login_tty major makedev memfd_create minor mkfifo mknod nice openpty pathconf pidfd_open pipe2
posix_fadvise posix_fallocate posix_openpt posix_spawn posix_spawnp pread preadv pwrite pwritev
readv register_at_fork removexattr sched_getaffinity sched_getparam sched_getscheduler
sched_setaffinity sched_setparam sched_setscheduler sched_yield sendfile set_blocking setegid
seteuid setgid setgroups setns setpgid setpriority setregid setresgid setresuid setreuid setsid
setuid setxattr splice statvfs sync sysconf tcgetpgrp tcsetpgrp timerfd_create ttyname uname unshare
wait wait3 wait4 waitid writev
"""
SIGNAL = """
SIGALRM SIGBREAK SIGBUS SIGCHLD SIGCONT SIGHUP SIGIO SIGKILL SIGPIPE SIGPROF SIGQUIT SIGSTOP SIGTERM
SIGTSTP SIGTTIN SIGTTOU SIGUSR1 SIGUSR2 SIGWINCH alarm getitimer pause pthread_kill pthread_sigmask
setitimer siginterrupt sigpending sigtimedwait sigwait sigwaitinfo
"""
POSIX_ONLY = {"os": {"name", *OS.split()}, "signal": set(SIGNAL.split()), "sys": {"platform"}}
POSIX_MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
FOLDERS_OF_POSIX = re.compile(r"(^|[^\w.])/(tmp|var|dev|proc|etc)\b")
EXCEPTIONS = {
    "fedtutor.support.system": "it says what differs",
    "benchmarks/hospitals.py": "the most memory is asked for by another name on each system",
    "benchmarks/__main__.py": "only Linux tells the processor's name, in a file",
    "benchmarks/scale.py": "only Linux tells what of a process's memory is mapped files, in a file",
}


def of_posix(tree: ast.Module) -> Iterator[str]:
    """Yield what Windows has not or means otherwise, and what asks which system it is."""
    for name in imported_names(tree):
        module, _, attribute = name.rpartition(".")
        if {name, module} & POSIX_MODULES or attribute in POSIX_ONLY.get(module, ()):
            yield name
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(
                value=ast.Name(id="os" | "signal" | "sys" as module), attr=attribute
            ):
                if attribute in POSIX_ONLY[module]:
                    yield f"{module}.{attribute}"
            case ast.Call(args=[ast.Name(id="os" | "signal" as module), ast.Constant(name), *_]):
                if name in POSIX_ONLY[module]:  # getattr, hasattr
                    yield f"{module}.{name}"
            case ast.keyword(arg="preexec_fn" as option):
                yield option
            case ast.Constant(value=str(text)) if FOLDERS_OF_POSIX.search(text):
                yield text.strip().splitlines()[0]


def test_what_windows_lacks_stands_in_one_small_module():
    found = {module: set(of_posix(tree)) for module, tree in (TREES | OUTSIDE).items()}
    assert {module: words for module, words in found.items() if words}.keys() == EXCEPTIONS.keys()


@pytest.mark.parametrize(
    "code",
    [
        "import fcntl",
        "from resource import getrusage",
        "from os import fork",
        "os.sysconf('SC_PAGE_SIZE')",
        "hasattr(os, 'sched_getaffinity')",
        "process.send_signal(signal.SIGKILL)",
        "Popen(command, preexec_fn=bind)",
        "mkdtemp(dir='/tmp')",
        "if sys.platform != 'win32': process.terminate()",
        "os.name == 'nt'",
    ],
)
def test_what_windows_lacks_is_seen(code):
    assert len(list(of_posix(ast.parse(code)))) == 1
