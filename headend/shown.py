"""Readings written for people and programs: a table, CSV, or JSON with one object a line.

Values are written exactly, as decimals; in JSON as text, because most readers of JSON would make a
binary float of a number.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from decimal import Decimal
from typing import TextIO

from rich.console import Console
from rich.table import Table

from headend.instants import instant
from headend.readings import Reading, precedence_name

COLUMNS = (
    "tick",
    "answered",
    "received",
    "delay_ms",
    "usage_point",
    "gateway",
    "device",
    "device_type",
    "point",
    "quantity",
    "value",
    "unit",
    "quality",
    "reasons",
    "judged_by",
    "reopened",
    "owners",
    "steward",
    "validator",
    "epoch",
    "seq",
    "index",
)


def value_text(value: Decimal | str | bool | None) -> str:
    """Return a value as text: exact, never with an exponent; empty for none."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case Decimal():
            return format(value, "f")
        case str():
            return value


def write_csv(every: Iterable[Reading], out: TextIO) -> int:
    """Write readings as CSV (RFC 4180) with a head line; return how many."""
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    number = 0
    for one in every:
        number += 1
        fields = as_json(one)
        fields["value"] = value_text(one.value)
        fields["reasons"] = " ".join(one.quality.reasons)
        fields["owners"] = " ".join(one.owners)
        fields["reopened"] = "true" if one.quality.reopened else "false"
        writer.writerow([fields[name] for name in COLUMNS])
    return number


def write_json(every: Iterable[Reading], out: TextIO) -> int:
    """Write readings as JSON, one object a line; return how many."""
    number = 0
    for one in every:
        number += 1
        out.write(json.dumps(as_json(one)) + "\n")
    return number


def write_table(every: Iterable[Reading], console: Console) -> int:
    """Write readings as a table for people; return how many."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("tick", "usage point", "device", "point"):
        table.add_column(name, no_wrap=name in ("tick", "point"))
    table.add_column("value", justify="right")
    table.add_column("unit")
    table.add_column("quality")
    table.add_column("owner")
    table.add_column("delay", justify="right")
    number = 0
    for one in every:
        number += 1
        quality = " ".join((one.quality.code, *one.quality.reasons))
        table.add_row(
            instant(one.tick_ms),
            one.usage_point or "-",
            f"{one.gateway}/{one.device}",
            one.point,
            value_text(one.value) or "-",
            one.unit,
            quality + (" reopened" if one.quality.reopened else ""),
            " ".join(one.owners),
            f"{one.delay_ms / 1000:.3f} s",
        )
    console.print(table)
    return number


def as_json(one: Reading) -> dict[str, object]:
    """Return a reading by the names of :data:`COLUMNS`."""
    value = one.value
    return {
        "tick": instant(one.tick_ms),
        "answered": instant(one.answered_ms),
        "received": instant(one.received_ms),
        "delay_ms": one.delay_ms,
        "usage_point": one.usage_point,
        "gateway": one.gateway,
        "device": one.device,
        "device_type": one.device_type,
        "point": one.point,
        "quantity": one.quantity,
        "value": value_text(value) if isinstance(value, Decimal) else value,
        "unit": one.unit,
        "quality": one.quality.code,
        "reasons": list(one.quality.reasons),
        "judged_by": precedence_name(one.quality),
        "reopened": one.quality.reopened,
        "owners": list(one.owners),
        "steward": one.steward,
        "validator": one.validator,
        "epoch": one.epoch,
        "seq": one.seq,
        "index": one.index,
    }
