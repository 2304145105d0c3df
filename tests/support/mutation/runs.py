"""Runs tests over changed modules: which test reaches which line is found out once, then each gets a fork.

A *survey* runs every test once and notes the lines it reaches.  A change in a function that nothing called
while the tests were collected is put into the running interpreter by its code alone; every other one needs
its module read anew, in a fork that has the libraries but nothing of ours.  Each change meets the tests that
reach it, the likeliest and cheapest first, until one fails; one that takes far longer has seen it.

Unix alone.  Not here: what is changed (`tests.support.mutation.changes`), and what a survivor means.
"""

import gc
import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import hypothesis
import pytest

from tests.support.mutation.changes import Change, changed_code

ROOT = Path(__file__).resolve().parents[3]
OURS = {"core", "drivers", "policies", "certs", "agent", "headend", "simulator", "cli", "bench", "tests"}
_OPTIONS = [
    "-q",
    "--no-header",
    "--no-summary",
    "-p",
    "no:cacheprovider",
    "--capture=no",
    "-o",
    "timeout=240",
]
_OPTIONS += ["-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"]
# It compares pauses by the clock, and on a busy machine it fails by itself.
_BY_THE_CLOCK = "test_keeper.py::test_a_flood_of_forgeries_is_looked_at_ever_more_rarely"
_OPTIONS += ["--deselect", f"tests/unit/agent/policy/{_BY_THE_CLOCK}"]
_LIVE_S = 3.0
"""What any test may take, beside eight times what it took unchanged."""
_UNKNOWN_S = 0.5
_MOST_MEMORY = 4 << 30
SURVIVED = ""


@dataclass(frozen=True)
class Survey:
    """What every test reached, unchanged."""

    tests: list[str]
    seconds: list[float]
    lines: dict[str, dict[int, list[int]]]
    """By path and line: the numbers of the tests."""
    at_import: dict[str, list[tuple[str, int]]]
    """By path: functions that ran before the first test."""
    libraries: list[str]
    near: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By path: files of tests that see most of what is changed there, for when no test was run yet."""

    def is_quick(self, change: Change) -> bool:
        """Tell whether a change needs no module read anew."""
        if change.function is None or "super()" in change.line:  # without its super() code fits no method
            return False
        return change.function not in self.at_import.get(change.path, ())

    def tests_for(self, change: Change) -> list[int]:
        """Return the tests that may see a change, the likeliest first."""
        lines = self.lines.get(change.path, {})
        reached: set[int] = set()
        for line in range(change.first, change.last + 1):
            reached.update(lines.get(line, ()))
        if not reached:
            for line in range(change.head, change.foot + 1):
                reached.update(lines.get(line, ()))
        cheap = sorted(reached, key=lambda one: self.seconds[one])
        if self.is_quick(change) and self.lines:
            return cheap
        touching = {one for numbers in lines.values() for one in numbers}
        near = [*self.near.get(change.path, ()), f"test_{Path(change.path).stem}.py"]

        def likely(one: int) -> tuple[int, bool, float]:
            file = self.tests[one].partition("::")[0].rpartition("/")[2]
            return near.index(file) if file in near else len(near), one not in touching, self.seconds[one]

        return cheap + sorted((one for one in range(len(self.tests)) if one not in reached), key=likely)


def surveyed(paths: Iterable[str], tests: Sequence[str], into: Path, *, run: bool = True) -> Survey:
    """Run the tests in a process of their own and return what they reached; without ``run`` collect them."""
    if pid := os.fork():
        _, status = os.waitpid(pid, 0)
        if status:
            raise SystemExit("the tests fail without any change")
    else:
        with _Quiet():
            surveyor = _Surveyor({str(ROOT / path): path for path in paths}, into, run)
            code = pytest.main([*_OPTIONS, *tests], plugins=[surveyor])
        os._exit(int(code))
    return read_survey(into)


def read_survey(path: Path) -> Survey:
    """Return a survey that was kept."""
    kept = json.loads(path.read_text("utf-8"))
    return Survey(
        kept["tests"],
        kept["seconds"],
        {path: {int(line): on for line, on in lines.items()} for path, lines in kept["lines"].items()},
        {path: [(name, line) for name, line in found] for path, found in kept["at_import"].items()},
        kept["libraries"],
    )


class _Settled:
    """The same examples of hypothesis each time, none remembered, none made smaller."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
        now = hypothesis.settings()
        settled = hypothesis.settings(now, derandomize=True, database=None, phases=phases, print_blob=False)
        hypothesis.settings.register_profile("mutants", settled)
        hypothesis.settings.load_profile("mutants")


