"""A scenario: which premises with which devices stand on which ports, and what goes wrong when.

Read from TOML; every fault of a file is told at once, each with its place. The format stands in
`simulator/README.md`; examples are `simulator/scenarios/*.toml`.

Relies on `simulator.parts`. Not here: device types, whose names are only checked where they are loaded.
"""

import json
import tomllib
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from core.errors import ConfigError
from core.faultwords import of_another, sentence
from simulator.parts import (
    FILES,
    BehaviourPart,
    DevicePart,
    FaultPart,
    LinePart,
    MainsPart,
    PremisesPart,
    Scenario,
    seconds,
)

__all__ = [
    "SCENARIOS",
    "Scenario",
    "fleet",
    "load_scenario",
    "seconds",
    "spread",
    "with_free_ports",
    "with_port_base",
]

SCENARIOS: Final = Path(__file__).parent / "scenarios"


def load_scenario(path: Path) -> Scenario:
    """Read a scenario. ConfigError carries every fault, each with its place."""
    try:
        with path.open("rb") as file:
            document = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8.") from error
    for premises in _tables(document, "premises"):
        for line in _tables(premises, "line"):
            _from(path.parent, line)
    try:
        # By way of JSON, where strictness knows that an array may be a tuple and a time is a text.
        found = spread(Scenario.model_validate_json(json.dumps(document, default=str)))
    except ValidationError as error:
        other = of_another(document, "premises")
        if other:
            raise ConfigError(f"{path} {other}.") from error
        faults = tuple(
            f"{'.'.join(map(str, one['loc']))}: {_words(one)}" for one in error.errors(include_url=False)
        )
    else:
        faults = tuple(contradictions(found))
        if not faults:
            return found
    raise ConfigError(
        f"{path} has {len(faults)} fault{'s' * (len(faults) > 1)}: correct what is listed.", faults
    )


_PARTS: Final[Mapping[str, type[BaseModel]]] = {
    "mains": MainsPart,
    "line": LinePart,
    "device": DevicePart,
    "behaviour": BehaviourPart,
    "premises": PremisesPart,
    "fault": FaultPart,
}
_EXAMPLES: Final = {
    "name": 'name = "home"',
    "premises": "[[premises]], with [[premises.line]] and [[premises.device]] below it",
    "device": "[[premises.device]]",
    "type": 'type = "eastron-sdm630"',
    "kind": 'kind = "silent"',
    "at": 'at = "10s"',
}
"""How the keys that must be there are written."""


def _words(one: ErrorDetails) -> str:
    key = str(one["loc"][-1]) if one["loc"] else ""
    part = next((_PARTS[str(name)] for name in reversed(one["loc"][:-1]) if name in _PARTS), Scenario)
    keys = [field.alias or name for name, field in part.model_fields.items()]
    context = {"key": key, **one.get("ctx", {})}
    return sentence(one["type"], one["msg"], one["input"], context, keys, _EXAMPLES.get(key, ""))


def _tables(document: dict[str, object], key: str) -> list[dict[str, object]]:
    """Return the tables of an array, none where there is something else, which validation finds."""
    found = document.get(key)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _from(directory: Path, line: dict[str, object]) -> None:
    """Let the files that a line names be meant from where the scenario is."""
    for name in FILES & line.keys():
        if isinstance(line[name], str):
            line[name] = str(directory.resolve() / str(line[name]))


def contradictions(scenario: Scenario) -> Iterator[str]:
    """Yield what does not fit together in a scenario that is well formed, each with its place."""
    names: set[str] = set()
    ports: dict[int, str] = {}
    for part in scenario.premises:
        lines = {line.name for line in part.line}
        if len(lines) != len(part.line):
            yield f"premises {part.name}: two lines have the same name"
        units: set[tuple[str, int]] = set()
        used = [(line.port, f"line {line.name}") for line in part.line]
        for device in part.device:
            place = f"premises {part.name}, device {device.name}"
            if device.name in names:
                yield f"{place}: the name is taken by another device"
            names.add(device.name)
            if device.line is None:
                used.append((device.port, f"device {device.name}"))
                continue
            if device.port:
                yield f"{place}: has a line and a port; the line's port is meant, so leave the other out"
            if device.line not in lines:
                yield f"{place}: line {device.line} is not among the premises' lines"
            if (device.line, device.unit_id) in units:
                yield f"{place}: unit id {device.unit_id} is taken on line {device.line}"
            units.add((device.line, device.unit_id))
        for port, user in used:
            if port and port in ports:
                yield f"premises {part.name}, {user}: port {port} is that of {ports[port]}"
            ports[port] = f"premises {part.name}, {user}"
    for number, fault in enumerate(scenario.fault):
        if fault.device not in names:
            yield f"fault.{number}.device: no device is called {fault.device}"


