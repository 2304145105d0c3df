"""What was discovered of a SunSpec device as a device type, to be reviewed and used like any other.

Names and quantities are SunSpec's; where two models of a device use one name, the later has the model's
id behind it.  A scale factor that SunSpec calls static is read once, here, and becomes the exponent of its
points.  Any other is a point too, by which the others are scaled in each poll (``scale_by``), since devices
do change them as they work; today's content only chooses the step in which values are stated.

Points that the device had no value for are named in the type and not read by default.  Orders are those of
``controls.toml``; their reversion timer becomes the hold.

Pure.  Deliberately not here: talking to the device (``drivers.sunspec.discovery``), writing files.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import ROUND_CEILING, Decimal
from typing import Literal

from core.errors import Undecodable
from drivers.points import PointType, RegisterType, Table
from drivers.sunspec.definitions import KINDS, PointDefinition, controls
from drivers.sunspec.discovery import Discovery, FoundModel
from drivers.types import DeviceType, Limits, Range, Source

SCALES = range(-9, 10)
"""Powers of ten that a type can state; SunSpec has -10 to 10."""
KIND_ORDER: tuple[Literal["inverter", "meter", "battery"], ...] = ("inverter", "meter", "battery")
TITLE = "SunSpec model definitions, and what the device itself says it has"

# Units as other types write them. A percentage of something is a percentage: of what, the model says.
UNITS = {
    "": "1",
    "cos()": "1",
    "PF": "1",
    "Pct": "%",
    "%Max/Sec": "%/s",
    "% WMax/sec": "%/s",
    "% WChaMax/sec": "%/s",
    "Secs": "s",
    "C": "Cel",
    "Var": "var",
    "Varh": "varh",
    "WH": "Wh",
    "AH": "Ah",
    "ohms": "Ohm",
}
ENERGIES = frozenset({"Wh", "varh", "VAh", "Ah"})
RATINGS = frozenset({"WHRtg", "WHAvail"})
"""Energies that a battery can hold or holds: they do not count upwards."""
CLOCKS: dict[tuple[int, str], dict[str, object]] = {
    # Model 122: "Seconds since 01-01-2000 00:00 UTC". How far it may be off is ours.
    (122, "Tms"): {"clock": {"since": "2000-01-01", "max_offset": "60s"}},
}
"""What makes sense of a point that is the device's own clock."""
NAMEPLATES = ((702, "WMaxRtg", "W_SF"), (120, "WRtg", "WRtg_SF"))
"""Where a device states its rated power: model, point, scale factor."""
# Ours: to what a float is rounded. Float models state no resolution, and seven digits of noise cost money.
RESOLUTIONS = {
    "A": "0.001",
    "V": "0.01",
    "W": "0.1",
    "VA": "0.1",
    "var": "0.1",
    "Hz": "0.001",
    "%": "0.01",
    "Cel": "0.1",
    **dict.fromkeys(ENERGIES, "1"),
}


@dataclass(frozen=True, slots=True)
class Described:
    """A device type and what a person who reviews it wants to know."""

    type: DeviceType
    heading: tuple[str, ...]
    notes: Mapping[str, tuple[str, ...]]
    """Lines of comment before a point."""
    remarks: tuple[str, ...]
    """What was left out, and why."""


def describe(found: Discovery, name: str, today: date) -> Described:
    """Return the device type of what was discovered; ``Undecodable`` when no model of it is known."""
    draft = _Draft(found)
    draft.fill()
    if not draft.points:
        raise Undecodable("none of the device's SunSpec models has points that are known here")
    common = found.model(1)
    manufacturer = _text(common, "Mn") or "unknown"
    model = _text(common, "Md") or "unknown"
    version = _text(common, "Vr")
    where = sorted({one.definition.where for one in found.models if one.definition is not None})
    kind = DeviceType(
        name=name,
        manufacturer=manufacturer,
        model=model,
        description=f"SunSpec device, models {', '.join(str(one.id) for one in found.models)}",
        kind=_kind(found),
        source=Source(
            title=TITLE,
            edition=f"firmware {version}" if version else "",
            where=where[0],
            also=tuple(where[1:]),
            read=today,
            verified=True,
        ),
        limits=Limits(max_registers=found.max_registers, forbidden=_forbidden(found.refused)),
        points=tuple(draft.points),
    )
    heading = (
        f"{manufacturer} {model}, as it described itself on {today.isoformat()}.",
        f"SunSpec map at holding register {found.base}:",
        *(
            f"  model {one.id} ({one.name}) at {one.address}, {one.length} registers"
            + ("" if one.definition else ", points not known here")
            for one in found.models
        ),
        "Ours are resolutions of floats, ranges of orders where SunSpec has none, what is read by default.",
        "A step (`scale`) is that of the device's scale factor on that day, and at most 1.",
        *(f"Remark: {remark}." for remark in (*found.remarks, *draft.remarks)),
    )
    return Described(kind, heading, draft.notes, tuple(draft.remarks))


