"""How `portico probe` shows what it found: tables for people, JSON for programs.

Pure, save for printing.  Values are exact, as text also in JSON, because most readers of JSON would make
a binary float of a number.  Not here: the asking.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.devicetypes import is_verified, source_in_words
from cli.typewords import guessed_in_orders, hold_warnings
from core.manifest import ValueKind
from core.quality import reason_of
from drivers.linescan import Unit
from drivers.probe import Probe, ProbedPoint
from drivers.recognition import Guess
from drivers.sunspec.devicetype import Described
from drivers.sunspec.discovery import Discovery
from drivers.types import DeviceType

SHOWN_GUESSES = 5
SHOWN_FAILURES = 4
UNTOLD = (
    "Many simple devices, relays above all, show nothing by which they could be told: read the name on the "
    "device, and find its type with portico types list."
)
NOT_CERTAIN = "A guess, not a proof: hold values against the device's display before you rely on a type."


def print_probe(console: Console, kind: DeviceType, found: Probe, raw: bool) -> None:
    """Print the points of a device that was read once."""
    console.print(f"[bold]{escape(kind.name)}[/]: {escape(kind.manufacturer)} {escape(kind.model)}")
    console.print(f"source: {escape(source_in_words(kind.source))}", soft_wrap=True)
    shown = Table(box=None)
    for heading in ("point", "value", "unit", "quality", "register", *(["raw"] if raw else [])):
        shown.add_column(heading, justify="right" if heading == "value" else "left", no_wrap=heading != "raw")
    doubtful: list[str] = []
    for one in found.points:
        mark = ""
        if not is_verified(kind, one.point):
            doubtful.append(one.point.name)
            mark = " ?"
        quality = "good" if one.reason is None else one.reason
        colour = "green" if one.reason is None else "yellow" if one.raw is not None else "red"
        shown.add_row(
            escape(one.point.name) + mark,
            escape(one.shown),
            escape(one.point.unit),
            f"[{colour}]{escape(quality)}[/]",
            place(one),
            *([_hex(one)] if raw else []),
        )
    console.print(shown)
    good = sum(one.reason is None for one in found.points)
    console.print(f"{good} of {len(found.points)} points good, {len(found.asked)} requests")
    for reason in sorted({one.reason for one in found.points if one.reason is not None}):
        console.print(f"{reason}: {escape(reason_of(reason).text)}", style="yellow")
    failures = list(dict.fromkeys(asked.failure for asked in found.asked if asked.failure))
    for failure in failures[:SHOWN_FAILURES]:
        console.print(escape(failure), style="red", soft_wrap=True)
    if len(failures) > SHOWN_FAILURES:
        console.print(f"and {len(failures) - SHOWN_FAILURES} more requests failed", style="red")
    for warning in hold_warnings(kind, _numbers(found)):
        console.print(escape(warning), style="yellow", soft_wrap=True)
    for name, keys in guessed_in_orders(kind).items():
        console.print(
            f"order {escape(name)}: no source states {', '.join(keys)}", style="yellow", soft_wrap=True
        )
    if doubtful:
        console.print(
            f"? no source confirmed these points: {escape(', '.join(doubtful))}",
            style="yellow",
            soft_wrap=True,
        )


def _numbers(found: Probe) -> dict[str, Decimal]:
    """Return the points that have a value, as numbers; a truth is 0 or 1."""
    return {
        one.point.name: Decimal(int(one.value)) if isinstance(one.value, bool) else Decimal(one.shown)
        for one in found.points
        if one.value is not None and one.point.kind is not ValueKind.TEXT
    }


def place(one: ProbedPoint) -> str:
    """Return where a point lies: table, and first to last address."""
    point = one.point
    last = f"-{point.end - 1}" if point.width > 1 else ""
    bit = f" bit {point.bit}" if point.bit is not None else ""
    return f"{point.table.value} {point.address}{last}{bit}"


def _hex(one: ProbedPoint) -> str:
    if one.raw is None:
        return ""
    return one.raw.hex() if one.point.table.is_bits else one.raw.hex(" ", 2)


def probe_as_json(url: str, unit_id: int, kind: DeviceType, found: Probe) -> dict[str, object]:
    """Return what `--json` prints of a device that was read once."""
    return {
        "url": url,
        "unit_id": unit_id,
        "type": kind.name,
        "source": {"where": kind.source.where, "verified": kind.source.verified},
        "complete": found.complete,
        "hold_warnings": list(hold_warnings(kind, _numbers(found))),
        "guessed_in_orders": guessed_in_orders(kind),
        "points": [
            {
                "point": one.point.name,
                "value": one.shown if one.value is not None else None,
                "unit": one.point.unit,
                "quality": one.reason or "good",
                "table": one.point.table.value,
                "address": one.point.address,
                "count": one.point.width,
                "raw": _hex(one) if one.raw is not None else None,
                "verified": is_verified(kind, one.point),
            }
            for one in found.points
        ],
        "requests": [
            {
                "table": asked.request.table.value,
                "address": asked.request.address,
                "count": asked.request.count,
                "failure": asked.failure or None,
            }
            for asked in found.asked
        ],
    }


def print_guesses(console: Console, url: str, unit_id: int, guesses: Sequence[Guess]) -> None:
    """Print what one device may be."""
    if not guesses:
        console.print(f"unit {unit_id} answers, but as none of the device types that can be told apart.")
        console.print(UNTOLD, style="yellow", soft_wrap=True)
        console.print(f"Look with: portico probe {escape(url)} --unit {unit_id} --type NAME", soft_wrap=True)
        return
    console.print(f"unit {unit_id} may be, the likeliest first:")
    for guess in guesses[:SHOWN_GUESSES]:
        console.print(f"  {guess_in_words(guess)}", soft_wrap=True)
    console.print(NOT_CERTAIN, style="yellow")
    first = guesses[0].type
    way = "--sunspec --write types/NAME.toml" if first == "SunSpec" else f"--type {first}"
    console.print(f"Look with: portico probe {escape(url)} --unit {unit_id} {way}", soft_wrap=True)


def guess_in_words(guess: Guess) -> str:
    """Return one guess on one line."""
    strength = "recognised" if guess.hinted else "by its values"
    return f"[bold]{escape(guess.type)}[/] ({strength}): {escape('; '.join(guess.reasons))}"


def guesses_as_json(guesses: Sequence[Guess]) -> list[dict[str, object]]:
    """Return guesses for `--json`; none is certain."""
    return [
        {"type": guess.type, "recognised": guess.hinted, "reasons": list(guess.reasons)} for guess in guesses
    ]


def print_scan(
    console: Console,
    url: str,
    units: Sequence[int],
    found: Sequence[Unit],
    guesses: Mapping[int, Sequence[Guess]],
    alone: bool,
) -> None:
    """Print the units of a line."""
    if not found:
        console.print(
            f"none of {len(units)} unit ids answers at {url}: is the device on, are the wires right "
            "(A and B, common), and on a serial line baud rate and parity? A slow device wants --timeout 1s.",
            soft_wrap=True,
        )
        return
    if alone:
        console.print(
            f"All {len(units)} unit ids answer: rather one device that ignores the unit id. Looked at as "
            f"unit {found[0].unit_id}.",
            style="yellow",
            soft_wrap=True,
        )
    shown = Table(box=None)
    for heading in ("unit id", "answer", "may be"):
        shown.add_column(heading, justify="right" if heading == "unit id" else "left")
    for unit in found[:1] if alone else found:
        may_be = guesses.get(unit.unit_id, ())[:SHOWN_GUESSES]
        words = "\n".join(guess_in_words(guess) for guess in may_be) or "none of the device types"
        shown.add_row(str(unit.unit_id), escape(unit.answer), words)
    console.print(shown)
    console.print(NOT_CERTAIN, style="yellow")


def scan_as_json(
    url: str,
    units: Sequence[int],
    found: Sequence[Unit],
    guesses: Mapping[int, Sequence[Guess]],
    alone: bool,
) -> dict[str, object]:
    """Return what `--json` prints of a scan."""
    return {
        "url": url,
        "asked": len(units),
        "ignores_unit_ids": alone,
        "units": [
            {
                "unit_id": unit.unit_id,
                "answer": unit.answer,
                "types": guesses_as_json(guesses.get(unit.unit_id, ())),
            }
            for unit in found
        ],
    }


def print_sunspec(console: Console, found: Discovery, made: Described, written: Path | None) -> None:
    """Print what was discovered of a SunSpec device."""
    kind = made.type
    console.print(f"[bold]{escape(kind.manufacturer)} {escape(kind.model)}[/], SunSpec map at {found.base}")
    shown = Table(box=None)
    for heading in ("model", "name", "address", "registers", "points"):
        right = heading in ("model", "address", "registers")
        shown.add_column(heading, justify="right" if right else "left", no_wrap=True)
    for model in found.models:
        known = "known" if model.definition is not None else "not known here"
        shown.add_row(str(model.id), escape(model.name), str(model.address), str(model.length), known)
    console.print(shown)
    polled = sum(point.default for point in kind.points)
    orders = [point.name for point in kind.points if point.write is not None]
    console.print(f"{len(kind.points)} points, {polled} read by default")
    if orders:
        console.print(f"can be written: {escape(', '.join(orders))}", soft_wrap=True)
    for remark in (*found.remarks, *made.remarks):
        console.print(f"{escape(remark)}", style="yellow", soft_wrap=True)
    if written is None:
        console.print("--write types/NAME.toml makes a device type of it")
    else:
        console.print(
            f"{written}: review it, then name it in gateway.toml: type = {kind.name!r}", soft_wrap=True
        )


def sunspec_as_json(
    url: str, unit_id: int, found: Discovery, made: Described, written: Path | None
) -> dict[str, object]:
    """Return what `--json` prints of a discovery."""
    kind = made.type
    return {
        "url": url,
        "unit_id": unit_id,
        "manufacturer": kind.manufacturer,
        "model": kind.model,
        "base": found.base,
        "models": [
            {
                "id": model.id,
                "name": model.name,
                "address": model.address,
                "registers": model.length,
                "known": model.definition is not None,
            }
            for model in found.models
        ],
        "points": len(kind.points),
        "default": sum(point.default for point in kind.points),
        "writable": [point.name for point in kind.points if point.write is not None],
        "remarks": [*found.remarks, *made.remarks],
        "written": str(written) if written is not None else None,
    }
