"""What was said to a gateway is noted, whatever became of the broker meanwhile."""

from pathlib import Path

import pytest

from cli.conformance import peer
from cli.conformance.agent_ground import AgentGround
from cli.conformance.agent_session import AgentSession


def test_a_confirmation_that_the_broker_never_acknowledged_may_have_come_and_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer, "PUBLISH_S", 0.0)
    session = AgentSession(AgentGround(tmp_path, None, by_hand=True), lambda _: None)
    session.ground.plant_dir.mkdir(exist_ok=True)
    session.ground.stand.plant_log.touch()
    letter = session.books.confirmation()
    session.send(letter)  # its client is not connected, so nobody acknowledges
    (told,) = session.evidence().told
    assert (told.books, told.n, told.acknowledged) == (letter.books, letter.n, False)
    assert session.first_good is None