@dataclass
class _Draft:
    """The points of a type while they are put together."""

    found: Discovery
    points: list[PointType] = field(default_factory=list)
    notes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)
    scalers: dict[str, str] = field(default_factory=dict)
    """Scale factors of the model at hand that are points, by what SunSpec calls them."""
    nameplate_w: Decimal | None = None
    grouped: dict[str, list[str]] = field(default_factory=dict)
    """Points by what is to be remarked of them."""

    def fill(self) -> None:
        """Put together the points of all known models, in the order of the device."""
        self.nameplate_w = _nameplate_w(self.found)
        for model in self.found.models:
            if model.definition is None:
                continue
            before = len(self.points)
            self.scalers = {
                point.name: self._name(point.name, model.id)
                for point, address, _ in _placed(model)
                if point.kind == "sunssf" and self._is_used(model, point, address)
            }
            for point, address, suffix in _placed(model):
                self._add(model, point, address, suffix)
            if len(self.points) > before:
                title = f"--- model {model.id}: {model.definition.label}, at {model.address} ---"
                self.notes[self.points[before].name] = (title,)
        self.remarks += [f"{reason}: {', '.join(names)}" for reason, names in self.grouped.items()]

    def _add(self, model: FoundModel, point: PointDefinition, address: int, suffix: str) -> None:
        raw = _raw(model, address, point.length)
        if point.kind == "pad" or raw is None:
            return
        exponent = 0
        if point.scale_factor:
            scale = _scale(model, point.scale_factor)
            if scale is None or scale not in SCALES:
                if point.mandatory or not _is_absent(point, raw):
                    says = "no value" if scale is None else str(scale)
                    self._remark(model, f"left out, since {point.scale_factor} says {says}", point.name)
                return
            exponent = scale if (model.id, point.name) in controls() else min(scale, 0)
            exponent = exponent if point.scale_factor in self.scalers else scale
        if point.length > self.found.max_registers:
            self._remark(model, "left out, since longer than a read may be", point.name)
            return
        if point.kind == "sunssf":
            if point.name in self.scalers:
                self.points.append(self._scaler(model, point, address))
            return
        name = self._name(f"{point.name}{suffix}", model.id)
        keys = _keys(model, point, address, name, exponent, raw)
        makes = model.definition is not None and model.definition.kind == "inverter"  # no meter at the grid
        if makes and keys["cumulative"] and keys["unit"] == "Wh" and self.nameplate_w is not None:
            keys["sense"] = _gain(self.nameplate_w)
        if point.scale_factor in self.scalers:
            keys["scale_by"] = self.scalers[point.scale_factor]
        if not suffix:
            order, remark = _order(model, point, name, exponent, raw)
            if order is not None:
                keys["write"] = order
            if remark:
                self._remark(model, remark, point.name)
        self.points.append(PointType.model_validate(keys))

    def _remark(self, model: FoundModel, remark: str, name: str) -> None:
        self.grouped.setdefault(f"model {model.id} at {model.address}, {remark}", []).append(name)

    def _is_used(self, model: FoundModel, point: PointDefinition, address: int) -> bool:
        """Tell whether a scale factor may change and scales something."""
        raw = _raw(model, address, point.length)
        if point.static or raw is None or _is_absent(point, raw):
            return False
        return any(one.scale_factor == point.name for one, *_ in _placed(model))

    def _scaler(self, model: FoundModel, point: PointDefinition, address: int) -> PointType:
        """Return a scale factor as a point; read by default when something that it scales is."""
        scaled = (
            _is_default(model, one, raw)
            for one, place, _ in _placed(model)
            if one.scale_factor == point.name and (raw := _raw(model, place, one.length)) is not None
        )
        return PointType.model_validate(
            {
                "name": self.scalers[point.name],
                "quantity": point.name,
                "unit": "1",
                "table": Table.HOLDING,
                "address": address,
                "type": RegisterType.INT16,
                "not_available": (KINDS["sunssf"].marker,),
                "low": Decimal(SCALES[0]),
                "high": Decimal(SCALES[-1]),
                "default": any(scaled),
            }
        )

    def _name(self, wanted: str, model: int) -> str:
        name, number = wanted, 1
        while name in self.taken:
            name = f"{wanted}_{model}" if number == 1 else f"{wanted}_{model}_{number}"
            number += 1
        self.taken.add(name)
        return name


