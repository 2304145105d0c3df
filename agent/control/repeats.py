"""How often an entity is answered on messages that are not taken: a broker may bring a true command for ever.

Whoever holds a signed command, a broker before all, can send it again and again; each answer would be a
record to store and to send, and a refusal an entry of the audit.  So some are answered at once, then one at
a time, and the rest are counted.  What is taken is always answered: new commands need the entity's key.
"""

from dataclasses import dataclass
from typing import Final

AT_ONCE: Final = 20
"""Answers to one entity that may follow each other."""
EVERY_S: Final = 10.0
"""After those, one in so long."""
ENTITIES: Final = 64


@dataclass(slots=True)
class _Left:
    answers: float
    at_s: float


class Repeats:
    """Tells whether a message that is not taken is answered."""

    def __init__(self) -> None:
        self._left: dict[str, _Left] = {}

    def answered(self, entity: str, now_s: float) -> bool:
        """Tell whether this one is; ``now_s`` is monotonic.  The entity is known: it has signed."""
        left = self._left.get(entity)
        if left is None:
            if len(self._left) >= ENTITIES:
                return False
            left = self._left[entity] = _Left(AT_ONCE, now_s)
        left.answers = min(AT_ONCE, left.answers + (now_s - left.at_s) / EVERY_S)
        left.at_s = now_s
        if left.answers < 1:
            return False
        left.answers -= 1
        return True
