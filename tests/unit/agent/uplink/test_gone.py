"""How a connection to a broker ended: each reason code has a sentence that says where to look."""

import pytest

from agent.uplink.broker import NOT_ALIVE, TAKEN_OVER, UNSPECIFIED, gone


@pytest.mark.parametrize(
    ("code", "said", "part"),
    [
        (UNSPECIFIED, "Unspecified error", "the network, or the broker stopped, or another box connected"),
        (TAKEN_OVER, "Session taken over", "two gateways with one id, or a copied box"),
        (NOT_ALIVE, "Keep alive timeout", "was silent for longer than keepalive"),
        (0x8B, "Server shutting down", "ended the connection (Server shutting down): its log says why"),
    ],
)
def test_end_of_a_connection_says_where_to_look(code: int, said: str, part: str) -> None:
    sentence = gone("broker:8883", "gw-0001", code, said)
    assert part in sentence
    assert "Unspecified" not in sentence
    assert "broker:8883" in sentence
