"""The steps of a command for people and programs: a line a step, and a bar while a control holds.

Everything that came from outside is escaped.  Not here: how it ended (`cli.command_steps`).
"""

import json
import time
from datetime import datetime
from types import TracebackType
from typing import Final, Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from cli.command_steps import as_json, explained
from core.records import Outcome
from headend.cli_outcomes import COLOURS

SAYS: Final = {
    "accepted": "taken and allowed",
    "dispatched": "being written to the device",
    "confirmed": "the device shows it",
    "unverified": "written; nothing can show whether the device obeys",
    "failed": "the device did not take it or did not obey",
    "restoring": "being put back",
    "restored": "put back, the device shows it",
    "superseded": "another control took over",
    "cancelled": "never began",
    "left": "the gateway stops, the device's own timer ends it",
    "done": "done",
    "refused": "refused",
}


class View(Protocol):
    """Shows what happens, as it happens."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def sent(self, command: str, gateway: str) -> None: ...
    def step(self, gateway: str, step: Outcome) -> None: ...
    def say(self, sentence: str) -> None: ...
    def tick(self, now_ms: int) -> None: ...


class JsonView:
    """One line a step, for programs."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def sent(self, command: str, gateway: str) -> None:
        """Say that the broker has it."""
        print(json.dumps({"gateway": gateway, "command": command, "state": "sent"}), flush=True)

    def step(self, gateway: str, step: Outcome) -> None:
        """Show one step."""
        print(json.dumps(as_json(gateway, step)), flush=True)

    def say(self, sentence: str) -> None:
        """Sentences are for people."""

    def tick(self, now_ms: int) -> None:
        """Nothing moves."""


class PeopleView:
    """Coloured lines, and a bar until the end where a terminal is watched."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Progress | None = None
        self._live: Live | None = None
        self._task: TaskID | None = None
        self._begin_ms = self._end_ms = 0
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("           held"),
                BarColumn(40),
                TimeRemainingColumn(),
                TextColumn("to its end"),
                console=console,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hide()

    def sent(self, command: str, gateway: str) -> None:
        """Say that the broker has it."""
        self._line(time.time_ns() // 1_000_000, "sent", "cyan", f"the broker has command {command}")

    def step(self, gateway: str, step: Outcome) -> None:
        """Show one step, and what its reasons mean."""
        text = SAYS.get(step.state, "")
        begin, end = step.x.get("begin"), step.x.get("end")
        if isinstance(begin, int) and isinstance(end, int):
            self._begin_ms, self._end_ms = begin, end
            text += f": from {_local(begin)} to {_local(end)} under grant {step.x.get('grant', '')}"
        if step.value is not None:
            text += f" ({step.point} {step.value})"
        self._line(step.at, step.state, COLOURS.get(step.state, "white"), text)
        for code in step.reasons:
            known = explained(code)
            numbers = "" if known["addcause"] is None else (
                f" [dim](AddCause {known['addcause']}, 2030.5 status {known['response']})[/]"
            )  # fmt: skip
            sentence = escape(f"{code}: {known['text']}" if known["text"] else code)
            self._console.print(f"           {sentence}{numbers}", highlight=False)
        if step.text:
            self._console.print(f"           {escape(step.text)}", highlight=False)
        if step.state in ("confirmed", "unverified"):
            self._show()
        elif step.state != "accepted":
            self._hide()

    def say(self, sentence: str) -> None:
        """Say how it ended, or why nothing more is shown."""
        self._hide()
        self._console.print(escape(sentence), style="bold", highlight=False)

    def tick(self, now_ms: int) -> None:
        """Move the bar."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=max(0, now_ms - self._begin_ms))

    def _line(self, at_ms: int, state: str, colour: str, text: str) -> None:
        self._console.print(
            f"{_local(at_ms)}  [{colour}]{escape(state):11}[/]  {escape(text)}", highlight=False
        )

    def _show(self) -> None:
        if self._bar is None or self._live is not None or self._end_ms <= self._begin_ms:
            return
        self._task = self._bar.add_task("", total=self._end_ms - self._begin_ms)
        self._live = Live(self._bar, console=self._console, transient=True, refresh_per_second=2)
        self._live.start()

    def _hide(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        if self._bar is not None and self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None


def view_for(as_json_: bool) -> View:
    """Return the view that was asked for."""
    return JsonView() if as_json_ else PeopleView(Console())


def _local(ms: int) -> str:
    at = datetime.fromtimestamp(ms / 1000).astimezone()
    today = at.date() == datetime.now().astimezone().date()
    return f"{at:%H:%M:%S}" if today else f"{at:%Y-%m-%d %H:%M:%S}"
