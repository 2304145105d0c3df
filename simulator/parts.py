"""What a scenario is made of: premises, lines, devices, how they obey, and faults by script.

The format stands in `simulator/README.md`. Relies on pydantic; a part that is there is well formed. Not
here: reading files, what does not fit together, copies of houses (`simulator.scenario`).
"""

import difflib
import re
from datetime import datetime
from typing import Annotated, Final, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    model_validator,
)

from core.ids import name_fault
from simulator.effect import Behaviour
from simulator.faults import Fault, FaultKind
from simulator.pdu import DEVICE_FAILURE

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|min|h)")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}
Part = TypeVar("Part")


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
As = PlainSerializer(lambda found: f"{found:f}s", return_type=str)
Seconds = Annotated[float, BeforeValidator(seconds), Field(ge=0), As]
PortNumber = Annotated[int, Field(ge=0, le=65535)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class MainsPart(_Part):
    """The public supply."""

    hz: Annotated[float, Field(ge=45, le=65)] = 50.0
    v: Annotated[float, Field(ge=100, le=300)] = 230.0


LineKind = Literal["tcp", "rtu", "rtu-tcp", "tls", "dial-in"]
_SERIAL: Final = {"baud", "parity", "stop_bits", "turnaround"}
FILES: Final = {"ca", "cert", "key"}
_LINE_KEYS: Final[dict[str, set[str]]] = {
    "tcp": {"port", "one_at_a_time", "patience", "exchange"},
    "rtu": _SERIAL,
    "rtu-tcp": {"port", *_SERIAL},
    "tls": {"port", "roles", *FILES},
    "dial-in": {"connect", "framing", "hello", "tls", *_SERIAL, *FILES},
}
_ADDRESS: Final = re.compile(r"(\[[0-9a-fA-F:]+\]|[^:/\s]+):(\d{1,5})")


class LinePart(_Part):
    """One line of some premises, with one or several devices on it."""

    name: Name
    kind: LineKind = "tcp"
    port: PortNumber = 0
    baud: Annotated[int, Field(ge=0, le=1_000_000)] = 9600
    """Bits a second; 0: as fast as it goes."""
    parity: Literal["none", "even", "odd"] = "none"
    stop_bits: Literal[1, 2] = 1
    turnaround: Seconds = 0.005
    """How long a device thinks before it answers."""
    one_at_a_time: bool = False
    """A gateway: who is slow or silent holds up the others."""
    patience: Seconds = 1.0
    """After how long the gateway gives up and answers with exception 11."""
    exchange: Seconds = 0.0
    """What each request takes on the bus behind the gateway."""
    connect: str | None = None
    """dial-in: host:port to dial."""
    framing: Literal["tcp", "rtu"] = "tcp"
    hello: Annotated[str, Field(max_length=200)] = ""
    """dial-in: what is sent first."""
    tls: bool = False
    """dial-in: with a certificate."""
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    roles: dict[str, Literal["read", "write"]] | None = None
    """tls: what a role in a client's certificate may do; without: every client may do everything."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        unfit = sorted(self.model_fields_set - {"name", "kind"} - _LINE_KEYS[self.kind])
        if unfit:
            raise ValueError(f"{', '.join(unfit)}: not for a line of kind {self.kind}")
        if self.kind == "dial-in" and (self.connect is None or not _ADDRESS.fullmatch(self.connect)):
            raise ValueError('connect is missing: a device that dials in needs "host:port" to dial')
        given = {name for name in FILES if getattr(self, name) is not None}
        if given and given != FILES:
            raise ValueError("ca, cert and key belong together: give all of them, or none for made ones")
        return self

    @property
    def has_port(self) -> bool:
        """Whether the simulator listens for it."""
        return self.kind in ("tcp", "rtu-tcp", "tls")

    @property
    def wants_credentials(self) -> bool:
        """Whether certificates are made for it."""
        return (self.kind == "tls" or self.tls) and self.cert is None

    @property
    def bits(self) -> int:
        """Bits of a character, with start, parity and stop."""
        return 9 + (self.parity != "none") + self.stop_bits

    @property
    def address(self) -> tuple[str, int]:
        """Where to dial."""
        found = _ADDRESS.fullmatch(self.connect or "")
        if found is None:
            raise RuntimeError("only a line that dials in has an address")
        return found[1].strip("[]"), int(found[2])


class BehaviourPart(_Part):
    """How a device obeys; see `simulator.effect`."""

    delay: Seconds = 0.0
    refuses: Annotated[int, Field(ge=0, le=255)] = 0
    ignores: bool = False
    keeps: bool = False
    at_least: Seconds = 0.0
    at_most: Seconds = 0.0
    warm_c: Annotated[float | None, Field(ge=-40, le=120)] = None

    def behaviour(self) -> Behaviour:
        """Return it as a device needs it."""
        return Behaviour(
            delay_s=self.delay,
            refuses=self.refuses,
            ignores=self.ignores,
            keeps=self.keeps,
            at_least_s=self.at_least,
            at_most_s=self.at_most,
            warm_c=self.warm_c,
        )


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
    behaviour: BehaviourPart = BehaviourPart()


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


def _kind(text: str) -> str:
    kinds = [kind.value for kind in FaultKind]
    if text not in kinds:
        near = difflib.get_close_matches(text, kinds, n=1)
        raise ValueError(f"{text!r} is none of {', '.join(kinds)}" + "".join(f"; {one}?" for one in near))
    return text


Kind = Annotated[str, AfterValidator(_kind)]
SLOW_MS: Final = 1000
LATE_MS: Final = 1500
"""Beyond the time-out of most types, which is a second."""


class FaultPart(_Part):
    """Something that goes wrong, `at` so long after the plant is ready."""

    device: Name
    kind: Kind
    at: Seconds = 0.0
    lasts: Annotated[float | None, BeforeValidator(seconds), Field(alias="for", gt=0), As] = None
    """Without it: to the end."""
    ms: Annotated[int | None, Field(ge=1, le=600_000)] = None
    code: Annotated[int, Field(ge=1, le=255)] = DEVICE_FAILURE
    points: tuple[Name, ...] = ()
    by: float | None = None
    ppm: Annotated[float, Field(ge=-1_000_000, le=1_000_000)] = 0.0

    def fault(self) -> Fault:
        """Return the fault, apart from its time."""
        kind = FaultKind(self.kind)
        ms = self.ms or (LATE_MS if kind is FaultKind.LATE else SLOW_MS)
        return Fault(kind, ms=ms, code=self.code, points=self.points, by=self.by, ppm=self.ppm)


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
