"""`portico simulate ctl`: look at a plant that runs, let faults begin and end, set values by hand.

Relies on the plant's control socket. Not here: what the plant makes of it (`simulator.ctl`).
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from core.errors import ConfigError
from simulator.ctlsocket import Ctl
from simulator.faults import FaultKind
from simulator.parts import seconds

KINDS = ", ".join(kind.value for kind in FaultKind)

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Interfere with a plant that runs: faults by hand, values by hand.",
    epilog="Example: portico simulate ctl fault main-meter silent --for 10s",
)

Log = Annotated[Path, typer.Option("--log", help="Directory of the log of the plant that is meant.")]
Json = Annotated[bool, typer.Option("--json", help="Print the plant's answer as JSON.")]
Device = Annotated[str, typer.Argument(help="Name of a device, see ctl list.")]
For = Annotated[
    str | None, typer.Option("--for", help="How long, such as 10s or 5min.", show_default="until ctl clear")
]
PLANT = Path("var/plant")


@app.callback()
def plant(ctx: typer.Context, log: Log = PLANT) -> None:
    """Interfere with a plant that runs: faults by hand, values by hand."""
    # What stands before the command holds for it, unless it stands behind it too.
    ctx.default_map = {name: {"log": str(log)} for name in ("list", "fault", "clear", "set")}


@app.command("list", epilog="Example: portico simulate ctl list main-meter --json")
def list_(
    device: Annotated[
        str | None, typer.Argument(help="A device, to see its values too.", show_default="all")
    ] = None,
    log: Log = PLANT,
    as_json: Json = False,
) -> None:
    """Show the devices of a plant and what troubles them, or one of them with its values."""
    answer = asked(log, do="list", device=device)
    if as_json:
        typer.echo(json.dumps(answer))
        return
    shown = Table(box=None)
    shown.add_column("device", no_wrap=True)
    shown.add_column("type", no_wrap=True)
    shown.add_column("line", overflow="fold")
    shown.add_column("unit id")
    shown.add_column("troubles", overflow="fold")
    for one in answer["devices"]:
        shown.add_row(
            one["device"],
            one["type"],
            one["url"],
            str(one["unit_id"]),
            "; ".join(in_words(trouble) for trouble in one["troubles"]),
        )
    Console().print(shown)
    for one in answer["devices"] if device is not None else ():
        points = Table("point", "value", "unit", "", box=None)
        for value in one["values"]:
            note = "writable" if value["writable"] else ""
            points.add_row(value["point"], str(value["value"]), value["unit"], note)
        Console().print(points)


@app.command(epilog="Example: portico simulate ctl fault main-meter slow --ms 800 --for 30s")
def fault(
    device: Device,
    kind: Annotated[str, typer.Argument(help=f"One of {KINDS}.")],
    lasts: For = None,
    ms: Annotated[
        int | None, typer.Option("--ms", help="slow, late: how late.", show_default="1000, late: 1500")
    ] = None,
    code: Annotated[
        int | None, typer.Option("--code", help="exception, refused-writes: which.", show_default="4")
    ] = None,
    points: Annotated[
        list[str] | None,
        typer.Option(
            "--point",
            help="frozen, rollover, counter-reset, jump: which point; may be repeated.",
            show_default="all that fit",
        ),
    ] = None,
    by: Annotated[
        float | None,
        typer.Option(
            "--by",
            help="jump: how far; rollover: how much before the end; clock-drift: seconds off.",
            show_default="1000000; 1; 0",
        ),
    ] = None,
    ppm: Annotated[
        float | None, typer.Option("--ppm", help="clock-drift: microseconds a second.", show_default="0")
    ] = None,
    log: Log = PLANT,
    as_json: Json = False,
) -> None:
    """Let a fault of a device begin."""
    answer = asked(
        log,
        do="fault",
        device=device,
        kind=kind,
        for_s=duration(lasts),
        ms=ms,
        code=code,
        points=points or None,
        by=by,
        ppm=ppm,
    )
    if as_json:
        typer.echo(json.dumps(answer))
    else:
        typer.echo(f"{device}: {in_words(answer)}")


@app.command(epilog="Example: portico simulate ctl clear main-meter")
def clear(
    device: Annotated[str | None, typer.Argument(help="Name of a device.", show_default="all")] = None,
    kind: Annotated[
        str | None, typer.Option("--kind", help="This kind alone, or set.", show_default="every kind")
    ] = None,
    log: Log = PLANT,
    as_json: Json = False,
) -> None:
    """End faults, and let values set by hand go back to what they are."""
    answer = asked(log, do="clear", device=device, kind=kind)
    typer.echo(json.dumps(answer) if as_json else f"cleared: {answer['cleared']}")


@app.command("set", epilog="Example: portico simulate ctl set main-meter PhVphA 253.5 --for 1min")
def set_(
    device: Device,
    point: Annotated[str, typer.Argument(help="Name of a point, see ctl list DEVICE.")],
    value: Annotated[str, typer.Argument(help="What it shows, in the point's unit; put -- before -5.")],
    lasts: For = None,
    log: Log = PLANT,
    as_json: Json = False,
) -> None:
    """Set a value by hand: a cumulative one goes on from there, a writable one is an order at the device."""
    answer = asked(log, do="set", device=device, point=point, value=value, for_s=duration(lasts))
    if as_json:
        typer.echo(json.dumps(answer))
    else:
        stays = "until ctl clear" if lasts is None else f"for {lasts}"
        typer.echo(f"{device}: {point} is {value}{f', {stays}' if answer['stays'] else ''}")


def asked(log: Path, **request: object) -> dict[str, Any]:
    """Ask the plant, and return its answer."""
    with Ctl(log) as ctl:
        return ctl.ask(**request)


def duration(text: str | None) -> float | None:
    """Return seconds. ConfigError with a sentence when the text is no duration."""
    if text is None:
        return None
    try:
        found = seconds(text)
    except ValueError as error:
        raise ConfigError(f"{error}.") from error
    assert isinstance(found, float)
    return found


def in_words(trouble: dict[str, Any]) -> str:
    """Return a trouble as a few words."""
    points = f" of {', '.join(trouble['points'])}" if len(trouble["points"]) in (1, 2, 3) else ""
    left = "" if trouble["left_s"] is None else f" for {trouble['left_s']:g} s"
    return f"{trouble['kind']}{points}{left}"