def _placed(model: FoundModel) -> Iterator[tuple[PointDefinition, int, str]]:
    """Yield a model's points that lie within its length, with address and what its name ends in."""
    definition = model.definition
    if definition is None:
        return
    for point in definition.points:
        if point.end <= model.length:
            yield point, model.first + point.offset, ""
    repeat = definition.repeat
    if repeat is None:
        return
    room = max(model.length - definition.length, 0) // repeat.length
    for number in range(min(room, _count(model, repeat.counter, room))):
        start = model.first + definition.length + number * repeat.length
        for point in repeat.points:
            yield point, start + point.offset, f"_{number + 1}"


def _count(model: FoundModel, counter: str, room: int) -> int:
    """Return how often a repeat is there; as often as there is room where the device does not say."""
    for point, address, _ in _own(model):
        if point.name == counter:
            raw = _raw(model, address, point.length)
            if raw is not None and not _is_absent(point, raw):
                return int.from_bytes(raw, "big")
    return room


def _own(model: FoundModel) -> Iterator[tuple[PointDefinition, int, str]]:
    assert model.definition is not None
    return ((point, model.first + point.offset, "") for point in model.definition.points)


def _raw(model: FoundModel, address: int, length: int) -> bytes | None:
    """Return a point's registers, None where the device did not give all of them."""
    held = [model.registers.get(one) for one in range(address, address + length)]
    if any(one is None for one in held):
        return None
    return b"".join(one.to_bytes(2, "big") for one in held if one is not None)


def _is_absent(point: PointDefinition, raw: bytes) -> bool:
    """Tell whether registers say that the point is not implemented."""
    if point.kind == "string":
        return not raw.strip(b"\0 ")
    if point.kind == "float32":
        return raw[0] & 0x7F == 0x7F and raw[1] & 0x80 == 0x80 and bool(raw[1] & 0x7F or raw[2] or raw[3])
    if point.kind == "float64":
        return raw[0] & 0x7F == 0x7F and raw[1] & 0xF0 == 0xF0 and bool(raw[1] & 0x0F or any(raw[2:]))
    return int.from_bytes(raw, "big") == KINDS[point.kind].marker


def _scale(model: FoundModel, name: str) -> int | None:
    """Return the power of ten that a scale factor says, None where it says none."""
    for point, address, _ in _own(model):
        if point.name == name:
            raw = _raw(model, address, point.length)
            if raw is not None and not _is_absent(point, raw):
                return int.from_bytes(raw, "big", signed=True)
    return None


def _nameplate_w(found: Discovery) -> Decimal | None:
    """Return the power that an inverter has by its own nameplate, in W; None where it states none."""
    for number, rating, factor in NAMEPLATES:
        model = found.model(number)
        if model is None or model.definition is None:
            continue
        scale = _scale(model, factor)
        for point, address, _ in _own(model):
            raw = _raw(model, address, point.length) if point.name == rating else None
            if raw is not None and scale is not None and not _is_absent(point, raw) and any(raw):
                return Decimal(int.from_bytes(raw, "big")).scaleb(scale)
    return None


def _gain(nameplate_w: Decimal) -> dict[str, object]:
    """Return how fast an inverter's energy can grow: a fifth more than its nameplate, which is ours."""
    rate = (nameplate_w * Decimal("1.2") / 3600).quantize(Decimal("0.001"), ROUND_CEILING)
    return {"max_rate": rate, "refresh": "10s", "guessed": ("refresh",)}


