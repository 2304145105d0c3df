"""Figures as they are reported: one line with its aim, rounding, medians with their spread."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bench.steady import median

Figure = float | bool | None | dict[str, float]

ROUNDING: Final = 0.999
"""A rate is met within a thousandth: a window ends at a message and not at a tick."""


@dataclass(frozen=True, slots=True)
class Line:
    """One figure with its aim."""

    key: str
    what: str
    value: float | None
    unit: str
    aim: float | None
    at_most: bool
    digits: int = 0
    held: bool = True
    """For a rate: whether it was held."""

    @property
    def met(self) -> bool | None:
        """Tell whether the aim was reached; None without aim or figure."""
        if self.value is None or self.aim is None:
            return None
        if not self.held:
            return False
        return self.value <= self.aim if self.at_most else self.value >= ROUNDING * self.aim


def rounded(value: float | None) -> float | None:
    """Return a figure as a program may read it: four digits."""
    return None if value is None else float(f"{value:.4g}") if value < 1000 else round(value)


def spread(values: Sequence[float | None], digits: int) -> str:
    """Return the median, in brackets lowest and highest; empty for none."""
    known = [value for value in values if value is not None]
    middle = median(known)
    if middle is None:
        return ""
    text = f"{middle:,.{digits}f}"
    return text if len(known) < 2 else f"{text} ({min(known):,.{digits}f}–{max(known):,.{digits}f})"