class _Surveyor(_Settled):
    def __init__(self, files: Mapping[str, str], into: Path, run: bool) -> None:
        self._files, self._into, self._run = files, into, run
        self._at_import: dict[str, set[tuple[str, int]]] = {}
        self._lines: dict[str, dict[int, list[int]]] = {path: {} for path in files.values()} if run else {}
        self._number: int | None = None
        self._left: dict[CodeType, set[int]] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        super().pytest_collection()
        threading.settrace(self._trace)
        sys.settrace(self._trace)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        seconds = []
        for number, item in enumerate(session.items):
            if not self._run:
                seconds.append(_UNKNOWN_S)
                continue
            self._number, self._left = number, {}
            sys.settrace(self._trace)
            begun = time.process_time()
            following = session.items[number + 1] if number + 1 < len(session.items) else None
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            seconds.append(round(time.process_time() - begun, 4))
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]
        libraries = [
            name for name in sys.modules if name.partition(".")[0] not in OURS and "pytest" not in name
        ]
        kept = {
            "tests": [item.nodeid for item in session.items],
            "seconds": seconds,
            "lines": self._lines,
            "at_import": {path: sorted(found) for path, found in self._at_import.items()},
            "libraries": libraries,
        }
        self._into.parent.mkdir(parents=True, exist_ok=True)
        self._into.write_text(json.dumps(kept), "utf-8")
        return True

    def _trace(self, frame: FrameType, event: str, arg: object) -> Any:
        code = frame.f_code
        path = self._files.get(code.co_filename)
        if path is None:
            return None
        if self._number is None:
            self._at_import.setdefault(path, set()).add((code.co_qualname, code.co_firstlineno))
            return None
        left = self._left.get(code)
        if left is None:
            left = self._left[code] = {line for _, _, line in code.co_lines() if line is not None}
        if not left:
            return None

        lines, number = self._lines[path], self._number

        def on_line(frame: FrameType, event: str, arg: object) -> Any:
            line = frame.f_lineno
            if line in left:
                left.discard(line)
                lines.setdefault(line, []).append(number)
            return on_line

        return on_line(frame, event, arg)


@dataclass
class _Job:
    change: Change
    order: list[int]
    began: float
    deadline: float
    folder: str


Verdict = Callable[[Change, str], None]
"""Called with what killed a change: a test, ``time`` or ``import``; :data:`SURVIVED` for none."""


class Runner:
    """Runs changes, some at a time."""

    def __init__(self, survey: Survey, sources: Mapping[str, str], workers: int, verdict: Verdict) -> None:
        self._survey, self._sources, self._workers = survey, sources, workers
        self._verdict = verdict
        self._killers: dict[str, deque[int]] = {}

    def run(self, changes: Sequence[Change]) -> None:
        """Judge all of them; the verdicts of the quick ones are given in another process."""
        quick = [one for one in changes if self._survey.is_quick(one)]
        slow = [one for one in changes if not self._survey.is_quick(one)]
        if quick:
            if pid := os.fork():
                _, status = os.waitpid(pid, 0)
                if status:
                    raise SystemExit("the tests could not be collected")
            else:
                with _Quiet():
                    files = sorted({test.partition("::")[0] for test in self._survey.tests})
                    code = pytest.main([*_OPTIONS, *files], plugins=[_InPlace(self, quick)])
                os._exit(int(code))
        if slow:
            for library in self._survey.libraries:
                try:
                    __import__(library)
                except Exception:  # read here for speed alone: a fork that needs it says so
                    continue
            self.all(slow, self._anew)

    def all(self, changes: Sequence[Change], start: Callable[[Change, list[int], int], None]) -> None:
        """Fork for each change; ``start`` does not come back."""
        waiting, running = deque(changes), dict[int, tuple[int, _Job]]()
        while waiting or running:
            while waiting and len(running) < self._workers:
                job = self._job(waiting.popleft())
                if not job.order:
                    self._verdict(job.change, SURVIVED)
                    continue
                reads, writes = os.pipe()
                pid = os.fork()
                if not pid:
                    os.close(reads)
                    _settle(job.folder)
                    try:
                        start(job.change, job.order, writes)
                    except BaseException:  # told by the parent, which ends with it
                        os.write(writes, b"?" + traceback.format_exc()[-3000:].encode())
                    finally:
                        os._exit(3)
                os.close(writes)
                running[reads] = pid, job
            ready, _, _ = select.select(list(running), [], [], 1.0)
            for end in ready:
                pid, job = running.pop(end)
                self._reap(end, pid, job)
            for pid, job in running.values():
                if time.monotonic() > job.deadline:
                    os.kill(pid, signal.SIGKILL)

    def _job(self, change: Change) -> _Job:
        order = self._survey.tests_for(change)
        likely = [one for one in self._killers.get(change.path + change.within, ()) if one in order]
        order = list(dict.fromkeys([*likely, *order]))
        most = 60 + 10 * sum(self._survey.seconds[one] for one in order)
        now = time.monotonic()
        return _Job(change, order, now, now + most, tempfile.mkdtemp(prefix="mutant-"))

    def _reap(self, end: int, pid: int, job: _Job) -> None:
        with os.fdopen(end, "rb") as pipe:
            told = pipe.read().decode()
        _, status = os.waitpid(pid, 0)
        shutil.rmtree(job.folder, ignore_errors=True)
        killer = told or (SURVIVED if status == 0 else "time" if os.WIFSIGNALED(status) else "?")
        if killer.startswith("?"):
            print(f"{job.change.path}:{job.change.first}: {job.change.what}: {killer}", file=sys.stderr)
            raise RuntimeError("this tool failed, and not the change")
        if killer.isdigit():
            number = int(killer)
            self._killers.setdefault(job.change.path + job.change.within, deque(maxlen=12)).appendleft(number)
            killer = self._survey.tests[number]
        self._verdict(job.change, killer)

    def _anew(self, change: Change, order: list[int], told: int) -> None:
        """In a fork without our modules: read them with one change, and run the tests."""
        target = str(ROOT / change.path)
        code = changed_code(change, self._sources[change.path], target)
        original = SourceFileLoader.get_code

        def get_code(loader: SourceFileLoader, fullname: str) -> CodeType | None:
            return code if loader.path == target else original(loader, fullname)

        SourceFileLoader.get_code = get_code  # type: ignore[method-assign]
        for name in [name for name in sys.modules if name.partition(".")[0] in OURS - {"tests"}]:
            del sys.modules[name]
        tests = [self._survey.tests[one] for one in order]
        files = list(dict.fromkeys(test.partition("::")[0] for test in tests))
        with _Quiet():
            pytest.main([*_OPTIONS, *files], plugins=[_Anew(self._survey, order, told)])
        # Nothing ran: the module, or what reads it, cannot be imported any more.
        os.write(told, b"import")
        os._exit(1)

    def source(self, path: str) -> str:
        """Return the unchanged text of a module."""
        return self._sources[path]

    @property
    def survey(self) -> Survey:
        """What the tests reach."""
        return self._survey


