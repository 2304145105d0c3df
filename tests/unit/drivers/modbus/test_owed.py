"""What a unit owes: a device that answers in its order, however far behind, is never believed too early."""

from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.modbus.owed import FIRM, LATELY, MOST_OWED, Kind, Owed, kind_of

A, B, C = (3, 4), (3, 20), (4, 2)
KINDS = st.sampled_from((A, B, C))


class Behind:
    """A device that has answers in its queue, and the link's view of what it owes."""

    def __init__(self) -> None:
        self.queue: deque[tuple[int, Kind]] = deque()
        self.owed = Owed()
        self.number = 0

    def ask(self, kind: Kind, answers: int) -> int | None:
        """Ask; so many answers come. Return the number of the request whose answer is believed."""
        self.number += 1
        self.queue.append((self.number, kind))
        for _ in range(min(answers, len(self.queue))):
            number, found = self.queue.popleft()
            if found != kind:
                self.owed.strayed(found)
            elif self.owed.came(found):
                self.owed.missing(kind)
                return None
            else:
                self.owed.sure(kind)
                return number
        self.owed.missing(kind)
        return None


@settings(max_examples=400)
@given(st.lists(st.tuples(KINDS, st.integers(0, 2)), max_size=60))
def test_only_the_answer_to_the_request_just_sent_is_believed(asked: list[tuple[Kind, int]]) -> None:
    device = Behind()
    for kind, answers in asked:
        if len(device.queue) >= MOST_OWED:
            answers = 2
        believed = device.ask(kind, answers)
        assert believed in (None, device.number)


@given(st.lists(KINDS, min_size=1, max_size=60))
def test_device_that_is_always_one_behind_is_never_believed(asked: list[Kind]) -> None:
    device = Behind()
    device.ask(A, 0)
    assert [device.ask(kind, 1) for kind in asked] == [None] * len(asked)


@given(st.lists(KINDS, max_size=12))
def test_device_that_answers_again_is_believed_within_so_many_answers_as_it_owed(lost: list[Kind]) -> None:
    device = Behind()
    for kind in lost:
        device.ask(kind, 0)
    device.queue.clear()
    for _ in range(MOST_OWED + 1):
        if device.ask(device.owed.clearest((A, B)), 1) is not None:
            break
    assert not device.owed


def test_frame_that_answers_nothing_open_makes_all_that_was_asked_since_owed() -> None:
    owed = Owed()
    for kind in (A, B, C):
        owed.sure(kind)
    owed.strayed(A)
    assert [owed.place(kind) for kind in (A, B, C)] == [None, 0, 1]


def test_frame_that_was_never_asked_for_makes_nothing_owed() -> None:
    owed = Owed()
    for _ in range(LATELY + 1):
        owed.sure(A)
    owed.strayed(B)
    assert not owed


def test_refusal_may_be_that_of_any_request_with_its_function() -> None:
    owed = Owed()
    owed.missing(A)
    assert owed.place(kind_of(bytes((0x83, FIRM[0])))) == 0
    assert owed.place(kind_of(bytes((0x84, FIRM[0])))) is None


def test_refusal_that_a_gateway_gives_settles_nothing() -> None:
    owed = Owed()
    owed.missing(A)
    assert owed.came(kind_of(b"\x83\x0b"))
    assert owed.place(A) == 0
