"""A scenario: which premises with which devices stand on which ports, and what goes wrong when.

Read from TOML; every fault of a file is told at once, each with its place. The format stands in
`simulator/README.md`; examples are `simulator/scenarios/*.toml`.

Relies on pydantic. Not here: device types, whose names are only checked where they are loaded.
"""

import json
import re
import tomllib
from collections.abc import Iterator
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Annotated, Final, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from core.errors import ConfigError
from core.ids import name_fault
from simulator.faults import Fault, FaultKind

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|min|h)")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}
Part = TypeVar("Part")
SCENARIOS: Final = Path(__file__).parent / "scenarios"


def seconds(text: object) -> object:
    """Return the seconds in "10s", "500ms", "1.5min", "2h"; anything else is left for pydantic to refuse."""
    found = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f"{text!r} is no duration: write a number and ms, s, min or h, such as '10s'")
    return float(found[1]) * _SECONDS[found[2]]


def _named(text: str) -> str:
    fault = name_fault(text)
    if fault is not None:
        raise ValueError(f"{text!r} {fault}")
    return text


def _zoned(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("needs an offset such as +01:00, which is also the local time of the day's habits")
    return moment


def _some(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    if not parts:
        raise ValueError("needs at least one")
    return parts


Name = Annotated[str, AfterValidator(_named)]
Seconds = Annotated[float, BeforeValidator(seconds), Field(ge=0)]
PortNumber = Annotated[int, Field(ge=0, le=65535)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class MainsPart(_Part):
    """The public supply."""

    hz: Annotated[float, Field(ge=45, le=65)] = 50.0
    v: Annotated[float, Field(ge=100, le=300)] = 230.0


class LinePart(_Part):
    """One listening port of some premises."""

    name: Name
    port: PortNumber = 0


class DevicePart(_Part):
    """One device."""

    name: Name
    type: Name
    line: Name | None = None
    """Its line; without one it has a port of its own."""
    port: PortNumber = 0
    unit_id: Annotated[int, Field(ge=0, le=255)] = 1
    measures: tuple[Name, ...] | None = None
    """Loads that it meters; without, those it controls, else the whole house."""
    controls: tuple[Name, ...] = ()
    """Loads without power while a writable point of the device differs from its default."""


class PremisesPart(_Part):
    """One house, or several alike with other seeds."""

    name: Name
    copies: Annotated[int, Field(ge=1, le=1000)] | None = None
    """As many houses; "-01" and so on is added to the names of premises, lines and devices."""
    people: Annotated[int, Field(ge=1, le=10)] = 3
    ev_w: Annotated[float, Field(ge=0, le=50_000)] = 11_000.0
    water_heater_w: Annotated[float, Field(ge=0, le=20_000)] = 2_000.0
    solar_peak_w: Annotated[float, Field(ge=0, le=100_000)] = 0.0
    line: tuple[LinePart, ...] = ()
    device: Annotated[tuple[DevicePart, ...], AfterValidator(_some)]


class FaultPart(_Part):
    """Something that goes wrong, `at` so long after the plant is ready."""

    device: Name
    kind: Literal["silent", "slow", "exception", "garbage", "close"]
    at: Seconds = 0.0
    lasts: Annotated[float | None, BeforeValidator(seconds), Field(alias="for", gt=0)] = None
    """Without it: to the end."""
    ms: Annotated[int, Field(ge=1, le=600_000)] = 1000
    code: Annotated[int, Field(ge=1, le=255)] = 4

    def fault(self) -> Fault:
        """Return the fault, apart from its time."""
        return Fault(FaultKind(self.kind), ms=self.ms, code=self.code)


class Scenario(_Part):
    """The whole file."""

    name: Name
    seed: int = 1
    speed: Annotated[float, Field(gt=0, le=3600)] = 1.0
    """Simulated seconds a second."""
    start: Annotated[datetime | None, AfterValidator(lambda at: at and _zoned(at))] = None
    """Simulated time when the plant starts; without it the wall clock's."""
    mains: MainsPart = MainsPart()
    premises: Annotated[tuple[PremisesPart, ...], AfterValidator(_some)]
    fault: tuple[FaultPart, ...] = ()

    def spread(self) -> Self:
        """Return the scenario with every copy of a house written out."""
        return self.model_copy(
            update={"premises": tuple(one for part in self.premises for one in _copies(part))}
        )

    def with_port_base(self, base: int) -> Self:
        """Return the scenario with every port numbered upwards from `base`, in the order of the file."""
        numbers = count(base)

        def number() -> int:
            if (found := next(numbers)) > 65535:
                raise ConfigError(f"from port {base} on there are too few: choose a lower --port-base.")
            return found

        def premises(part: PremisesPart) -> PremisesPart:
            lines = tuple(line.model_copy(update={"port": number()}) for line in part.line)
            devices = tuple(
                device if device.line is not None else device.model_copy(update={"port": number()})
                for device in part.device
            )
            return part.model_copy(update={"line": lines, "device": devices})

        return self.model_copy(update={"premises": tuple(premises(part) for part in self.premises)})


def load_scenario(path: Path) -> Scenario:
    """Read a scenario. ConfigError carries every fault, each with its place."""
    try:
        with path.open("rb") as file:
            document = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}.") from error
    try:
        # By way of JSON, where strictness knows that an array may be a tuple and a time is a text.
        found = Scenario.model_validate_json(json.dumps(document, default=str)).spread()
    except ValidationError as error:
        faults = tuple(
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors()
        )
    else:
        faults = tuple(contradictions(found))
        if not faults:
            return found
    raise ConfigError(
        f"{path} has {len(faults)} fault{'s' * (len(faults) > 1)}: correct what is listed.", faults
    )


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


def _copies(part: PremisesPart) -> Iterator[PremisesPart]:
    if part.copies is None:
        yield part
        return
    for number in range(1, part.copies + 1):

        def numbered(name: str, number: int = number) -> str:
            return f"{name}-{number:02d}"

        # A given port is that of the first copy's line; the next copies follow, one block after another.
        width = len(part.line) + sum(device.line is None for device in part.device)

        def moved(port: int, number: int = number, width: int = width) -> int:
            return port + (number - 1) * width if port else 0

        yield part.model_copy(
            update={
                "name": numbered(part.name),
                "copies": None,
                "line": tuple(
                    line.model_copy(update={"name": numbered(line.name), "port": moved(line.port)})
                    for line in part.line
                ),
                "device": tuple(
                    device.model_copy(
                        update={
                            "name": numbered(device.name),
                            "line": None if device.line is None else numbered(device.line),
                            "port": moved(device.port),
                        }
                    )
                    for device in part.device
                ),
            }
        )