def spread(scenario: Scenario) -> Scenario:
    """Return a scenario with every copy of a house written out."""
    return scenario.model_copy(
        update={"premises": tuple(one for part in scenario.premises for one in _copies(part))}
    )


def fleet(scenario: Scenario, devices: int) -> Scenario:
    """Return a scenario with so many devices: its premises again and again, each numbered, on free ports.

    The last premises may be left with fewer devices. A scripted fault befalls the device in every copy.
    """
    each = sum(len(part.device) for part in scenario.premises)
    rounds = -(-devices // each)
    digits = max(2, len(str(rounds)))
    found: list[PremisesPart] = []
    left = devices
    for number in range(1, rounds + 1):
        for part in scenario.premises:
            if left:
                one = numbered(_without_ports(part), number, digits)
                found.append(one.model_copy(update={"device": one.device[:left]}))
                left -= len(found[-1].device)
    known = {device.name for part in found for device in part.device}
    faults = tuple(
        fault.model_copy(update={"device": name})
        for fault in scenario.fault
        for number in range(1, rounds + 1)
        if (name := f"{fault.device}-{number:0{digits}d}") in known
    )
    return scenario.model_copy(update={"premises": tuple(found), "fault": faults})


def with_port_base(scenario: Scenario, base: int) -> Scenario:
    """Return a scenario with every port numbered upwards from `base`, in the order of the file."""
    numbers = count(base)

    def number() -> int:
        if (found := next(numbers)) > 65535:
            raise ConfigError(f"from port {base} on there are too few: choose a lower --port-base.")
        return found

    def premises(part: PremisesPart) -> PremisesPart:
        lines = tuple(
            line.model_copy(update={"port": number()}) if line.has_port else line for line in part.line
        )
        devices = tuple(
            device if device.line is not None else device.model_copy(update={"port": number()})
            for device in part.device
        )
        return part.model_copy(update={"line": lines, "device": devices})

    return scenario.model_copy(update={"premises": tuple(premises(part) for part in scenario.premises)})


def with_free_ports(scenario: Scenario) -> Scenario:
    """Return a scenario that leaves the choice of every port to the system."""
    return scenario.model_copy(update={"premises": tuple(_without_ports(part) for part in scenario.premises)})


def numbered(part: PremisesPart, number: int, digits: int, *, block: int = 0) -> PremisesPart:
    """Return one copy of premises: its number ends every name, given ports go on by `block` a copy."""

    def name(text: str) -> str:
        return f"{text}-{number:0{digits}d}"

    def moved(port: int) -> int:
        return port + (number - 1) * block if port else 0

    return part.model_copy(
        update={
            "name": name(part.name),
            "copies": None,
            "line": tuple(
                line.model_copy(update={"name": name(line.name), "port": moved(line.port)})
                for line in part.line
            ),
            "device": tuple(
                device.model_copy(
                    update={
                        "name": name(device.name),
                        "line": None if device.line is None else name(device.line),
                        "port": moved(device.port),
                    }
                )
                for device in part.device
            ),
        }
    )


def _copies(part: PremisesPart) -> Iterator[PremisesPart]:
    if part.copies is None:
        yield part
        return
    # A given port is that of the first copy's line; the next copies follow, one block after another.
    block = sum(line.has_port for line in part.line) + sum(device.line is None for device in part.device)
    digits = max(2, len(str(part.copies)))
    for number in range(1, part.copies + 1):
        yield numbered(part, number, digits, block=block)


def _without_ports(part: PremisesPart) -> PremisesPart:
    return part.model_copy(
        update={
            "line": tuple(line.model_copy(update={"port": 0}) for line in part.line),
            "device": tuple(device.model_copy(update={"port": 0}) for device in part.device),
        }
    )
