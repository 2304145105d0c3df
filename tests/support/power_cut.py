"""What a power cut is played with, and what comes of one: the nouns of `tests.powercut`."""

import random
from dataclasses import dataclass
from typing import Protocol

from tests.support.power_disk import PowerCutDisk


@dataclass(frozen=True)
class Outcome:
    """One round: what was acknowledged to the outside before the cut, and what of it is still there."""

    acknowledged: int
    survived: int
    lost: int  # acknowledged and gone
    corrupt: str | None  # what is wrong with what is there, in a sentence
    age_ms: float = 0.0  # how much older than the cut the newest surviving row is
    bound_ms: float = 0.0  # how much older it may be by what the store had measured itself


class Scenario(Protocol):
    """Something that writes to the disk and acknowledges to the outside."""

    @property
    def name(self) -> str: ...

    @property
    def must_survive(self) -> bool:
        """False for the twin that shows the proof's teeth."""

    def play(self, disk: PowerCutDisk, number: int, rng: random.Random) -> Outcome:
        """Play round `number` on the mounted disk and leave it mounted."""
