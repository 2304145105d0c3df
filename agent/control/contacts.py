"""Contact with an entity: when it last said something that it signed, by its own word and our clock.

A confirmation, a command and a beat are contact; a broker's connection is none.  What counts is when a word
was *issued*, not when it came: a broker that keeps words and hands them out one by one keeps nothing alive.
Not here: verifying what came, and what is done when contact is lost (`agent.control.commander`).
"""

from agent.clock import Clock


class Contacts:
    """How long each entity has been silent."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heard: dict[str, float] = {}
        self._begun = clock.mono()

    def heard(self, entity: str, issued_ms: int) -> None:
        """Note a verified word of an entity that was issued at an instant; one from ahead is one of now."""
        age_s = max(0, self._clock.now_ms() - issued_ms) / 1000
        at = self._clock.mono() - age_s
        self._heard[entity] = max(at, self._heard.get(entity, self._begun))

    def silent_s(self, entity: str) -> float:
        """Return for how long an entity was not heard; who was never heard is reckoned from the start on."""
        return self._clock.mono() - self._heard.get(entity, self._begun)

    def knows(self, entity: str) -> bool:
        """Tell whether an entity was heard since the start."""
        return entity in self._heard

    def snapshot(self) -> dict[str, int]:
        """Return seconds of silence by entity, for the status file."""
        return {entity: round(self.silent_s(entity)) for entity in sorted(self._heard)}
