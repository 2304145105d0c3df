"""`portico demo`: the main job end to end, with a broker outage and a kill -9, judged at the end.

Simulated devices on real Modbus TCP sockets, an agent, mosquitto with TLS client certificates and access
rules, a collector for each of two owners: every one a process of its own (`cli.stand`). The judge
(`cli.judge`) decides from outside whether the books balance.

Not here: the site and the story (`cli.demo_story`), the live table (`cli.demo_view`).
"""

import json
import math
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Annotated, Final

import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cli.demo_control import Ahead, ControlStory
from cli.demo_evidence import ControlVerdict, Refusal, judge_control
from cli.demo_policy import send_policy, sign_policy
from cli.demo_site import DSO, ESCO, EVERY_S, GATEWAY, OTHER, RELAY, assigned, site
from cli.demo_story import COUNTED, MEANINGS, REFUSED_BY, Act, Scene, scenes
from cli.demo_view import Moment, Picture, Watch, progress
from cli.evidence import read_books, read_store
from cli.judge import Verdict, judge
from cli.stand import HOST, Stand
from cli.witness import Witness
from core.errors import ConfigError, PorticoError
from core.ownership import owners_at
from simulator.broker import find_mosquitto

LOOK_S: Final = 0.5
STEP_S: Final = 0.1
"""How often commands go on."""
LONGER_S: Final = 60.0
"""So much longer the story may last where commands take their time."""
PROGRESS_S: Final = 5.0
AFTER_TICK_S: Final = 0.04
"""Polled, and the commit window of 100 ms still open."""
SETTLE_S: Final = 20.0
"""Longest wait for the books to balance after the story."""


class Interrupted(PorticoError):
    """Somebody ended the demo."""


class Unbalanced(PorticoError):
    """The demo ran, and a promise did not hold."""


Show = Callable[[Moment, Sequence[str], float], None]


@dataclass(slots=True)
class Run:
    """A demo under way: what was told so far."""

    seconds: float
    show: Show
    tell: Callable[[float, str], None]
    begun: float = field(default_factory=time.monotonic)
    story: list[str] = field(default_factory=list)
    waiting: list[Scene] = field(init=False)
    """What happens yet."""

    def __post_init__(self) -> None:
        self.waiting = list(scenes(self.seconds))

    def ahead(self) -> Ahead:
        """Return what happens to the site next."""
        now = self.elapsed_s

        def until(act: Act) -> float:
            return min((one.at_s - now for one in self.waiting if one.act is act), default=math.inf)

        return Ahead(until(Act.STOP_BROKER), until(Act.KILL_AGENT))

    @property
    def elapsed_s(self) -> float:
        """Seconds since everything ran."""
        return time.monotonic() - self.begun

    def say(self, words: str) -> None:
        """Add a line to the story."""
        self.story.append(f"{self.elapsed_s:5.1f} s  {words}")
        self.tell(self.elapsed_s, words)


def command(
    seconds: Annotated[
        float, typer.Option("--seconds", min=15, max=600, help="How long the story lasts, before it settles.")
    ] = 60.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Lines instead of a live table; the last is one JSON object.")
    ] = False,
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Lay everything into this new directory, and keep it.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the temporary directory.")] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="Without colours.")] = False,
) -> None:
    """Show the main job end to end: devices, agent, broker and head-end, with an outage and a kill -9."""
    find_mosquitto()
    console = console_for(no_color=no_color)
    lines = as_json or not console.is_terminal
    with ExitStack() as stack:
        stack.enter_context(_ended_by_signals())
        place, kept = _place(stack, directory, keep)
        begun = time.monotonic()
        verdict, control = run(place, seconds, console, lines=lines)
        took_s = time.monotonic() - begun
        faults = [*unbalanced(verdict), *control.faults]
        if not as_json:
            console.print(summary(verdict))
            console.print(commands(control))
            console.print(Text(conclusion(unbalanced(verdict), control.faults), "bold"))
        if kept:
            console.print(f"Everything lies in {place}", soft_wrap=True)
        if as_json:
            document = {
                **verdict.as_dict(),
                "control": control.as_dict(),
                "faults": faults,
                "ok": not faults,
                "seconds": round(took_s, 1),
            }
            sys.stdout.write(json.dumps(document) + "\n")
    if faults:
        raise Unbalanced(f"the demo does not hold: {'; '.join(faults)}")


