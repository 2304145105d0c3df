"""What can be asked of a plant while it runs, and what it answers: one JSON object each.

Requests: `{"do": "list"}`, `{"do": "fault", "device": .., "kind": ..}`, `{"do": "clear"}`,
`{"do": "set", ..}`; answers: `{"ok": true, ..}` or `{"ok": false, "error": "a sentence"}`. The forms stand
in `docs/simulator.md`.

Relies on `simulator.trouble`. Not here: the socket (`simulator.ctlsocket`), the command line.
"""

import difflib
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Final, assert_never

import msgspec

from drivers.types import PointType
from simulator.bends import is_number
from simulator.device import Device
from simulator.encoding import Plain, decode, encode
from simulator.faults import Fault, FaultKind
from simulator.parts import LATE_MS, SLOW_MS
from simulator.pdu import DEVICE_FAILURE
from simulator.trouble import Trouble, Troubles

Lasting = Annotated[float, msgspec.Meta(gt=0, le=10_000_000)]
Text = Annotated[str, msgspec.Meta(max_length=200)]


class ListAsked(msgspec.Struct, tag_field="do", tag="list", forbid_unknown_fields=True):
    """Which devices there are, what troubles them; of one device also its values."""

    device: Text | None = None


class FaultAsked(msgspec.Struct, tag_field="do", tag="fault", forbid_unknown_fields=True):
    """Let a fault begin."""

    device: Text
    kind: Text
    for_s: Lasting | None = None
    ms: Annotated[int, msgspec.Meta(ge=1, le=600_000)] | None = None
    code: Annotated[int, msgspec.Meta(ge=1, le=255)] = DEVICE_FAILURE
    points: Annotated[tuple[Text, ...], msgspec.Meta(max_length=1000)] = ()
    by: float | None = None
    ppm: Annotated[float, msgspec.Meta(ge=-1_000_000, le=1_000_000)] = 0.0

    def fault(self, kind: FaultKind) -> Fault:
        """Return the fault, apart from its time."""
        ms = self.ms or (LATE_MS if kind is FaultKind.LATE else SLOW_MS)
        return Fault(kind, ms=ms, code=self.code, points=self.points, by=self.by, ppm=self.ppm)


class ClearAsked(msgspec.Struct, tag_field="do", tag="clear", forbid_unknown_fields=True):
    """End faults and set values."""

    device: Text | None = None
    kind: Text | None = None


class SetAsked(msgspec.Struct, tag_field="do", tag="set", forbid_unknown_fields=True):
    """Set a value by hand."""

    device: Text
    point: Text
    value: Text
    for_s: Lasting | None = None


Asked = ListAsked | FaultAsked | ClearAsked | SetAsked
Answer = dict[str, object]

_DECODER: Final = msgspec.json.Decoder(Asked)


class Wrong(Exception):
    """A request that cannot be met; the sentence says why."""


def parsed(line: bytes) -> Asked:
    """Return a request. Wrong when it is none."""
    try:
        found: Asked = _DECODER.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Wrong(f"that is no request: {error}") from error
    return found


def refusal(sentence: str) -> Answer:
    """Return the answer to what cannot be met."""
    return {"ok": False, "error": sentence}


class Desk:
    """Answers for one plant."""

    def __init__(
        self, devices: Mapping[str, Device], described: Mapping[str, Answer], troubles: Troubles
    ) -> None:
        """`described` is what the ready line tells of each device."""
        self._devices: Final = devices
        self._described: Final = described
        self._troubles: Final = troubles

    def answer(self, asked: Asked, now_s: float) -> Answer:
        """Do what is asked, and return the answer; `now_s` is the event loop's clock."""
        try:
            match asked:
                case ListAsked():
                    return {"ok": True, "devices": self._list(asked.device, now_s)}
                case FaultAsked():
                    found = self._troubles.begin(
                        known(asked.device, self._devices),
                        asked.fault(kind_of(asked.kind)),
                        cause="hand",
                        lasts_s=asked.for_s,
                    )
                    return {"ok": True, **told(found, now_s)}
                case ClearAsked():
                    if asked.device is not None:
                        known(asked.device, self._devices)
                    return {"ok": True, "cleared": self._troubles.clear(asked.device, asked.kind)}
                case SetAsked():
                    name = known(asked.device, self._devices)
                    lasting = self._troubles.set(name, asked.point, asked.value, lasts_s=asked.for_s)
                    point = {"device": name, "point": asked.point, "value": asked.value}
                    return {"ok": True, **point, "stays": lasting is not None}
                case _ as never:
                    assert_never(never)
        except (Wrong, ValueError) as error:
            return refusal(str(error))

    def _list(self, name: str | None, now_s: float) -> list[Answer]:
        if name is None:
            return [self._listed(one, now_s) for one in self._devices]
        listed = self._listed(known(name, self._devices), now_s)
        return [{**listed, "values": values(self._devices[name])}]

    def _listed(self, name: str, now_s: float) -> Answer:
        lasting = [told(one, now_s) for one in self._troubles.lasting if one.device == name]
        return {**self._described[name], "troubles": lasting}


def known(name: str, devices: Mapping[str, object]) -> str:
    """Return the name of a device that is there. Wrong when none is called so."""
    if name in devices:
        return name
    near = difflib.get_close_matches(name, devices, n=3) or sorted(devices)[:5]
    raise Wrong(f"no device is called {name}: did you mean {', '.join(near)}?")


def kind_of(text: str) -> FaultKind:
    """Return a kind of fault. Wrong when there is none of that name."""
    try:
        return FaultKind(text)
    except ValueError:
        kinds = ", ".join(kind.value for kind in FaultKind)
        raise Wrong(f"{text!r} is no kind of fault; there are {kinds}") from None


def told(trouble: Trouble, now_s: float) -> Answer:
    """Return what an answer says of a trouble."""
    left_s = None if trouble.until_s is None else round(max(0.0, trouble.until_s - now_s), 1)
    return {
        "id": trouble.number,
        "device": trouble.device,
        "kind": trouble.kind,
        "cause": trouble.cause,
        "points": list(trouble.points),
        "left_s": left_s,
    }


def values(device: Device) -> list[Answer]:
    """Return what every point of a device shows now, as its registers round it."""
    return [
        {
            "point": point.name,
            "value": shown(point, value),
            "unit": point.unit,
            "writable": point.write is not None,
        }
        for point, value in ((device.type.point(name), value) for name, value in device.values().items())
    ]


def shown(point: PointType, value: Plain) -> str | bool | float:
    """Return a value as a client would read it, in the point's own unit."""
    if isinstance(value, str):
        return value
    if not is_number(point):
        return bool(value)
    found: Decimal = decode(point, encode(point, value))
    return int(found) if found == found.to_integral_value() else float(found)
