"""What a device may be: hints over values, values over nothing, and never without a reason."""

import asyncio
import struct
from decimal import Decimal

import pytest

from core.errors import LinkDown, Refused
from drivers.modbus.link import Link
from drivers.modbus.plan import Request
from drivers.points import PointType, RegisterType, Table
from drivers.recognition import MAX_SILENCES, SUNSPEC, Guess, Witness, recognise, worth_of
from drivers.types import DeviceType, known_types, load_type
from tests.support.points import point
from tests.support.sunspec import Registers, chain, common, inverter_103

KINDS = [load_type(name) for name in known_types()]


class Meter(Registers):
    """A device that plays a type: a value inside each plausible range, zeros in the small holes between."""

    def __init__(self, kind: DeviceType, extra: dict[tuple[Table, int], int] | None = None) -> None:
        super().__init__({})
        self.words: dict[tuple[Table, int], int] = {}
        for one in kind.points:
            for place, word in enumerate(plausible(one)):
                self.words[one.table, one.address + place] = word
        for one in kind.points:
            for address in range(one.end, one.end + kind.limits.max_hole):
                self.words.setdefault((one.table, address), 0)
        self.words |= extra or {}

    async def read(
        self, unit_id: int, request: Request, timeout_s: float = 1.0, pause_s: float = 0.0
    ) -> bytes:
        self.held = {address: word for (table, address), word in self.words.items() if table is request.table}
        self.asked.append(request)
        words = [self.held.get(address) for address in range(request.address, request.end)]
        if any(word is None for word in words):
            raise Refused(2, "no such address")
        return struct.pack(f">{len(words)}H", *words) if not request.table.is_bits else bytes(request.size)


def plausible(one: PointType) -> list[int]:
    if one.type is RegisterType.STRING:
        return [0x4120] * one.width
    value = Decimal(7)
    if one.low is not None and one.high is not None:
        value = (one.low + (one.high - one.low) * Decimal("0.7")).quantize(Decimal(1).scaleb(one.steps.exp))
    if one.type.is_float:
        body = struct.pack(">f" if one.type is RegisterType.FLOAT32 else ">d", float(value / one.scale))
    elif one.type.is_integer:
        raw = int((value - one.offset) / one.scale)
        body = (raw % (1 << one.type.bits)).to_bytes(one.type.bits // 8, "big")
    else:
        return [1]
    words = list(struct.unpack(f">{len(body) // 2}H", body))
    return words[::-1] if one.word_order == "little" else words


def guessed(link: Link) -> tuple[Guess, ...]:
    witness = Witness(link, 1, 0.5)
    return asyncio.run(recognise(witness, KINDS))


def text_words(value: str, registers: int) -> list[int]:
    body = value.encode().ljust(2 * registers, b"\0")
    return list(struct.unpack(f">{registers}H", body))


def test_meter_is_recognised_by_its_values_among_its_like() -> None:
    guesses = guessed(Meter(load_type("eastron-sdm630")))
    assert guesses[0].type == "eastron-sdm630"
    assert not guesses[0].hinted
    assert "points plausible" in guesses[0].reasons[0]


def test_fitting_hint_comes_before_values_and_another_hint_excludes() -> None:
    kind = load_type("schneider-iem3255")
    name = {(Table.HOLDING, 49 + at): word for at, word in enumerate(text_words("iEM3255", 20))}
    guesses = guessed(Meter(kind, name))
    assert (guesses[0].type, guesses[0].hinted) == ("schneider-iem3255", True)
    other = {(Table.HOLDING, 49 + at): word for at, word in enumerate(text_words("iEM3155", 20))}
    types = [guess.type for guess in guessed(Meter(load_type("schneider-iem3155"), other))]
    assert types[0] == "schneider-iem3155"
    assert "schneider-iem3255" not in types


def test_hint_that_the_device_does_not_give_is_no_evidence_against() -> None:
    kind = load_type("abb-b23")
    guesses = guessed(Meter(kind))
    assert (guesses[0].type, guesses[0].hinted) == ("abb-b23", False)


def test_sunspec_is_recognised_by_its_marker() -> None:
    (guess,) = guessed(Registers({**chain([common(), inverter_103()])}))
    assert (guess.type, guess.hinted) == (SUNSPEC, True)
    assert "say 'SunS'" in guess.reasons[0]


def test_device_of_zeros_is_nothing_in_particular() -> None:
    link = Meter(load_type("eastron-sdm630"))
    link.words = dict.fromkeys(link.words, 0)
    assert guessed(link) == ()


def test_device_that_refuses_everything_is_nothing_in_particular() -> None:
    assert guessed(Registers({})) == ()


def test_device_that_falls_silent_is_left_alone() -> None:
    link = Registers({}, silent_first=10_000)
    witness = Witness(link, 1, 0.5)
    assert asyncio.run(recognise(witness, KINDS)) == ()
    assert len(link.asked) == MAX_SILENCES + 1
    assert not witness.answered


def test_each_register_is_asked_for_once() -> None:
    link = Meter(load_type("eastron-sdm630"))
    guessed(link)
    places = [(request.table, request.address, request.count) for request in link.asked]
    assert len(places) == len(set(places))


def test_line_that_goes_down_is_told() -> None:
    class Gone(Registers):
        async def connect(self) -> None:
            raise LinkDown("nobody there")

    with pytest.raises(LinkDown, match="nobody there"):
        guessed(Gone({}))


def test_narrow_range_says_more_than_a_wide_one() -> None:
    hertz = worth_of(point("Hz", scale="0.01", low=45, high=65))
    volt = worth_of(point("V", scale="0.1", low=0, high=400))
    watt = worth_of(point("W", type="int16", low=-32768, high=32767))
    assert hertz > volt > watt == 0
    assert worth_of(point("K", table="coil", type="bool", unit="")) == 0
    assert worth_of(point("N")) == 0
