"""The status in a terminal: what is not known is said to be so."""

import pytest

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
