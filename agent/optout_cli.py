"""``portico optout``: the customer's no to remote control, said at the box, in plain words.

The running agent looks at it twice a second (`agent.control.optouts`): no restart, and no network.  Not here:
opt-outs that the signed assignment carries, which nobody takes back at the box.
"""

import json
from pathlib import Path
from typing import Annotated, Final

import typer

from agent import acts
from agent.control.optouts import devices, write
from core.errors import ConfigError

EVERYTHING: Final = "*"


def command(
    device: Annotated[
        list[str] | None, typer.Option(help="This device is not to be controlled; may be repeated.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="No device of this gateway is to be.")] = False,
    clear: Annotated[
        bool, typer.Option("--clear", help="Take it back: for all, or for each --device.")
    ] = False,
    show: Annotated[bool, typer.Option("--show", help="Say what stands now; so it does anyway.")] = False,
    data_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The gateway's data_dir, in place of a configuration.")
    ] = None,
    config: Annotated[Path, typer.Option("--config", "-c", help="The gateway's configuration.")] = Path(
        "gateway.toml"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of text.")] = False,
) -> None:
    """Say no to remote control of a device, take it back, or look at what stands."""
    named = list(dict.fromkeys(device or ()))
    if (every and (named or clear)) or (show and (named or every or clear)):
        raise ConfigError(
            "say one thing at a time: --device D, --all, --clear (of all or of --device D), --show"
        )
    directory, known = _where(data_dir, config)
    for one in named:
        if known is not None and one not in known:
            raise ConfigError(f"{config} has no device {one!r}: it has {', '.join(known) or 'none'}")
    before = devices(directory)
    if clear:
        after = [one for one in before if named and one not in named]
    elif every:
        after = [EVERYTHING]
    else:
        after = list(dict.fromkeys([*before, *named]))
    if clear or every or named:
        write(directory, after)
        acts.leave(directory, "optout --clear" if clear else "optout", now=", ".join(after))
    if as_json:
        nobody = EVERYTHING in after
        typer.echo(json.dumps({"all": nobody, "devices": [one for one in after if one != EVERYTHING]}))
        return
    for line in told(after):
        typer.echo(line)
    if clear and named and EVERYTHING in after:
        typer.echo("The no to everything stands all the same: portico optout --clear takes it back.")


def told(opted_out: list[str]) -> list[str]:
    """Return in plain words what stands."""
    if not opted_out:
        return ["Every device may be controlled by those whom the signed policy allows it."]
    if EVERYTHING in opted_out:
        what = "No device behind this gateway is controlled from outside"
    else:
        what = f"Not controlled from outside: {', '.join(sorted(opted_out))}"
    return [
        f"{what}, beginning within a second.",
        "What runs now is ended and put back, and what is asked for later is refused (opted-out).",
        "Excepted: programmes that the policy calls mandatory (opt_out = none), and, once they have begun,",
        "those that take a no only before they begin (opt_out = before_start).",
        "Measuring goes on. portico optout --clear takes it back.",
    ]


def _where(data_dir: Path | None, config: Path) -> tuple[Path, tuple[str, ...] | None]:
    """Return the directory of the agent's files, and the devices that there are, where that is known."""
    if data_dir is not None:
        if not data_dir.is_dir():
            raise ConfigError(f"{data_dir} is no directory: name the gateway's data_dir")
        return data_dir, None
    from agent.config import load_config

    found = load_config(config)
    directory = found.gateway.data_dir
    if not directory.is_dir():
        raise ConfigError(f"{directory}, the data_dir of {config}, is not there: has the agent ever run?")
    return directory, tuple(one.name for one in found.devices)