class _InPlace(_Settled):
    """After the tests are collected: a fork for each change, with one function's code replaced."""

    def __init__(self, runner: Runner, changes: Sequence[Change]) -> None:
        self._runner, self._changes = runner, changes
        self._items: dict[str, pytest.Item] = {}
        self._functions: dict[tuple[str, str, int], list[FunctionType]] = {}

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self._items = {item.nodeid: item for item in session.items}
        for one in gc.get_objects():
            if type(one) is FunctionType:
                code = one.__code__
                self._functions.setdefault(
                    (code.co_filename, code.co_qualname, code.co_firstlineno), []
                ).append(one)
        gc.freeze()
        self._runner.all(self._changes, self._start)
        return True

    def _start(self, change: Change, order: list[int], told: int) -> None:
        target = str(ROOT / change.path)
        module = changed_code(change, self._runner.source(change.path), target)
        assert change.function is not None
        name, first = change.function
        code = next(one for one in _within(module) if (one.co_qualname, one.co_firstlineno) == (name, first))
        for function in self._functions.get((target, name, first), ()):  # none: no test reads the module
            function.__code__ = code
        survey = self._runner.survey
        chosen = [(one, self._items[name]) for one in order if (name := survey.tests[one]) in self._items]
        # A name that holds an instant of the run is another one each time.
        known = set(survey.tests)
        new = [(order[0], item) for name, item in self._items.items() if name not in known]
        _run([*chosen, *new], survey.seconds, told)


class _Anew(_Settled):
    """Runs the chosen tests of those that were collected, and any that have a new name."""

    def __init__(self, survey: Survey, order: list[int], told: int) -> None:
        self._survey, self._order, self._told = survey, order, told

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            os.write(self._told, b"import")
            os._exit(1)
        items = {item.nodeid: item for item in session.items}
        chosen = [(one, items[name]) for one in self._order if (name := self._survey.tests[one]) in items]
        known = set(self._survey.tests)
        new = [(self._order[0], item) for name, item in items.items() if name not in known]
        _run([*new, *chosen], self._survey.seconds, self._told)
        return True


class _Watch:
    """Ends the process with the first failure."""

    def __init__(self, told: int) -> None:
        self.told, self.number = told, 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            os.write(self.told, str(self.number).encode())
            os._exit(1)


def _run(tests: Sequence[tuple[int, pytest.Item]], seconds: Sequence[float], told: int) -> None:
    watch = _Watch(told)
    if tests:
        tests[0][1].config.pluginmanager.register(watch)
    for place, (number, item) in enumerate(tests):
        watch.number = number
        used = resource.getrusage(resource.RUSAGE_SELF)
        most = int(used.ru_utime + used.ru_stime + _LIVE_S + 8 * seconds[number]) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (most, resource.RLIM_INFINITY))
        following = tests[place + 1][1] if place + 1 < len(tests) else None
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
    os._exit(0)


def _settle(folder: str) -> None:
    """Give a fork its own folder for files, and bounds."""
    os.environ["PYTEST_DEBUG_TEMPROOT"] = folder
    tempfile.tempdir = folder
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (_MOST_MEMORY, _MOST_MEMORY))
    null = os.open(os.devnull, os.O_RDWR)
    for end in (0, 1, 2):
        os.dup2(null, end)


class _Quiet:
    """Sends what pytest says to nowhere; the progress of changes goes on to the real stderr."""

    def __enter__(self) -> None:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 1)

    def __exit__(self, *_: object) -> None:
        sys.stdout.flush()


def _within(code: CodeType) -> Iterable[CodeType]:
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield one
            yield from _within(one)
