"""Every exercise of the course, whichever notebook it is of."""

from __future__ import annotations

import _thread
import importlib
import inspect
import re
import signal
import sys
import textwrap
import threading
from pathlib import Path

import nbformat
import numpy as np
import pytest
from jupyter_client.manager import start_new_kernel
from wrong import WRONG

from fedtutor.course import exercises
from fedtutor.course.exercises import REGISTRY, Wrong, check, exercise, judge, one_number, yours
from fedtutor.course.lessons import LESSONS

ROOT = Path(__file__).resolve().parents[2]
for lesson in LESSONS.values():
    importlib.import_module(f"fedtutor.course.lessons.{lesson}")
    if (Path(__file__).with_name("wrong_answers") / f"{lesson}.py").exists():
        importlib.import_module(f"wrong_answers.{lesson}")
NUMBERS = sorted(REGISTRY)


@pytest.fixture(autouse=True)
def nobody_has_failed():
    exercises._failures.clear()


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setattr(exercises, "REGISTRY", {})

    @exercise("""99.1, double it
        More: return x + x""")
    def doubled(double):
        if one_number(double(3)) == 9:
            raise Wrong("""That is the square, where
                the double is asked for.
                Hint: add.
                More: do not multiply x by x.""")
        if double(3) != 6:
            raise Wrong("""Three does not become six.
                Hint: add.""")

    return doubled


def code_of(path):
    notebook = nbformat.read(path, as_version=4)
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def notebook_of(number, folder=""):
    pattern = {"A1": "tensorflow_federated", "A2": "pytorch_client"}.get(number[:2])
    notebooks = ROOT / "notebooks" / ("appendix" if pattern else "") / folder
    (path,) = notebooks.glob(f"{pattern or number[:2] + '_*'}.ipynb")
    return path


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("lesson", LESSONS)
def test_every_solution_is_right(lesson):
    """By its stored output, which `make test` compares with what the notebook prints."""
    notebook = nbformat.read(notebook_of(lesson, "solutions"), as_version=4)
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    said = "".join(out.get("text", "") for out in outputs)
    right = re.findall(r"^Exercise (\S+), .*: right\.", said, flags=re.M)
    assert right == [number for number in NUMBERS if number.startswith(f"{lesson}.")]


@pytest.mark.parametrize("number", NUMBERS)
def test_every_exercise_is_in_its_notebook_and_waits_there(number):
    path = notebook_of(number)
    assert f'check("{number}"' in "\n".join(code_of(path))
    said = path.read_text()
    assert f"Exercise {number}, {REGISTRY[number].title}: not done yet." in said


RUN_ON = [
    number for number in NUMBERS if f'yours("{number}"' in "".join(code_of(notebook_of(number)))
]


@pytest.mark.parametrize("number", RUN_ON)
def test_what_stands_in_for_an_answer_is_right_and_takes_what_the_stub_takes(number):
    found, code = REGISTRY[number], "\n".join(code_of(notebook_of(number)))
    assert judge(found, found.reference) == "right. Well done."
    (name,) = re.findall(rf'^check\("{number}", (\w+)\)', code, flags=re.M)
    if callable(found.reference) and (
        stub := re.search(rf"^def {name}\((.*?)\):", code, flags=re.M)
    ):
        asked = [argument.split(":")[0].split("=")[0].strip() for argument in stub[1].split(",")]
        assert list(inspect.signature(found.reference).parameters)[: len(asked)] == asked


@pytest.mark.parametrize("number", RUN_ON)
def test_the_solutions_run_the_experiment_on_the_answer(number):
    """As their stored outputs say, which `make test` compares with what they print."""
    path = notebook_of(number, "solutions")
    assert f"From here on, {REGISTRY[number].title}: your own answer." in path.read_text("utf-8")


@pytest.mark.parametrize("number", NUMBERS)
def test_every_wrong_answer_gets_a_hint_of_its_own_and_then_a_stronger_one(number):
    found, said = REGISTRY[number], []
    for answer in WRONG[number].values():
        exercises._failures.clear()
        first, second = judge(found, answer), judge(found, answer)
        assert "Hint: " in first
        assert "Stronger hint" not in first
        assert second.startswith(first)
        assert "Stronger hint: " in second
        assert "Your code stopped" not in first
        said.append(first)
    assert len(said) >= 2
    assert len(set(said)) == len(said)


