"""Sets of integers held as sorted, disjoint, inclusive ranges.

The ledger of the head-end, the confirmation on the wire and the agent's notion of
what the other end holds are all such sets: a cursor could not say that 1-100 and
201-300 arrived while 101-200 are still missing.

A :class:`RangeSet` is mutable on purpose: it lives inside one owner (a route, a
transaction of the books), grows by millions and is asked often.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

Range = tuple[int, int]


class RangeSet:
    """A set of integers as inclusive ranges; adjacent ranges are always merged."""

    __slots__ = ("_first", "_last")

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._first: list[int] = []
        self._last: list[int] = []
        for first, last in ranges:
            self.add(first, last)

    def __iter__(self) -> Iterator[Range]:
        return iter(zip(self._first, self._last, strict=True))

    def __len__(self) -> int:
        """Return the number of ranges (not of integers: see :meth:`count`)."""
        return len(self._first)

    def __bool__(self) -> bool:
        return bool(self._first)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RangeSet):
            return NotImplemented
        return self._first == other._first and self._last == other._last

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"RangeSet({list(self)!r})"

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._first, number) - 1
        return at >= 0 and number <= self._last[at]

    def count(self) -> int:
        """Return how many integers the set holds."""
        return sum(self._last) - sum(self._first) + len(self._first)

    def copy(self) -> "RangeSet":
        """Return an independent copy."""
        twin = RangeSet()
        twin._first = self._first.copy()
        twin._last = self._last.copy()
        return twin

    def add(self, first: int, last: int) -> None:
        """Add first..last, both inclusive; ``ValueError`` when last < first."""
        if last < first:
            raise ValueError(f"a range ends before it begins: {first}..{last}")
        begin = bisect_left(self._last, first - 1)
        end = bisect_right(self._first, last + 1)
        if begin < end:
            first = min(first, self._first[begin])
            last = max(last, self._last[end - 1])
        self._first[begin:end] = [first]
        self._last[begin:end] = [last]

    def remove(self, first: int, last: int) -> None:
        """Take first..last out; what was not in the set stays out."""
        if last < first:
            raise ValueError(f"a range ends before it begins: {first}..{last}")
        begin = bisect_left(self._last, first)
        end = bisect_right(self._first, last)
        if begin >= end:
            return
        kept: list[Range] = []
        if self._first[begin] < first:
            kept.append((self._first[begin], first - 1))
        if self._last[end - 1] > last:
            kept.append((last + 1, self._last[end - 1]))
        self._first[begin:end] = [a for a, _ in kept]
        self._last[begin:end] = [b for _, b in kept]

    def update(self, other: "RangeSet") -> None:
        """Add every range of another set."""
        for first, last in other:
            self.add(first, last)

    def covers(self, first: int, last: int) -> bool:
        """Tell whether all of first..last is in the set."""
        at = bisect_right(self._first, first) - 1
        return at >= 0 and last <= self._last[at]

    def overlap(self, first: int, last: int) -> list[Range]:
        """Return the parts of first..last that are in the set, in order."""
        begin = bisect_left(self._last, first)
        end = bisect_right(self._first, last)
        return [(max(first, self._first[i]), min(last, self._last[i])) for i in range(begin, end)]

    def missing(self, first: int, last: int) -> list[Range]:
        """Return the parts of first..last that are not in the set, in order."""
        holes: list[Range] = []
        at = first
        for begin, end in self.overlap(first, last):
            if begin > at:
                holes.append((at, begin - 1))
            at = end + 1
        if at <= last:
            holes.append((at, last))
        return holes

    def first_missing(self, first: int, last: int) -> Range | None:
        """Return the first hole of first..last, or None when there is none (O(log n))."""
        at = bisect_right(self._first, first) - 1
        if at >= 0 and first <= self._last[at]:
            first = self._last[at] + 1
        if first > last:
            return None
        after = bisect_right(self._first, first)
        end = self._first[after] - 1 if after < len(self._first) else last
        return (first, min(end, last))

    def last_missing(self, first: int, last: int) -> Range | None:
        """Return the last hole of first..last, or None when there is none (O(log n))."""
        at = bisect_right(self._first, last) - 1
        if at >= 0 and last <= self._last[at]:
            last = self._first[at] - 1
            at -= 1
        if first > last:
            return None
        begin = self._last[at] + 1 if at >= 0 else first
        return (max(begin, first), last)
