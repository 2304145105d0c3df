"""A route whose messages are taken and never confirmed is told once, and its end once; in made time."""

from agent.alarms import Shared
from agent.uplink.sender import RouteCounts, RouteOptions
from agent.uplink.unconfirmed import Unconfirmed


class Made:
    """One route's counts, its watch, and what was told: (code, raised)."""

    def __init__(self, within_s: int = 1) -> None:
        self.counts = RouteCounts()
        self.told: list[tuple[str, bool]] = []
        self.texts: list[str] = []
        options = RouteOptions("utility", "dso.example", "gw-0001", within_s=within_s)
        self.watch = Unconfirmed(options, self.counts, "broker:8883", self.tell)

    def tell(self, code: str, raised: bool, text: str) -> None:
        self.told.append((code, raised))
        self.texts.append(text)

    def live(self, first: int, last: int, *, connected: bool = True, acked: int = 0) -> None:
        """Look every 5 s; ``acked`` messages are acknowledged before each look."""
        for now in range(first, last, 5):
            self.counts.acked += acked
            self.watch.look(float(now), connected)


def test_messages_that_nobody_confirms_for_two_minutes_are_an_alarm_once() -> None:
    made = Made()
    made.live(0, 120, acked=1)
    assert made.told == []
    made.live(120, 1000, acked=1)
    assert made.told == [("unconfirmed", True)]
    assert "does not trust our signing certificate" in made.texts[0]
    assert "dso.example" not in made.texts[0]


def test_next_confirmation_ends_it() -> None:
    made = Made()
    made.live(0, 200, acked=1)
    made.counts.confirmations += 1
    made.live(200, 300)
    assert made.told == [("unconfirmed", True), ("unconfirmed", False)]
    made.live(300, 500, acked=1)
    assert made.told[2:] == [("unconfirmed", True)]


def test_each_confirmation_begins_the_patience_anew() -> None:
    made = Made()
    for minute in range(10):
        made.live(60 * minute, 60 * minute + 60, acked=1)
        made.counts.confirmations += 1
    assert made.told == []


def test_who_asks_for_a_confirmation_within_a_minute_waits_ten_for_it() -> None:
    made = Made(within_s=60)
    made.live(0, 595, acked=1)
    assert made.told == []
    made.live(595, 610, acked=1)
    assert made.told == [("unconfirmed", True)]


def test_route_with_nothing_to_send_waits_for_no_confirmation() -> None:
    made = Made()
    made.live(0, 1000)
    assert made.told == []


def test_time_without_a_broker_is_no_silence_of_the_collector() -> None:
    made = Made()
    made.live(0, 100, acked=1)
    made.live(100, 1000, connected=False)
    made.live(1000, 1100, acked=1)
    assert made.told == []


def test_alarm_of_two_routes_ends_with_the_second() -> None:
    told: list[tuple[str, bool]] = []
    shared = Shared(lambda code, raised, text: told.append((code, raised)))
    one, other = shared.of("one"), shared.of("other")
    one("unconfirmed", True, "")
    other("unconfirmed", True, "")
    one("unconfirmed", False, "")
    assert (told[-1], len(told)) == (("unconfirmed", True), 2)
    other("unconfirmed", False, "")
    assert told[-1] == ("unconfirmed", False)
