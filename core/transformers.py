"""What a group says of the registers behind its values: transformer ratios over time, and moduli.

Values in rows are primary values: a ratio of current or voltage transformers that a device does not
know is applied by the gateway, term by term, at the tick.  A group tells the terms in its member ``x``,
so that a reader of two readings can see whether the same ratio made both::

    "x": {"transformer_from": [null, 1795302000000],
          "transformer_ct": ["20", "40"], "transformer_vt": ["1", "1"],
          "transformer_points": {"TotWhImp": "ct*vt"},
          "modulus": {"TotWhImp": "100000000"}}

``modulus`` is the amount, in the unit of the point and before any ratio, at which a counter begins again.
A term holds from its instant until the next; before the first, and without any, the ratio is 1.

Pure.  Not here: applying a ratio to values (``agent.multiplier``).
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Final, NamedTuple

from core.manifest import Extra, Group, Point

CT: Final = "ct"
VT: Final = "vt"
BOTH: Final = "ct*vt"


class Term(NamedTuple):
    """The transformers in front of a meter since an instant."""

    from_ms: int | None
    """First tick, UTC, ms since 1970; None: since ever."""
    ct: Fraction
    """Primary by secondary current, for instance 100/5; a finite decimal."""
    vt: Fraction

    def ratio(self, by: str) -> Fraction:
        """Return by what a register is multiplied that stands behind ``ct``, ``vt`` or ``ct*vt``."""
        return (self.ct if by in (CT, BOTH) else Fraction(1)) * (self.vt if by in (VT, BOTH) else Fraction(1))


NONE: Final = Term(None, Fraction(1), Fraction(1))


def term_at(terms: Sequence[Term], tick: int) -> Term:
    """Return the term that holds at a tick; terms are in ascending order."""
    found = NONE
    for term in terms:
        if term.from_ms is not None and term.from_ms > tick:
            break
        found = term
    return found


def decimals(ratio: Fraction) -> int | None:
    """Return how many decimals a number has, None when they do not end."""
    rest, counts = ratio.denominator, {2: 0, 5: 0}
    for prime in counts:
        while rest % prime == 0:
            rest //= prime
            counts[prime] += 1
    return max(counts.values()) if rest == 1 else None


def text_of(ratio: Fraction) -> str:
    """Return a finite decimal as text, without an exponent."""
    places = decimals(ratio)
    if places is None:
        raise ValueError(f"{ratio} is no finite decimal")
    return f"{Decimal(int(ratio * 10**places)).scaleb(-places):f}"


def described(terms: Sequence[Term], points: Mapping[str, str], moduli: Mapping[str, Decimal]) -> Extra:
    """Return the members of a group's ``x``; empty when there is nothing to tell.

    Args:
        terms: ascending.
        points: names of the points behind transformers, with ``ct``, ``vt`` or ``ct*vt``.
        moduli: by the name of a point, in its unit, before any ratio.
    """
    extra: Extra = {}
    if terms and points:
        extra["transformer_from"] = [term.from_ms for term in terms]
        extra["transformer_ct"] = [text_of(term.ct) for term in terms]
        extra["transformer_vt"] = [text_of(term.vt) for term in terms]
        extra["transformer_points"] = dict(points)
    if moduli:
        extra["modulus"] = {name: f"{modulus:f}" for name, modulus in moduli.items()}
    return extra


class Behind:
    """One point of a group as its ``x`` describes it; what makes no sense there counts as not said."""

    def __init__(self, group: Group, point: Point) -> None:
        self._exp = point.exp
        told = group.x.get("transformer_points")
        by = told.get(point.name) if isinstance(told, dict) else None
        self._by = by if isinstance(by, str) else ""
        self._terms = _terms(group.x) if self._by else ()
        moduli = group.x.get("modulus")
        self._modulus = _number(moduli.get(point.name)) if isinstance(moduli, dict) else None

    def ratio_at(self, tick: int) -> Fraction:
        """Return the ratio that made the value of a tick."""
        return term_at(self._terms, tick).ratio(self._by)

    def modulus_at(self, tick: int) -> int | None:
        """Return at how many steps of the value the counter begins again, None when nobody said."""
        if self._modulus is None:
            return None
        steps = self._modulus * self.ratio_at(tick) / Fraction(10) ** self._exp
        return steps.numerator if steps.denominator == 1 else None


def _terms(extra: Extra) -> tuple[Term, ...]:
    lists = [extra.get(f"transformer_{name}") for name in ("from", CT, VT)]
    begins, cts, vts = (one if isinstance(one, list) else [] for one in lists)
    terms: list[Term] = []
    if not len(begins) == len(cts) == len(vts):
        return ()
    for begin, one, other in zip(begins, cts, vts, strict=True):
        ct, vt = _number(one), _number(other)
        if ct is None or vt is None or not (begin is None or type(begin) is int):
            return ()
        terms.append(Term(begin if type(begin) is int else None, ct, vt))
    return tuple(terms)


def _number(text: object) -> Fraction | None:
    """Return a positive decimal of at most 40 characters, so that no text makes a number without end."""
    if not isinstance(text, str) or len(text) > 40 or not text.replace(".", "", 1).isdecimal():
        return None
    number = Fraction(text) if text.isascii() and text[-1] != "." and text[0] != "." else None
    return number if number else None
