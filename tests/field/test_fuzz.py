"""The fuzzer of the reply path, for some seconds, and that it sees what it is there for."""

import pytest

from drivers.modbus import dialin, frames, link, rtu, rtulink
from tests.fuzz import Tally, run
from tests.support.fuzz.answers import checksum
from tests.support.fuzz.mutations import BY_NAME
from tests.support.fuzz.peers import KINDS

pytestmark = pytest.mark.alone
CASES = 60
"""Of each kind of line; three requests a case."""
ENOUGH_S = 120.0
"""Longer than any machine needs: the number of cases ends a run."""


def fuzzed(*kinds: str, only: str | None = None, cases: int = CASES) -> Tally:
    tally, _ = run(kinds, 3, ENOUGH_S, cases, only=BY_NAME[only] if only else None)
    return tally


def test_mutated_answers_are_never_a_crash_a_hang_or_a_good_reading() -> None:
    tally = fuzzed(*KINDS)
    assert tally.faults == []
    for kind in KINDS:
        assert tally.by_kind[kind]["cases"] > 2 * CASES
        assert tally.by_kind[kind]["accepted_valid"] > CASES
        assert tally.by_kind[kind]["refused"] > CASES / 2


def test_bytes_without_end_take_no_memory_on_any_line() -> None:
    assert fuzzed(*KINDS, only="endless", cases=2).faults == []


@pytest.mark.parametrize("kind", ["tcp", "tls", "dial-in", "dial-in-tls"])
def test_answer_without_a_checksum_that_was_changed_is_counted_as_undetectable(kind: str) -> None:
    tally = fuzzed(kind, only="other_payload", cases=5)
    assert tally.faults == []
    assert tally.by_kind[kind]["undetectable"] > 0


def summed(body: bytes) -> bytes:
    return body + checksum(body)


class TestTheFuzzerSees:
    """A link that is broken on purpose is found."""

    def test_a_head_that_is_not_checked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(frames.Exchange, "_check", lambda self, frame, length: None)
        assert fuzzed("tcp", only="other_size").by_kind["tcp"]["wrong"] > 0

    def test_a_checksum_that_is_not_checked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rtu, "crc", lambda octets: 0)
        monkeypatch.setattr(rtu, "framed", lambda unit, pdu: summed(bytes([unit]) + pdu))
        assert fuzzed("rtu-tcp", only="flips").by_kind["rtu-tcp"]["wrong"] > 0

    def test_numbers_that_begin_again_with_each_connection(self, monkeypatch: pytest.MonkeyPatch) -> None:
        always_0 = property(lambda self: 0, lambda self, value: None)
        monkeypatch.setattr(link.ModbusTcpLink, "_number", always_0, raising=False)
        assert fuzzed("tcp", only="handed_on").by_kind["tcp"]["wrong"] > 0

    def test_a_late_answer_that_is_not_waited_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rtulink.RtuLink, "_owe", lambda self: None)
        assert fuzzed("rtu", only="late").by_kind["rtu"]["wrong"] > 0

    def test_a_deadline_that_does_not_come(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rtulink.RtuLink, "_expire", lambda self, exchange, timeout_s, last=False: None)
        assert fuzzed("rtu-tcp", only="silent", cases=3).by_kind["rtu-tcp"]["hangs"] > 0

    def test_an_error_that_is_not_of_the_field(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(dialin, "_frame_of", lambda admitted, number: admitted[13:][0])
        assert fuzzed("dial-in", only="cut", cases=5).by_kind["dial-in"]["crashes"] > 0

    def test_bytes_that_are_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rtu, "LONGEST", 1 << 30)
        assert fuzzed("rtu-tcp", only="endless", cases=2).by_kind["rtu-tcp"]["grew"] > 0
