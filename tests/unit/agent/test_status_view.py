"""The status in a terminal: what is not known is said to be so."""

import pytest
from rich.console import Console

from agent import status_view
from agent.status_view import drift_in_words


@pytest.mark.parametrize(
    ("ppm", "within_ppm", "words"),
    [
        (None, None, "not known yet"),
        (-64.0, 111_384.0, "not known yet"),
        (2000.0, 1001.0, "not known yet"),
        (20.0, 201.0, "not known yet"),
        (-64.2, 12.0, "-64 ppm ± 12"),
        (-0.2, 3.0, "+0 ppm ± 3"),
        (4000.0, 900.0, "+4000 ppm ± 900"),
    ],
)
def test_vague_drift_is_not_known(ppm: float | None, within_ppm: float | None, words: str) -> None:
    assert drift_in_words(ppm, within_ppm or 0) == words


def test_frames_that_nobody_asked_for_are_shown_with_their_unit() -> None:
    line = status_view._LineState(1, 2, 0, {"timeout": 3}, [], {"7": 12})
    console = Console(width=150)
    with console.capture() as shown:
        status_view._lines(console, {"bus": line})
    assert "timeout 3, unasked from unit 7: 12" in shown.get()
