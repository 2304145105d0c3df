"""The entry point `portico`: which commands there are.

Every package brings its own commands; the table below only names where they are.  A module is
imported when its command is the one that was typed, so that `portico --help` and the start of
the agent do not pay for what they do not use.

Relies on typer, and on `core.outcome` for how a command ends.
Deliberately not here: what the commands do, logging, and the reading of any configuration.
"""

import importlib
import importlib.metadata
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, NamedTuple

import typer

from core.outcome import leave


class Command(NamedTuple):
    """One row of the table: where the command is, its line in the list, and an example."""

    target: str  # "module:attribute", a typer app or a function
    summary: str
    example: str


COMMANDS = {
    "demo": Command(
        "cli.demo:command",
        "Show the main job end to end, with a broker outage and a kill -9.",
        "portico demo --seconds 30 --json",
    ),
    "agent": Command(
        "agent.cli:app",
        "Run the gateway agent, check its configuration, ask for its status.",
        "portico agent check -c gateway.toml",
    ),
    "store": Command(
        "agent.store_cli:app",
        "Look into the gateway's store: statistics, latest rows, export, verification.",
        "portico store stats var/gw-0001",
    ),
    "audit": Command(
        "agent.audit_cli:app",
        "Read a gateway's audit log, verify it, prove an entry, export it.",
        "portico audit verify var/gw-0001",
    ),
    "simulate": Command(
        "simulator.cli:app",
        "Serve simulated devices on real lines, from a scenario file, with faults.",
        "portico simulate -s simulator/scenarios/household.toml",
    ),
    "headend": Command(
        "headend.cli:app",
        "Collect readings from the broker, list them, and judge their completeness.",
        "portico headend readings --device main-meter --json",
    ),
    "probe": Command(
        "cli.probe:command",
        "Find the devices of a line, what they are, and read one once.",
        "portico probe modbus+tcp://192.168.1.20 --scan",
    ),
    "types": Command(
        "cli.devicetypes:app",
        "List and show device types, and take their points to a spreadsheet and back.",
        "portico types export eastron-sdm630 -o points.csv",
    ),
    "conformance": Command(
        "cli.conformance.command:app",
        "Judge an agent or a head-end that somebody else wrote, line by line.",
        "portico conformance agent --only A-33 --json",
    ),
    "policy": Command(
        "cli.policy:app",
        "Print, check and explain policies; keep, sign, publish and verify them.",
        "portico policy show policy.toml",
    ),
    "command": Command(
        "cli.command:app",
        "Send signed commands to gateways and follow them from received to restored.",
        "portico command status 20261122T170000123-9f3ac2d1 --gateway gw-0001",
    ),
    "optout": Command(
        "agent.optout_cli:command",
        "Say no to remote control at the gateway, for a device or for all, or take it back.",
        "portico optout --device wh-01 -c gateway.toml",
    ),
    "certs": Command(
        "certs.cli:app",
        "Create and look at certificates and signing keys for development.",
        "portico certs dev var/certs --gateway gw-0001 --broker 127.0.0.1",
    ),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and leave with its exit code: 0, 1 (failed), 2 (wrong use or configuration)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    leave(lambda: entry(arguments)(args=arguments, prog_name="portico"))


def entry(arguments: Sequence[str]) -> typer.Typer:
    """Return the app in which the command that `arguments` name is real and the others are only listed."""
    # The root has only flags, so the first word that is not one is the command.
    typed = next((word for word in arguments if not word.startswith("-")), None)
    app = typer.Typer(
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog="Example: portico demo --seconds 30",
    )
    app.callback()(root)
    for name, command in COMMANDS.items():
        target = load(command.target) if name == typed else listed_only
        if isinstance(target, typer.Typer):
            # One that does something without a command of its own says so itself.
            bare = target.info.invoke_without_command is True
            app.add_typer(
                target, name=name, help=command.summary, epilog=epilog(command), no_args_is_help=not bare
            )
        else:
            app.command(name, short_help=command.summary, epilog=epilog(command))(target)
    return app


def load(target: str) -> typer.Typer | Callable[..., object]:
    """Import what "module:attribute" names."""
    module, _, attribute = target.partition(":")
    found: object = getattr(importlib.import_module(module), attribute)
    if isinstance(found, typer.Typer) or callable(found):
        return found
    raise TypeError(f"{target} is neither a typer app nor a function")


def epilog(command: Command) -> str:
    """Return the line that ends the command's help."""
    return f"Example: {command.example}"


def listed_only() -> None:
    """Stand in the list of commands for one that was not typed."""
    raise RuntimeError("a command that was not typed cannot run")


def show_version(wanted: bool) -> None:
    """Print the version and leave."""
    if wanted:
        typer.echo(f"portico {importlib.metadata.version('portico-gateway')}")
        raise typer.Exit


def root(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Portico: readings from the field to the head-end, and nothing lost."""