def console_for(*, no_color: bool) -> Console:
    """Return the console to show on; without the option, NO_COLOR in the environment decides."""
    return Console(no_color=no_color or None, highlight=False)


def run(place: Path, seconds: float, console: Console, *, lines: bool) -> tuple[Verdict, ControlVerdict]:
    """Tell the whole story in a directory and return the judgement of readings and of commands."""
    say = Text("starting devices, broker, collectors and agent")
    console.print(say)
    keys = {entity: Ed25519PrivateKey.generate() for entity in (ESCO, OTHER)}
    policy = sign_policy(place / "policy", keys, assigned(), datetime.now(UTC))
    stand = Stand(place, site(place / "policy" / "root.json"))
    with ExitStack() as stack:
        stack.callback(stand.kill)
        stand.start(agents=False)
        send_policy(policy, f"mqtts://{HOST}:{stand.broker_port}", stand.authority.directory)
        # Who listens and sends leaves before the broker does, or would wait for it to come back.
        guests = stack.enter_context(ExitStack())
        witnesses = []
        for entity in stand.books():
            witness = Witness(entity, HOST, stand.broker_port, stand.authority.directory)
            witnesses.append(guests.enter_context(witness))
            witness.wait_subscribed()
        stand.start_agents()
        show, tell = stack.enter_context(_shown(console, seconds, lines=lines))
        told = Run(seconds, show, tell)
        told.say("two owners, each with a collector and books of its own; every part is a process")
        control = guests.enter_context(ControlStory(stand, keys, seconds, told.ahead, told.say))
        play(stand, told, control)
        settle(stand, told, control.state)
        delivered = {one.entity: one.rows() for one in witnesses}
        guests.close()
        stand.stop()
    books = stand.books()
    return (
        judge({GATEWAY: stand.agent.store_path}, books, stand.plant_log, delivered=delivered),
        judge_control(control.trace, books[ESCO], books[DSO], stand.plant_log, RELAY),
    )


def play(stand: Stand, told: Run, control: ControlStory) -> None:
    """Let the story happen, and show it; commands go on beside it, to their end."""
    watch = Watch(stand)
    shown_s = -LOOK_S
    while told.elapsed_s < told.seconds or (not control.over and told.elapsed_s < told.seconds + LONGER_S):
        while told.waiting and told.waiting[0].at_s <= told.elapsed_s:
            act(stand, told.waiting.pop(0), told)
        control.advance()
        if told.elapsed_s - shown_s >= LOOK_S:
            shown_s = told.elapsed_s
            told.show(watch.look(control.state), told.story, told.elapsed_s)
        time.sleep(STEP_S)


def act(stand: Stand, scene: Scene, told: Run) -> None:
    """Do one thing to the site."""
    told.say(scene.words)
    match scene.act:
        case Act.STOP_BROKER:
            stand.broker.stop()
        case Act.START_BROKER:
            stand.broker.start()
        case Act.KILL_AGENT:
            time.sleep(EVERY_S - (time.time() - AFTER_TICK_S) % EVERY_S)
            stand.agent.kill9()
        case Act.START_AGENT:
            stand.agent.start()


def settle(stand: Stand, told: Run, command: str) -> None:
    """End the agent in order, and wait until the books hold all that its store holds."""
    watch = Watch(stand)
    told.say("the agent is ended in order, and the books settle")
    deadline = time.monotonic() + SETTLE_S
    stand.agent.stop()
    while not _balanced(stand) and time.monotonic() < deadline:
        told.show(watch.look(command), told.story, told.elapsed_s)
        time.sleep(LOOK_S)
    told.show(watch.look(command), told.story, told.elapsed_s)


def _balanced(stand: Stand) -> bool:
    """Tell whether the books of every owner hold every row of the store."""
    there = {
        entity: {row.id for row in read_books(entity, path).rows} for entity, path in stand.books().items()
    }
    return all(
        row.id in there[entity]
        for row in read_store(GATEWAY, stand.agent.store_path).rows
        for entity in owners_at(row.group.owners, row.tick)
    )


