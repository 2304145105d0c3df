"""Transformer ratios applied to what registers hold: exact, in integers, by the term of the tick.

A device that does not know its transformers counts secondary values.  The ratio is a fact of the
installation, so it stands in gateway.toml with the time of its change, and is applied to the values of a
row by its tick: never backwards.  What the registers may hold and how they behave over time (range,
rate, rollover) is a matter of the secondary values and is judged before.

Pure.  Not here: which points have a ratio (``drivers.points``), how it is told (``core.transformers``).
"""

import re
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Final

import msgspec

from core.manifest import EXACT, Point, Value
from core.transformers import NONE, Term, decimals, term_at, text_of
from drivers.points import PointType

DECIMALS: Final = 4
"""Most decimals of a ratio."""
LARGEST: Final = 1_000_000
DIGITS: Final = 20
"""Longest integer of a row in characters, sign included."""
_NUMBER: Final = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(?:\s*/\s*(\d{1,9}(?:\.\d{1,6})?))?", re.ASCII)


def parse_ratio(value: object) -> Fraction:
    """Return ``"100/5"``, ``"20"`` or ``20`` as a number; ``ValueError`` says what it should be."""
    match = _NUMBER.fullmatch(str(value)) if isinstance(value, str | int) and value is not True else None
    if match is None:
        raise ValueError('must be a ratio in quotes, for example "100/5" or "20"')
    above, below = Fraction(match[1]), Fraction(match[2] or "1")
    if not above or not below:
        raise ValueError(f'"{value}" has a zero in it: write the two rated values, for example "100/5"')
    ratio = above / below
    places = decimals(ratio)
    if places is None or places > DECIMALS:
        raise ValueError(
            f'"{value}" is no decimal of at most {DECIMALS} places, so values could not be exact: '
            "write the ratio of the transformer's plate"
        )
    if ratio > LARGEST:
        raise ValueError(f'"{value}" is more than {LARGEST}: write primary before secondary, as in "100/5"')
    return ratio


class Multiplier:
    """Makes primary values of the secondary ones of a group.

    A value is an integer number of steps of 10**exp.  The exponent of a point is lowered until all its
    ratios are whole, so each term is one integer factor.
    """

    def __init__(self, points: Sequence[PointType], terms: Sequence[Term]) -> None:
        """Prepare for the points of a group, in their order; terms are ascending."""
        self._terms = tuple(terms)
        self._behind = {index: point.ratio for index, point in enumerate(points) if point.ratio is not None}
        every = (NONE, *self._terms)
        self._lower = {
            index: max(decimals(term.ratio(by)) or 0 for term in every) for index, by in self._behind.items()
        }
        self._factors = {term: self._of(term) for term in every}

    def _of(self, term: Term) -> tuple[tuple[int, int], ...]:
        """Return (point index, factor) for the points that a term changes."""
        found = (
            (index, int(term.ratio(by) * 10 ** self._lower[index])) for index, by in self._behind.items()
        )
        return tuple((index, factor) for index, factor in found if factor != 1)

    def point(self, index: int, point: Point) -> Point:
        """Return a point as rows with primary values need it."""
        lower = self._lower.get(index, 0)
        return msgspec.structs.replace(point, exp=point.exp - lower) if lower else point

    def largest(self, index: int) -> Decimal:
        """Return the largest ratio that a point ever has, 1 for one without."""
        by = self._behind.get(index)
        every = (NONE, *self._terms)
        return Decimal(1) if by is None else Decimal(text_of(max(term.ratio(by) for term in every)))

    @property
    def changes(self) -> tuple[int, ...]:
        """The instants at which a ratio begins to hold."""
        return tuple(term.from_ms for term in self._terms if term.from_ms is not None)

    def primary(self, tick: int, values: Sequence[Value], quality: dict[str, list[str]]) -> list[Value]:
        """Return the values of a row as primary ones.

        A value that would be longer than a row can hold is left out, and ``quality`` says so.
        """
        found = list(values)
        for index, factor in self._factors[term_at(self._terms, tick)]:
            value = found[index]
            if value is None:
                continue
            if not isinstance(value, int | str):
                raise TypeError(f"point {index} behind transformers is not written in steps")
            product = int(value) * factor
            if -EXACT <= product <= EXACT:
                found[index] = product
            elif len(str(product)) <= DIGITS:
                found[index] = str(product)
            else:
                found[index] = None
                quality[str(index)] = [*quality.get(str(index), []), "undecodable"]
        return found
