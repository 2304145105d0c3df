"""SunSpec devices for tests: their registers written down by hand, model by model.

The order of registers is that of SunSpec's published tables and is not taken from the definitions of
`drivers.sunspec`, so that a mistake there shows.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from core.errors import NoAnswer, Refused
from drivers.modbus.plan import Request
from drivers.points import Table

NO_INT16 = 0x8000
NO_UINT16 = 0xFFFF
SUNS = (0x5375, 0x6E53)


def text(value: str, registers: int) -> list[int]:
    body = value.encode().ljust(2 * registers, b"\0")
    return [int.from_bytes(body[at : at + 2], "big") for at in range(0, len(body), 2)]


def long(value: int, registers: int = 2) -> list[int]:
    body = value.to_bytes(2 * registers, "big", signed=value < 0)
    return [int.from_bytes(body[at : at + 2], "big") for at in range(0, len(body), 2)]


def signed(value: int) -> int:
    return value % 0x10000


def common(manufacturer: str = "Sunny", model: str = "S-8000") -> tuple[int, list[int]]:
    body = text(manufacturer, 16) + text(model, 16) + text("", 8) + text("1.2.3", 8)
    return 1, [*body, *text("SN-42", 16), 7, NO_INT16]


def inverter_103(power: int = 5230, power_scale: int = 0, energy: int = 123_456) -> tuple[int, list[int]]:
    return 103, [
        *(2270, 757, 756, 757, signed(-2)),  # A, by phase, A_SF
        *(NO_UINT16, NO_UINT16, NO_UINT16, 2301, 2302, 2303, signed(-1)),  # PPV, PhV, V_SF
        *(signed(power), signed(power_scale)),  # W, W_SF
        *(4998, signed(-2)),  # Hz
        *(5300, 0, signed(-120), 0, signed(NO_INT16), NO_INT16),  # VA, VAr, PF is not there
        *(*long(energy), 0),  # WH
        *(NO_UINT16, NO_INT16, 6500, signed(-1), 5400, 0),  # DCA is not there, DCV, DCW
        *(412, NO_INT16, NO_INT16, NO_INT16, signed(-1)),  # TmpCab and the others
        *(4, NO_UINT16),  # St, StVnd
        *long(0),
        *long(0),
        *([0xFFFF] * 8),
    ]


def controls_123(timers: bool = True) -> tuple[int, list[int]]:
    timer = 0 if timers else NO_UINT16
    return 123, [
        *(NO_UINT16, timer, 1),  # Conn_WinTms, Conn_RvrtTms, Conn
        *(1000, NO_UINT16, timer, NO_UINT16, 0),  # WMaxLimPct and its timers, WMaxLim_Ena
        *(signed(-10000), NO_UINT16, NO_UINT16, NO_UINT16, 0),  # OutPFSet without a timer
        *(NO_INT16, NO_INT16, NO_INT16),  # VAr..Pct
        *(NO_UINT16, NO_UINT16, NO_UINT16, NO_UINT16, 0),
        *(signed(-1), signed(-4), NO_INT16),
    ]


def mppt_160(inputs: int = 2, said: int | None = None) -> tuple[int, list[int]]:
    body = [signed(-2), signed(-1), 0, 0, *long(0), inputs if said is None else said, NO_UINT16]
    for number in range(1, inputs + 1):
        body += [number, *text(f"String {number}", 8), 400 + number, 3250, 1300 * number]
        body += [*long(7000 * number), *long(0xFFFF_FFFF), NO_INT16, 4, *long(0)]
    return 160, body


def meter_203(power: int = -1500) -> tuple[int, list[int]]:
    def phases(total: int) -> list[int]:
        return [signed(total), signed(total // 3), signed(total // 3), signed(total // 3)]

    return 203, [
        *(*phases(651), signed(-2)),  # A
        *(2300, 2301, 2302, 2303, 3990, 3991, 3992, 3993, signed(-1)),  # PhV, PPV
        *(5001, signed(-2)),  # Hz
        *(*phases(power), 0),  # W
        *(*[NO_INT16] * 4, NO_INT16),  # VA
        *(*phases(-30), 0),  # VAR
        *(signed(-98), NO_INT16, NO_INT16, NO_INT16, 0),  # PF
        *(*long(1_000_001), *[0] * 6, *long(2_000_002), *[0] * 6, 1),  # Wh exported, imported, scale 10
        *([0] * 16 + [NO_INT16]),  # VAh
        *([0] * 32 + [NO_INT16]),  # varh, four quadrants
        *long(0),  # Evt
    ]


def der_704() -> tuple[int, list[int]]:
    no_time = [0xFFFF, 0xFFFF]
    return 704, [
        *(0, NO_UINT16, *no_time, *no_time),  # PFWInj: enable, reversion enable, time, remaining
        *(NO_UINT16, NO_UINT16, *no_time, *no_time),  # PFWAbs
        *(0, 1000, 800, 1, *long(0), *long(0)),  # WMaxLimPct: enable, value, reversion, its enable, times
        *(0, 0, *long(0), *long(0), 0, 0, 0, *long(60), *long(0)),  # WSet
        *([NO_UINT16] * 3),  # VarSet: enable, mode, priority
        *([0x8000, 0] * 2),
        *(NO_INT16, NO_INT16, NO_UINT16, *no_time, *no_time),
        *([NO_UINT16] * 4),  # ramps, anti-islanding
        *(signed(-3), signed(-1), 0, signed(-1), NO_INT16, NO_INT16),
        *(950, 0),  # PFWInj: PF, Ext
        *([NO_UINT16] * 6),
    ]


def chain(
    models: Iterable[tuple[int, Sequence[int]]],
    base: int = 40000,
    lengths: Mapping[int, int] | None = None,
    end: Sequence[int] = (0xFFFF, 0),
) -> dict[int, int]:
    """Return the registers of a device; ``lengths`` are what some models say in place of their length."""
    words = [*SUNS]
    for model, body in models:
        words += [model, (lengths or {}).get(model, len(body)), *body]
    words += end
    return dict(enumerate(words, base))


class Registers:
    """A link to a device in memory: holding registers, the largest read it takes, and its moods."""

    def __init__(
        self, held: Mapping[int, int], largest: int = 125, silent_beyond: int = 125, silent_first: int = 0
    ) -> None:
        self.held = dict(held)
        self.largest = largest
        self.silent_beyond = silent_beyond
        self.silent_first = silent_first
        """So many requests get no answer before the first one does."""
        self.asked: list[Request] = []
        self.connected = False

    async def connect(self) -> None:
        self.connected = True

    async def close(self) -> None:
        self.connected = False

    async def read(
        self, unit_id: int, request: Request, timeout_s: float = 1.0, pause_s: float = 0.0
    ) -> bytes:
        await asyncio.sleep(0)
        assert self.connected
        self.asked.append(request)
        if self.silent_first > 0 or request.count > self.silent_beyond:
            self.silent_first -= 1
            self.connected = False
            raise NoAnswer("no answer")
        addresses = range(request.address, request.end)
        if request.table is not Table.HOLDING or any(one not in self.held for one in addresses):
            raise Refused(2, "no such address")
        if request.count > self.largest:
            raise Refused(3, "too many")
        return b"".join(self.held[one].to_bytes(2, "big") for one in addresses)
