"""Quality codes: the closed list of reasons and their IEC 61968-9 codes.

The list is data (``quality.toml``), read once.  A reading without a reason is
good; *raw, good at device* needs nothing on the wire.  Judgements made later, by
the head-end or by people, are journal entries over ranges and live in ``headend``.
"""

import re
import tomllib
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from importlib import resources

GOOD_CODE = "1.0.0"
"""IEC 61968-9: end device, valid, data valid."""
_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")


@dataclass(frozen=True, slots=True)
class Reason:
    """One entry of the closed list."""

    name: str
    code: str
    """IEC 61968-9 ReadingQualityType, ``system.category.index``."""
    rank: int
    """The higher, the worse."""
    carries_value: bool
    text: str
    guessed: bool = False


class Precedence(IntEnum):
    """Who judged; a higher one is not overruled by a lower one (DESIGN, *Quality*)."""

    DEVICE = 1
    GATEWAY = 2
    HEADEND = 3
    STEWARD = 4
    VALIDATOR = 5


@cache
def reasons() -> dict[str, Reason]:
    """Return the closed list by name."""
    document = tomllib.loads(resources.files("core").joinpath("quality.toml").read_text("utf-8"))
    return {
        entry["name"]: Reason(
            name=entry["name"],
            code=entry["code"],
            rank=entry["rank"],
            carries_value=entry["value"],
            text=entry["text"],
            guessed=entry.get("guessed", False),
        )
        for entry in document["reason"]
    }


def is_reason(name: str) -> bool:
    """Tell whether ``name`` is in the closed list."""
    return name in reasons()


def reason_fault(name: str) -> str | None:
    """Return why ``name`` cannot be a reason, or None.

    A reason that is not in the list is one that a later version added: it is kept, and what has it
    is not good.  Refusing it would mean never to take a row that the gateway cannot change any more.
    """
    if _NAME.fullmatch(name) is None:
        return f"reason {name[:60]!r} is not of small letters, digits and '-', at most 32"
    return None


def reason_of(name: str) -> Reason:
    """Return the entry of a reason; for one that is not in the list, what holds for all such."""
    return reasons().get(name) or Reason(name, _UNKNOWN_CODE, _UNKNOWN_RANK, True, _UNKNOWN_TEXT, True)


_UNKNOWN_CODE = "1.5.257"
_UNKNOWN_RANK = 80
_UNKNOWN_TEXT = "a reason that this version does not know"


def worst(names: tuple[str, ...] | list[str]) -> Reason | None:
    """Return the worst of some reasons, None for none: then the reading is good."""
    return max(map(reason_of, names), key=lambda reason: reason.rank, default=None)


def code_of(names: tuple[str, ...] | list[str]) -> str:
    """Return the IEC 61968-9 code of the worst reason, or that of a good reading."""
    reason = worst(names)
    return GOOD_CODE if reason is None else reason.code


def exception_reason(code: int) -> str:
    """Return the reason for a Modbus exception code (Modbus Application Protocol V1.1b3 §7)."""
    name = f"exception-{code}"
    return name if name in reasons() else "exception-other"
