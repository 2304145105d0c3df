"""First frames: how they are written, and that nothing but exactly one of them is one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import ConfigError
from drivers.modbus.firstframe import LONGEST, FirstFrame, doubtful, parse_frame, shown

EXPECTED = frozenset({b"METER-7", b"METER-8", b"\x00\x01"})


@given(st.binary(min_size=1, max_size=LONGEST))
def test_a_frame_reads_back_as_it_is_shown(frame: bytes) -> None:
    assert parse_frame(shown(frame)) == frame


@pytest.mark.parametrize("text", ["", "hex:", "hex:1", "hex:zz", "x" * 65, "caf\u00e9", "a\nb"])
def test_what_is_no_frame_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_frame(text)


def test_frames_of_which_one_begins_another_are_doubtful() -> None:
    assert doubtful([b"ab", b"b", b"ab"]) is None
    assert doubtful([b"ab", b"b", b"abc"]) == (b"ab", b"abc")


@given(st.sampled_from(sorted(EXPECTED)), st.data())
def test_a_frame_is_whole_however_it_is_cut_and_nothing_may_follow(frame: bytes, data: st.DataObject) -> None:
    said, rest = FirstFrame(EXPECTED), frame
    while rest:
        assert said.whole is None
        size = data.draw(st.integers(1, len(rest)))
        assert said.feed(rest[:size])
        rest = rest[size:]
    assert said.whole == frame
    assert not said.feed(data.draw(st.binary(min_size=1, max_size=500)))
    assert said.whole is None


@given(st.lists(st.binary(min_size=1, max_size=80), min_size=1, max_size=5))
def test_what_is_not_exactly_expected_is_nobody(chunks: list[bytes]) -> None:
    said, whole = FirstFrame(EXPECTED), b""
    for chunk in chunks:
        whole += chunk
        assert said.feed(chunk) == any(frame.startswith(whole) for frame in EXPECTED)
    assert (said.whole is not None) == (whole in EXPECTED)