def stub(*args, **kwargs):
    """A function that nobody has filled in."""


def asks_for_a_function(number):
    return all(map(callable, WRONG[number].values()))


@pytest.mark.parametrize(
    ("number", "answer"),
    [(number, answer) for number in NUMBERS for answer in (None, ...)]
    + [(number, stub) for number in filter(asks_for_a_function, NUMBERS)],
)
def test_an_untouched_exercise_is_not_a_failure(number, answer):
    assert judge(REGISTRY[number], answer).startswith("not done yet.")
    assert not exercises._failures[number]


def test_a_mistake_is_said_in_lines_and_without_a_stronger_hint_takes_that_of_the_exercise(toy):
    said = ["not yet.", "That is the square, where the double is asked for.", "Hint: add."]
    assert judge(toy, lambda x: x * x).splitlines() == said
    assert judge(toy, lambda x: x * x).splitlines()[3] == "Stronger hint: do not multiply x by x."
    assert judge(toy, lambda x: x).splitlines()[3] == "Stronger hint: return x + x"


def test_a_right_answer_runs_the_course_and_any_other_leaves_it_to_the_reference(
    capsys, monkeypatch
):
    monkeypatch.setattr(exercises, "REGISTRY", {})

    def reference(x):
        return 2 * x

    @exercise("99.1, double it", reference)
    def doubled(double):
        if double(3) != 6:
            raise Wrong("no. Hint: add.")

    mine = lambda x: x + x  # noqa: E731
    assert yours("99.1", mine) is mine
    assert "double it: your own answer." in capsys.readouterr().out
    for answer in (None, ..., stub, lambda x: x * x, lambda: 1 / 0, sys.exit, 7):
        assert yours("99.1", answer) is reference
        assert "double it: the package's own, until yours is right." in capsys.readouterr().out


@pytest.mark.parametrize("answer", ["six", True, [6], {6}, print])
def test_where_a_number_is_asked_for_nothing_else_will_do(toy, answer):
    assert f"yours is a {type(answer).__name__}" in judge(toy, lambda x: answer)


@pytest.mark.parametrize("answer", [6, 6.0, np.int64(6), np.float32(6), np.array(6)])
def test_a_number_may_come_from_numpy(toy, answer):
    assert judge(toy, lambda x: answer).startswith("right")


def test_a_right_answer_forgets_former_failures(toy, capsys):
    check("99.1", lambda x: x)
    check("99.1", lambda x: 2 * x)
    check("99.1", lambda x: x)
    said = capsys.readouterr().out
    assert "Exercise 99.1, double it: right." in said
    assert "Stronger" not in said


def test_code_that_stops_is_answered_kindly_with_its_line(toy):
    def double(x):
        return x + missing  # noqa: F821

    assert "NameError: name 'missing' is not defined" in judge(toy, double)
    assert "in line" in judge(toy, double)


@pytest.mark.parametrize("end", [sys.exit, lambda: sys.exit("done")])
def test_an_answer_that_ends_python_earns_a_hint(toy, end):
    said = judge(toy, lambda x: end())
    assert "asked Python itself to end" in said
    assert "Hint: `return` ends a function" in said


def turns(x):
    while True:
        pass


def turns_and_catches(x):
    while True:
        try:
            x += 1
        except Exception:
            x = 0


@pytest.mark.parametrize("endless", [turns, turns_and_catches])
def test_an_answer_that_does_not_end_is_stopped_and_earns_a_hint(toy, endless, monkeypatch):
    monkeypatch.setattr(exercises, "TIME_LIMIT", 0.2)
    ended = threading.Event()

    def answer(x):
        try:
            return endless(x)
        finally:
            ended.set()

    said = judge(toy, answer)
    assert "still running after 0.2 seconds" in said
    assert "Hint: does every loop come to an end?" in said
    ended.wait()  # it is not left behind
    monkeypatch.undo()
    assert judge(toy, answer=lambda x: 2 * x).startswith("right")


