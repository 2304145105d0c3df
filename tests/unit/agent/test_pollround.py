"""When a poll is given up: silence at once, bad frames when two come in a row."""

import pytest

from agent.pollround import PollRound

OCTETS = b"\0\1"


def round_of(*got: bytes | str, probation: bool = False) -> PollRound:
    done = PollRound(probation)
    for index, one in enumerate(got):
        done.note(index, one)
    return done


@pytest.mark.parametrize(
    ("got", "instead"),
    [
        ((), None),
        ((OCTETS,), None),
        (("exception-2",), None),
        (("timeout",), "timeout"),
        (("line-down",), "line-down"),
        (("bad-frame",), None),
        (("bad-frame", "bad-frame"), "backoff"),
        (("bad-frame", "timeout"), "timeout"),
        (("bad-frame", "line-down"), "line-down"),
        ((OCTETS, "timeout", "timeout"), None),  # silent ranges are learned, they do not end a poll
        ((OCTETS, "bad-frame"), None),
        ((OCTETS, "bad-frame", "bad-frame"), "backoff"),
        (("bad-frame", OCTETS, "bad-frame"), None),
        (("bad-frame", "exception-6", "bad-frame"), None),
        (("bad-frame", "timeout", "bad-frame"), "backoff"),
    ],
)
def test_rest_of_a_poll_is_asked_as_long_as_answers_may_be_hoped_for(
    got: tuple[bytes | str, ...], instead: str | None
) -> None:
    assert round_of(*got).instead == instead


def test_device_on_probation_has_one_bad_frame_until_it_answers() -> None:
    assert round_of("bad-frame", probation=True).instead == "backoff"
    assert round_of(OCTETS, "bad-frame", probation=True).instead is None