def unbalanced(verdict: Verdict) -> list[str]:
    """Return what does not hold, as half sentences; a demo must also have had something to lose."""
    faults = list(verdict.faults)
    if not verdict.committed:
        faults.append("nothing was committed")
    if verdict.unseen or verdict.gone or verdict.taken:
        faults.append("the books and the store do not hold the same readings")
    if verdict.polled < verdict.committed:
        faults.append("more was committed than the devices were asked for")
    if not verdict.gaps:
        faults.append("the kill left no Gap")
    return faults


def summary(verdict: Verdict) -> Table:
    """Return the judgement, a line for each key."""
    table = Table(title="What became of the readings", title_justify="left", box=None, pad_edge=False)
    table.add_column("key", no_wrap=True)
    table.add_column("number", justify="right", no_wrap=True)
    table.add_column("of", no_wrap=True)
    table.add_column("meaning")
    values = verdict.as_dict()
    for key, meaning in MEANINGS.items():
        number = values[key]
        table.add_row(
            key, f"{number:,}" if isinstance(number, int) else "-", COUNTED.get(key, "readings"), meaning
        )
    for one in verdict.entities:
        table.add_row(
            f"  {one.entity}",
            f"{one.in_books:,}",
            "readings",
            f"in its books, of {one.entitled:,} that it owns",
        )
    return table


def commands(verdict: ControlVerdict) -> Table:
    """Return what became of the commands, a line for each."""
    table = Table(title="What became of the commands", title_justify="left", box=None, pad_edge=False)
    for name in ("command", "became"):
        table.add_column(name, no_wrap=True)
    table.add_column("by")
    done = {
        "executed": (verdict.executed, "the simulated relay's own log"),
        "read_back": (verdict.read_back, "a signed outcome in the company's books"),
        "restored": (verdict.restored, "both"),
    }
    for key, (holds, by) in done.items():
        table.add_row(key, "yes" if holds else "NO", by)
    for one in Refusal:
        codes = ", ".join(verdict.refused.get(one, ()))
        table.add_row(one.value, codes or "NOT refused", REFUSED_BY[one])
    return table


def conclusion(unbalanced: Sequence[str], disobeyed: Sequence[str]) -> str:
    """Return the last line for people."""
    books = "The books do NOT balance" if unbalanced else "The books balance"
    ended = "not every command ended as it must" if disobeyed else "every command ended as it must"
    return f"{books}, {'and' if bool(unbalanced) == bool(disobeyed) else 'but'} {ended}."


@contextmanager
def _shown(
    console: Console, seconds: float, *, lines: bool
) -> Iterator[tuple[Show, Callable[[float, str], None]]]:
    """Give the ways to show a moment and to tell what happens: a live table, or lines."""
    if lines:
        last_s = 0.0

        def line(moment: Moment, story: Sequence[str], elapsed_s: float) -> None:
            nonlocal last_s
            if elapsed_s - last_s >= PROGRESS_S:
                last_s = elapsed_s
                print(f"{elapsed_s:5.1f} s  {progress(moment)}", flush=True)

        yield line, lambda at_s, words: print(f"{at_s:5.1f} s  {words}", flush=True)
        return
    with Live(console=console, refresh_per_second=4) as live:
        yield (
            lambda moment, story, elapsed_s: live.update(Picture(moment, tuple(story), elapsed_s, seconds)),
            lambda at_s, words: None,
        )


def _place(stack: ExitStack, directory: Path | None, keep: bool) -> tuple[Path, bool]:
    """Return where everything is laid, and whether it stays."""
    if directory is not None:
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise ConfigError(f"{directory} is not empty: name a new directory for the demo")
        return directory, True
    if keep:
        return Path(tempfile.mkdtemp(prefix="portico-demo-")), True
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="portico-demo-"))), False


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Turn SIGTERM and Ctrl-C into an error, so that every part is ended on the way out."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interrupted(f"the demo was ended by {signal.Signals(number).name}; all its parts are ended too")

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