def _keys(
    model: FoundModel, point: PointDefinition, address: int, name: str, exponent: int, raw: bytes
) -> dict[str, object]:
    """Return a point of a type by its keys, without how it is written."""
    definition = model.definition
    assert definition is not None
    register = RegisterType(KINDS[point.kind].register)
    unit = UNITS.get(point.unit, "%" if point.unit.startswith("%") else point.unit)
    keys: dict[str, object] = {
        "name": name,
        "quantity": point.name,
        "unit": "" if register is RegisterType.STRING else unit,
        "table": Table.HOLDING,
        "address": address,
        "type": register,
        "default": _is_default(model, point, raw),
    }
    if register is RegisterType.STRING:
        keys["length"] = point.length
    elif register.is_float:
        keys |= {"not_available": ("nan",), "resolution": RESOLUTIONS.get(unit)}
    else:
        keys |= {"not_available": (KINDS[point.kind].marker,), "scale": Decimal(1).scaleb(exponent)}
    if (model.id, point.name) in CLOCKS:
        keys["sense"] = CLOCKS[model.id, point.name]
    counts = unit in ENERGIES and point.name.startswith(("Tot", "DCWh", "WH")) and definition.measures
    keys["cumulative"] = KINDS[point.kind].accumulates or (counts and point.name not in RATINGS)
    return keys


def _is_default(model: FoundModel, point: PointDefinition, raw: bytes) -> bool:
    """Tell whether a point is read unless the operator says otherwise.

    Measurements that have a value or must have one (an inverter sleeps at night), and orders.
    """
    definition = model.definition
    assert definition is not None
    if (model.id, point.name) in controls():
        return not _is_absent(point, raw)
    if not definition.measures or point.kind in ("string", "count") or point.name in ("ID", "IDStr"):
        return False
    return point.mandatory or not _is_absent(point, raw)


def _order(
    model: FoundModel, point: PointDefinition, name: str, exponent: int, raw: bytes
) -> tuple[dict[str, object] | None, str]:
    """Return how a point is written, None where it is no order or is not implemented; and a remark."""
    control = controls().get((model.id, point.name))
    if control is None or _is_absent(point, raw):
        return None, ""
    step = Decimal(1).scaleb(exponent)
    if (control.default - control.min) % step or step > control.max - control.min:
        return None, f"not written, since steps of {step} do not fit the range"
    order: dict[str, object] = {
        "function": "registers",
        "min": control.min,
        "max": control.max,
        "step": step,
        "default": control.default,
        "hold": "none",
        "feedback": name,
    }
    timer = next((place for place in _own(model) if place[0].name == control.timer), None)
    held = None if timer is None else _raw(model, timer[1], timer[0].length)
    if timer is None or held is None or _is_absent(timer[0], held):
        return order, "without a reversion timer, so the device keeps the last order for ever"
    register = RegisterType(KINDS[timer[0].kind].register)
    most = (1 << register.bits) - 2  # all ones means: not implemented
    order |= {
        "hold": "timer",
        "hold_register": {
            "table": Table.HOLDING,
            "address": timer[1],
            "type": register,
            "max": Decimal(most),
            "function": "registers",
        },
    }
    return order, ""


def _text(model: FoundModel | None, name: str) -> str:
    if model is None or model.definition is None:
        return ""
    for point, address, _ in _own(model):
        raw = _raw(model, address, point.length) if point.name == name else None
        if raw is not None:
            text = raw.partition(b"\0")[0].decode("utf-8", "replace").strip()
            return "".join(sign if sign.isprintable() else "?" for sign in text)
    return ""


def _kind(found: Discovery) -> Literal["inverter", "meter", "battery"]:
    """Return what the device is: an inverter that also meters is an inverter."""
    kinds = {model.definition.kind for model in found.models if model.definition is not None}
    for kind in KIND_ORDER:
        if kind in kinds:
            return kind
    return "inverter"


def _forbidden(refused: tuple[int, ...]) -> tuple[Range, ...]:
    """Return addresses as ranges that are never read."""
    runs: list[list[int]] = []
    for address in refused:
        if runs and address == runs[-1][1] + 1:
            runs[-1][1] = address
        else:
            runs.append([address, address])
    return tuple(Range(table=Table.HOLDING, first=first, last=last) for first, last in runs)