def test_an_answer_that_catches_everything_is_left_behind_with_the_same_hint(toy, monkeypatch):
    monkeypatch.setattr(exercises, "TIME_LIMIT", 0.2)
    enough = threading.Event()

    def stubborn(x):
        while True:
            try:
                if enough.wait(0.001):
                    return x
            except:  # noqa: E722  as learners write it
                pass

    try:
        said = judge(toy, stubborn)
    finally:
        enough.set()
    assert "still running after 0.2 seconds. It cannot be stopped: restart the kernel." in said


@pytest.fixture
def hears_ctrl_c():
    """SIGINT is heard, also where the shell has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_is_not_taken_for_a_mistake_and_ends_the_answer(toy, monkeypatch, hears_ctrl_c):
    monkeypatch.setattr(exercises, "TIME_LIMIT", 1e6)
    ended = threading.Event()

    def answer(x):
        _thread.interrupt_main()  # as Ctrl-C does
        try:
            return turns(x)
        finally:
            ended.set()

    with pytest.raises(KeyboardInterrupt):
        judge(toy, answer)
    ended.wait()
    assert not exercises._failures[toy.number]


def answers_to(sent, get_message):
    """The messages that a kernel sends on some channel about a cell."""
    while True:
        message = get_message()
        if message["parent_header"].get("msg_id") == sent:
            yield message


def run_cell(client, code, when_printed=lambda text: None):
    """Run a cell in a kernel, and return what it prints and the status of its end."""
    sent, printed = client.execute(code), ""
    for message in answers_to(sent, client.get_iopub_msg):
        if message["msg_type"] == "stream":
            printed += message["content"]["text"]
            when_printed(printed)
        if message["content"].get("execution_state") == "idle":
            break
    return printed, next(answers_to(sent, client.get_shell_msg))["content"]["status"]


@pytest.mark.process
def test_in_a_kernel_sys_exit_and_endless_loops_earn_hints_and_an_interrupt_stops_the_cell():
    manager, client = start_new_kernel(startup_timeout=600)
    try:
        setup = """
            import sys
            from fedtutor.course import exercises

            def ends(weights, num_examples):
                sys.exit()

            def endless(weights, num_examples):
                print("begun", flush=True)
                while True:
                    pass

            exercises.TIME_LIMIT = 1e6
        """
        assert run_cell(client, textwrap.dedent(setup)) == ("", "ok")
        said, status = run_cell(client, "exercises.check('04.1', ends)")
        assert ("asked Python itself to end" in said, status) == (True, "ok")

        def interrupt(printed):
            if printed == "begun\n":
                manager.interrupt_kernel()

        said, status = run_cell(client, "exercises.check('04.1', endless)", interrupt)
        assert (said, status) == ("begun\n", "error")
        shorter = "exercises.TIME_LIMIT = 0.2; exercises.check('04.1', endless)"
        said, status = run_cell(client, shorter)
        assert ("still running after 0.2 seconds" in said, status) == (True, "ok")
        assert run_cell(client, "print(6 * 7)") == ("42\n", "ok")
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_an_exercise_may_ask_for_a_value(monkeypatch):
    monkeypatch.setattr(exercises, "REGISTRY", {})

    @exercise("99.2, the answer")
    def the_answer(value):
        if value != 42:
            raise Wrong("""That is not it.
                Hint: larger.""")

    assert judge(the_answer, 42).startswith("right")
    assert "larger" in judge(the_answer, 1)


@pytest.mark.parametrize("number", ["4.1", "04.11", "intro"])
def test_a_misnumbered_exercise_is_refused(number):
    with pytest.raises(ValueError, match="numbered like"):
        exercise(f"{number}, title")


def test_two_exercises_of_one_number_are_refused(toy):
    with pytest.raises(ValueError, match=r"two exercises 99\.1"):
        exercise("99.1, again")(lambda answer: None)


@pytest.mark.parametrize("number", ["04.9", "98.1", "nonsense"])
def test_an_unknown_exercise_is_named(number):
    with pytest.raises(ValueError, match="there is no exercise"):
        check(number, None)
