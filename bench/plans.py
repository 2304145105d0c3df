"""Requests that the full map of each shipped device type needs, beside the fewest that there can be.

The fewest is shown without the planner's algorithm, by points of which no two can be in one read: each of
them costs a request, whoever plans.  As many requests as such points are therefore proven to be the best.
Two points share a read when the device answers that many registers, the read touches nothing forbidden and
crosses no more unneeded addresses in a row than the type allows.

Pure, and done in a moment.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby

from drivers.modbus.plan import plan
from drivers.points import PointType
from drivers.types import DeviceType, Limits, known_types, load_type


@dataclass(frozen=True, slots=True)
class PlanUse:
    """One device type."""

    type: str
    points: int
    requests: int
    fewest: int
    """No plan has fewer: so many points are pairwise apart."""
    registers: int
    """Read by the plan; bits where the table is one of bits."""
    needed: int
    """Of them those that a point needs."""

    @property
    def over(self) -> float:
        """Requests beside the fewest."""
        return self.requests / self.fewest


def measure_plans(types: Iterable[str] | None = None) -> list[PlanUse]:
    """Plan every shipped type, all of it that can be read."""
    return [plan_use(load_type(name)) for name in (known_types() if types is None else types)]


def plan_use(kind: DeviceType) -> PlanUse:
    """Plan all points of one type, save those that are only written."""
    points = [point for point in kind.points if point.readable]
    requests = plan(points, kind.limits, kind.blocks)
    return PlanUse(
        type=kind.name,
        points=len(points),
        requests=len(requests),
        fewest=fewest(points, kind.limits),
        registers=sum(request.count for request in requests),
        needed=len({(point.table, at) for point in points for at in range(point.address, point.end)}),
    )


def over_optimum(found: Sequence[PlanUse]) -> float | None:
    """Return the worst ratio; 1.0 when no plan could be better."""
    return max((one.over for one in found), default=None)


def fewest(points: Sequence[PointType], limits: Limits) -> int:
    """Return how many points there are of which no two can be in one read."""
    ordered = sorted(points, key=lambda point: (point.table.value, point.address, -point.end))
    return sum(len(_apart(list(some), limits)) for _, some in groupby(ordered, lambda point: point.table))


def _apart(points: Sequence[PointType], limits: Limits) -> list[PointType]:
    """Return points of one table, in order of their addresses, each the first too far from the one before."""
    needed = {at for point in points for at in range(point.address, point.end)}
    bars = [(bar.first, bar.last) for bar in limits.forbidden if bar.table is points[0].table]
    most = limits.span(points[0].table)

    def share(one: PointType, other: PointType) -> bool:
        first, end = min(one.address, other.address), max(one.end, other.end)
        if end - first > most or any(low < end and first <= high for low, high in bars):
            return False
        holes = (
            len(list(run)) for hole, run in groupby(range(first, end), lambda at: at not in needed) if hole
        )
        return max(holes, default=0) <= limits.max_hole

    chosen = [points[0]]
    for point in points[1:]:
        if not share(chosen[-1], point):
            chosen.append(point)
    assert not any(share(one, other) for one, other in combinations(chosen, 2))
    return chosen
