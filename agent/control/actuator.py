"""A point that can be controlled, and the two acts on it: write it once, read what shows the effect.

Acts go through the lane of the line's worker, before its polls.  Nothing is written twice: whoever wants a
write repeated says so by calling again.  Relies on `drivers.modbus.writes` for the requests.  Not here:
when, and whether (`agent.control.commander`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from agent.commandlane import CommandLane
from agent.config_models import Config
from agent.config_rules import Types
from core.errors import FieldError
from drivers.modbus.link import TIMEOUT_S, ControlLink, reason_of
from drivers.modbus.plan import plan
from drivers.modbus.values import GroupDecoder
from drivers.modbus.writes import send, writes_of
from drivers.points import PointType
from policies.facts import TypeLimits


@dataclass(frozen=True, slots=True)
class Shown:
    """What reading a point gave."""

    value: Decimal | None
    why: str = ""
    """The reason why there is none."""


@dataclass(frozen=True, slots=True, eq=False)
class Actuator:
    """One controllable point of one device."""

    device: str
    type: str
    unit_id: int
    line: str
    point: PointType
    feedback: PointType | None
    """The point that shows the effect; None where nothing but the order itself can be read."""
    timeout_s: float
    pause_s: float

    @property
    def default(self) -> Decimal:
        """The value without control, as the device type has it."""
        assert self.point.write is not None
        return self.point.write.default

    @property
    def proves(self) -> bool:
        """Whether a feedback can show that the device obeyed, not only that it took the order."""
        return self.feedback is not None and self.feedback.name != self.point.name

    def shows(self, shown: Shown, value: Decimal) -> bool:
        """Tell whether what was read is a value, within half of a step of the order."""
        assert self.point.write is not None
        return shown.value is not None and abs(shown.value - value) * 2 <= self.point.write.step

    @property
    def limits(self) -> TypeLimits:
        """What the device type says that the point bears."""
        write = self.point.write
        assert write is not None
        also = [write.min, write.max, *write.also]
        return TypeLimits(min(also), max(also), write.min_on_s, write.min_off_s, write.essential)

    def hold_s(self, remaining_s: float) -> Decimal | None:
        """Return for how long the device shall keep an order by itself: no longer than what remains."""
        write = self.point.write
        assert write is not None
        if write.hold_register is None and write.on_for is None:
            return None
        bounds = write.hold_register or write.on_for
        assert bounds is not None
        shortest = write.hold_register.min if write.hold_register is not None else bounds.scale
        return max(shortest, min(bounds.max, Decimal(int(remaining_s))))

    def check(self, value: Decimal, hold_s: Decimal | None) -> None:
        """Return when an order can be given; ``ValueError`` says why not."""
        writes_of(self.point, value, hold_s)

    async def write(self, lane: CommandLane, value: Decimal, hold_s: Decimal | None) -> None:
        """Write once, the device's own hold first; FieldError, or ValueError for what cannot be written."""
        writes = writes_of(self.point, value, hold_s)

        async def act(link: ControlLink) -> None:
            for one in writes:
                await send(link, self.unit_id, one, self.timeout_s, self.pause_s)

        await lane.take(act)

    async def show(self, lane: CommandLane) -> Shown:
        """Read what shows the effect: the feedback, else the point itself."""
        return await self._read(lane, self.feedback or self.point)

    async def present(self, lane: CommandLane) -> Shown:
        """Read the point itself, or its feedback where it cannot be read."""
        return await self._read(lane, self.point if self.point.readable else self.feedback or self.point)

    async def _read(self, lane: CommandLane, point: PointType) -> Shown:
        if not point.readable:
            return Shown(None, "unreadable")
        [request] = requests = plan((point,))
        try:
            answer = await lane.take(
                lambda link: link.read(self.unit_id, request, self.timeout_s, self.pause_s)
            )
        except FieldError as error:
            return Shown(None, reason_of(error))
        values, quality = GroupDecoder((point,), requests).decode([answer])
        value = values[0]
        if value is None or quality:
            return Shown(None, "undecodable")
        if isinstance(value, int) and not isinstance(value, bool):
            return Shown(Decimal(value).scaleb(point.core_point(0).exp))
        return Shown(Decimal(int(value) if isinstance(value, bool) else str(value)))


def actuators(config: Config, types: Types) -> Iterator[Actuator]:
    """Yield every point of the configured devices that can be written."""
    for device in config.devices:
        found = types(device.type)
        line = config.line(device.line)
        by_name = {point.name: point for point in found.points}
        timeout_s = line.timeout.s if "timeout" in line.model_fields_set else found.limits.timeout_ms / 1000
        for point in found.points:
            if point.write is not None:
                feedback = by_name.get(point.write.feedback) if point.write.feedback else None
                yield Actuator(
                    device.name,
                    device.type,
                    device.unit_id,
                    device.line,
                    point,
                    feedback,
                    timeout_s or TIMEOUT_S,
                    line.pause.s,
                )
