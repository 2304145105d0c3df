"""The queue between network and writer: bounded, and no message overtakes or is lost."""

import threading
import time

from headend.inbox import Arrival, Inbox

DEADLINE_S = 10.0


def arrival(number: int, size: int = 10) -> Arrival:
    return Arrival(0, 1, number, 1, "topic", bytes(size))


def soon() -> float:
    return time.monotonic() + DEADLINE_S


def test_what_was_put_is_taken_in_order() -> None:
    inbox = Inbox()
    for number in range(5):
        assert inbox.put(arrival(number), 0)
    assert [one.mid for one in inbox.take(10_000, 100, soon())] == [0, 1, 2, 3, 4]


def test_take_stops_at_its_size_and_takes_one_at_least() -> None:
    inbox = Inbox()
    for number in range(4):
        inbox.put(arrival(number, 100), 0)
    assert len(inbox.take(150, 100, soon())) == 2
    assert len(inbox.take(1, 100, soon())) == 1
    assert len(inbox.take(150, 1, soon())) == 1


def test_take_without_a_message_ends_in_time() -> None:
    assert Inbox().take(10, 10, time.monotonic()) == []


def test_full_inbox_refuses_by_number_and_by_bytes() -> None:
    inbox = Inbox(messages=2, size_bytes=1000)
    assert inbox.put(arrival(1), 0)
    assert inbox.put(arrival(2), 0)
    assert not inbox.put(arrival(3), 0)
    large = Inbox(messages=10, size_bytes=1000)
    assert large.put(arrival(1, 5000), 0)  # alone it is taken, whatever its size
    assert not large.put(arrival(2), 0)


def test_who_puts_waits_until_there_is_room() -> None:
    inbox = Inbox(messages=1)
    inbox.put(arrival(1), 0)
    done: list[bool] = []
    waiting = threading.Thread(target=lambda: done.append(inbox.put(arrival(2), DEADLINE_S)))
    waiting.start()
    assert [one.mid for one in inbox.take(1000, 10, soon())] == [1]
    waiting.join(DEADLINE_S)
    assert done == [True]
    assert [one.mid for one in inbox.take(1000, 10, soon())] == [2]


def test_closed_inbox_takes_nothing_and_gives_what_it_has() -> None:
    inbox = Inbox()
    inbox.put(arrival(1), 0)
    inbox.close()
    assert not inbox.put(arrival(2), DEADLINE_S)
    assert len(inbox.take(1000, 10, soon())) == 1
    assert inbox.take(1000, 10, soon()) == []


def test_wake_ends_a_take() -> None:
    inbox = Inbox()
    taken: list[list[Arrival]] = []
    waiting = threading.Thread(target=lambda: taken.append(inbox.take(10, 10, soon())))
    waiting.start()
    inbox.wake()
    waiting.join(DEADLINE_S)
    assert taken == [[]]
