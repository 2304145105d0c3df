"""The plant: every house of a scenario with its devices, and simulated time that drives them.

Time of the plant is a function of the seconds since its start and the scenario's speed, in steps of
one simulated second on a grid of their own, so that values depend on seed and simulated time alone.

Relies on `simulator.household` and `simulator.device`. Not here: sockets, files, wall clocks.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from core.errors import ConfigError
from drivers.types import DeviceType
from simulator.bends import CLOCK
from simulator.device import Device
from simulator.encoding import Plain
from simulator.household import Equipment, Household
from simulator.loads import Moment
from simulator.mains import Mains
from simulator.meter import Metering
from simulator.orders import Journal
from simulator.parts import DevicePart, LinePart, PremisesPart, Scenario

STEP_MS: Final = 1000
EPOCH_2000_S: Final = 946_684_800.0
"""2000-01-01 00:00 UTC as Unix time, from where SunSpec counts its `Tms`."""
MOST_HOUSE_STEPS: Final = 500
"""Steps of houses taken in one call of `advance`, some ten milliseconds; more needs several calls."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A line to open, with the devices behind it by unit id."""

    premises: str
    part: LinePart
    devices: Mapping[int, Device]

    @property
    def line(self) -> str:
        """The line's name; a device that has a port of its own gives it its own name."""
        return self.part.name


class Place:
    """What one device sees of its house: its own metering, and the house's temperatures."""

    def __init__(self, plant: "Plant", household: Household, metering: Metering) -> None:
        self._plant = plant
        self._household = household
        self._metering = metering
        self._partial = {
            name: metering.quantities()[name] for name in ("TotWhImp", "TotWhExp", "TotVArhImp", "TotVArhExp")
        }

    @property
    def version(self) -> int:
        """The number of the step that the plant lives in."""
        return self._plant.steps

    def elapsed_s(self) -> float:
        return self._plant.steps * STEP_MS / 1000

    def quantities(self) -> Mapping[str, Plain]:
        found: dict[str, Plain] = {**self._metering.quantities(), **self._household.quantities()}
        # Partial registers count since they were last set to zero: here since the plant started.
        for name, since in self._partial.items():
            now = found[name]
            assert isinstance(now, float)
            found[f"{name}Partial"] = now - since
        found["OpTms"] = int(self.elapsed_s())
        found[CLOCK] = self._plant.clock_s()
        return found


class Plant:
    """All houses of a scenario."""

    def __init__(
        self,
        scenario: Scenario,
        types: Mapping[str, DeviceType],
        *,
        now: datetime,
        journal: Journal,
        clock: Callable[[], float],
        counts: Mapping[tuple[str, str], int],
    ) -> None:
        """Build the plant and live through its first step.

        `now` starts a scenario that names no time; `clock` gives seconds that never go back; `counts`
        are those that counter devices reached in an earlier life. ConfigError when a device names a
        load that its house does not have.
        """
        self.scenario: Final = scenario
        self.start: Final = scenario.start or now
        self.steps = 0
        offset = self.start.utcoffset()
        self._local_s = self.start.timestamp() + (offset.total_seconds() if offset is not None else 0.0)
        self._mains = Mains(str(scenario.seed), hz=scenario.mains.hz, v=scenario.mains.v)
        self._households: list[Household] = []
        self._journal, self._clock, self._counts = journal, clock, counts
        self._real_s, self._began_s = now.timestamp(), clock()
        faults: list[str] = []
        listeners = [listener for part in scenario.premises for listener in self._build(part, types, faults)]
        if faults:
            raise ConfigError(f"scenario {scenario.name} names loads that are not there.", tuple(faults))
        self.listeners: Final = tuple(listeners)
        self.devices: Final = tuple(device for listener in listeners for device in listener.devices.values())
        self._step()

    @property
    def now(self) -> datetime:
        """Simulated time."""
        return datetime.fromtimestamp(self.start.timestamp() + self.steps * STEP_MS / 1000, UTC)

    def clock_s(self) -> float:
        """Return what the clock of a device shows: real time, which is what a gateway compares it with."""
        return self._real_s + self._clock() - self._began_s - EPOCH_2000_S

    def advance(self, to_s: float) -> int:
        """Live until so many seconds of real time after the start; return how many steps are still owed."""
        wanted = 1 + int(to_s * self.scenario.speed * 1000 / STEP_MS)
        most = max(1, MOST_HOUSE_STEPS // len(self._households))
        for _ in range(min(wanted - self.steps, most)):
            self._step()
        return max(0, wanted - self.steps)

    def settle(self) -> None:
        """Let holds of devices run out whose time has come."""
        for device in self.devices:
            device.settle()

    def _step(self) -> None:
        supply = self._mains.step()
        moment = Moment(self._local_s + self.steps * STEP_MS / 1000, STEP_MS / 1000)
        for household in self._households:
            household.step(supply, moment, STEP_MS)
        self.steps += 1

    def _build(
        self, part: PremisesPart, types: Mapping[str, DeviceType], faults: list[str]
    ) -> Iterator[Listener]:
        """Yield the ports of one house."""
        household = Household(
            f"{self.scenario.seed}/{part.name}",
            Equipment(part.people, part.ev_w, part.water_heater_w, part.solar_peak_w),
            nominal_v=self.scenario.mains.v,
        )
        self._households.append(household)
        devices: dict[str, Device] = {}
        for one in part.device:
            unknown = sorted({*(one.measures or ()), *one.controls} - household.load_names())
            if unknown:
                faults.append(
                    f"premises {part.name}, device {one.name}: the house has no {', '.join(unknown)}; "
                    f"it has {', '.join(sorted(household.load_names()))}"
                )
            else:
                devices[one.name] = self._device(one, household, types[one.type])
        for line in part.line:
            on_line = [one for one in part.device if one.line == line.name and one.name in devices]
            behind = {one.unit_id: devices[one.name] for one in on_line}
            yield Listener(part.name, line, behind)
        for one in part.device:
            if one.line is None and one.name in devices:
                alone = LinePart(name=one.name, port=one.port)
                yield Listener(part.name, alone, {one.unit_id: devices[one.name]})

    def _device(self, part: DevicePart, household: Household, device_type: DeviceType) -> Device:
        measures = part.measures or part.controls or None

        def shed(on: bool) -> None:
            household.shed(part.controls, on)

        return Device(
            part.name,
            device_type,
            source=Place(self, household, household.meter(measures, part.name)),
            journal=self._journal,
            clock=self._clock,
            counts={point: count for (device, point), count in self._counts.items() if device == part.name},
            shed=shed,
            behaviour=part.behaviour.behaviour(),
        )
