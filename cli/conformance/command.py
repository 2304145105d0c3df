"""`portico conformance`: judge a foreign agent or head-end, line by line.

Not here: the scenarios (`agent_run`, `headend_run`), the lines, the form of a report (`report`).
"""

import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from cli.conformance.agent_ground import OWN_COMMAND as OWN_AGENT
from cli.conformance.agent_ground import AgentGround
from cli.conformance.agent_lines import AGENT_LINES
from cli.conformance.agent_run import AgentRun
from cli.conformance.headend_ground import OWN_COMMAND as OWN_HEADEND
from cli.conformance.headend_ground import HeadendGround
from cli.conformance.headend_lines import HEADEND_LINES
from cli.conformance.headend_run import HeadendRun
from cli.conformance.lines import E, Line, chosen, judge
from cli.conformance.report import Report, document, show, write_junit
from core.errors import ConfigError, PorticoError
from simulator.broker import find_mosquitto

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=True)

PIPE_COLUMNS: Final = 160
FAULT_S: Final = 8.0

CommandLine = Annotated[
    str | None,
    typer.Option(
        "--command",
        help="Program under test; {config}, {site} and {data} become paths. Default: our own.",
        show_default=False,
    ),
]
ByHand = Annotated[
    bool, typer.Option("--by-hand", help="Start nothing: wait until somebody has started the program.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
Junit = Annotated[Path | None, typer.Option("--junit", help="Also write JUnit XML into this file.")]
Only = Annotated[
    list[str] | None,
    typer.Option("--only", help="Only these lines, by comma or repeated; the rest is not played."),
]
ListAll = Annotated[bool, typer.Option("--list", help="Print the lines, and run nothing.")]
Directory = Annotated[
    Path | None, typer.Option("--dir", help="Lay everything into this new directory, and keep it.")
]
NoColor = Annotated[bool, typer.Option("--no-color", help="Without colours.")]


class NotConforming(PorticoError):
    """The report has lines that failed, or none that passed."""


class Interrupted(PorticoError):
    """Somebody ended the run."""


@app.command(
    epilog='Example: portico conformance agent --command "my-gateway --site {site}" --junit report.xml'
)
def agent(
    command: CommandLine = None,
    by_hand: ByHand = False,
    seconds: Annotated[
        float, typer.Option("--seconds", min=4, max=3600, help="How long the devices misbehave.")
    ] = FAULT_S,
    as_json: AsJson = False,
    junit: Junit = None,
    only: Only = None,
    list_all: ListAll = False,
    directory: Directory = None,
    no_color: NoColor = False,
) -> None:
    """Run a gateway against simulated premises and a scripted collector, and judge what it sends."""
    lines = chosen(AGENT_LINES, only or ())
    if list_all:
        list_lines(lines, as_json=as_json)
        return
    find_mosquitto()
    check_writable(junit)
    wanted = frozenset(step for line in lines for step in line.steps)
    with place(directory) as (where, keep), ended_by_signals():
        ground = AgentGround(where, command, by_hand=by_hand)
        story = Story(as_json=as_json)
        run = AgentRun(ground, wanted, seconds, story.tell)
        evidence = run.play()
        judged = judge(lines, evidence, run.missing)
        shown = "started by hand" if ground.program is None else command or "portico " + " ".join(OWN_AGENT)
        report = Report("agent", shown, tuple(judged), story.seconds, tuple(story.lines))
        keep(not report.ok)
    finish(report, as_json=as_json, junit=junit, no_color=no_color, where=where)


@app.command(
    epilog='Example: portico conformance headend --command "mine {site}" --readings-command "list {site}"'
)
def headend(
    command: CommandLine = None,
    readings_command: Annotated[
        str | None,
        typer.Option(
            "--readings-command",
            help="Prints what is booked, one JSON object a line; without it some lines are not tested.",
            show_default=False,
        ),
    ] = None,
    by_hand: ByHand = False,
    as_json: AsJson = False,
    junit: Junit = None,
    only: Only = None,
    list_all: ListAll = False,
    directory: Directory = None,
    no_color: NoColor = False,
) -> None:
    """Send a head-end what gateways may send, right and wrong, and judge what it confirms and books."""
    lines = chosen(HEADEND_LINES, only or ())
    if list_all:
        list_lines(lines, as_json=as_json)
        return
    find_mosquitto()
    check_writable(junit)
    wanted = frozenset(step for line in lines for step in line.steps)
    with place(directory) as (where, keep), ended_by_signals():
        ground = HeadendGround(where, command, readings_command, by_hand=by_hand)
        story = Story(as_json=as_json)
        run = HeadendRun(ground, wanted, story.tell)
        evidence = run.play()
        judged = judge(lines, evidence, run.missing)
        shown = "started by hand" if ground.program is None else command or "portico " + " ".join(OWN_HEADEND)
        report = Report("headend", shown, tuple(judged), story.seconds, tuple(story.lines))
        keep(not report.ok)
    finish(report, as_json=as_json, junit=junit, no_color=no_color, where=where)


class Story:
    """What is done to the program, told while it is done."""

    def __init__(self, *, as_json: bool) -> None:
        self.lines: list[str] = []
        self._begun_s = time.monotonic()
        self._out = sys.stderr if as_json else sys.stdout

    @property
    def seconds(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._begun_s

    def tell(self, words: str) -> None:
        """Say what is done now."""
        self.lines.append(f"{self.seconds:5.1f} s  {words}")
        print(self.lines[-1], file=self._out, flush=True)


def list_lines(lines: Sequence[Line[E]], *, as_json: bool) -> None:
    """Print the lines."""
    if as_json:
        told = [{"id": one.id, "sentence": one.sentence, "source": one.source} for one in lines]
        typer.echo(json.dumps(told))
        return
    table = Table(box=None)
    for name in ("line", "what must hold", "from"):
        table.add_column(name, no_wrap=name == "line")
    for one in lines:
        table.add_row(one.id, one.sentence, one.source)
    _console(no_color=False).print(table)


def finish(report: Report, *, as_json: bool, junit: Path | None, no_color: bool, where: Path) -> None:
    """Print and write the report. Raises NotConforming when it is not a good one."""
    if junit is not None:
        write_junit(report, junit)
    if as_json:
        sys.stdout.write(json.dumps(document(report)) + "\n")
    else:
        console = _console(no_color=no_color)
        show(report, console)
        if where.exists():
            console.print(f"Everything lies in {where}", soft_wrap=True)
    if report.failed:
        raise NotConforming(f"the {report.part} does not keep {', '.join(report.failed)}")
    if not report.ok:
        raise NotConforming(f"no line about the {report.part} could be tested")


def check_writable(path: Path | None) -> None:
    """Raise ConfigError when a report could not be written there: before a run, not after it."""
    if path is not None and (path.is_dir() or not os.access(path.parent, os.W_OK)):
        raise ConfigError(f"no report can be written to {path}: name a file in a directory that is there")


@contextmanager
def place(directory: Path | None) -> Iterator[tuple[Path, Callable[[bool], None]]]:
    """Give a directory to lay everything in, and the way to say whether it is to stay."""
    if directory is not None:
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise ConfigError(f"{directory} is not empty: name a new directory for the run")
        yield directory, lambda _: None
        return
    where = Path(tempfile.mkdtemp(prefix="portico-conformance-"))
    stays = [False]

    def keep(wanted: bool) -> None:
        stays[0] = wanted

    try:
        yield where, keep
    finally:
        if not stays[0]:
            shutil.rmtree(where, ignore_errors=True)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Turn SIGTERM and Ctrl-C into an error, so that every part is ended on the way out."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interrupted(f"the run was ended by {signal.Signals(number).name}; all its parts are ended too")

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _console(*, no_color: bool) -> Console:
    terminal = Console().is_terminal
    return Console(no_color=no_color or None, highlight=False, width=None if terminal else PIPE_COLUMNS)
