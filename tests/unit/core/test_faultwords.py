"""Which known word is meant by one that is misspelt."""

import pytest

from core.faultwords import close, near

KEYS = ("id", "data_dir", "commit_window", "slow_commit", "setting", "signing_cert", "signing_key")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("comit", "commit_window"),
        ("commit", "commit_window"),
        ("slow_comit", "slow_commit"),
        ("slowcommit", "slow_commit"),
        ("datadir", "data_dir"),
        ("Setting", "setting"),
        ("zzz", None),
    ],
)
def test_word_that_begins_like_a_known_one_is_that_one(word: str, meant: str | None) -> None:
    assert close(word, KEYS) == meant


def test_word_like_none_leads_to_what_there_is() -> None:
    assert near("zzz", ("b", "a", "c"), most=2) == "there is a, b and 1 more"
    assert near("zzz", ()) == "there is none"
