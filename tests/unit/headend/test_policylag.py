"""Who holds an older policy than was published: seen after the bound, and not before."""

import json
import sqlite3
from pathlib import Path

import pytest

from core.codec import encode_plain
from core.errors import ConfigError
from core.records import State
from headend.books import Books
from headend.config import load
from headend.policylag import LOOK_MS, HeldBy, PolicyLag, Published, lagging
from policies.trust.publishing import published_versions, write_publication
from tests.support.policy_world import GATEWAY, World

NOW = 1_795_348_800_000
BOUND = 3_600_000
LATE = NOW + BOUND + 1
PUBLISHED = Published(7, NOW, {"gw-1": (3, NOW)})


def told(snapshot: int, assignment: int, now_ms: int = LATE, gateway: str = "gw-1") -> list[str]:
    """Return the sentences about one gateway."""
    held = [HeldBy(gateway, snapshot, assignment, NOW)]
    return [text for _, text in lagging(PUBLISHED, held, now_ms, BOUND)]


def test_who_holds_what_was_published_does_not_lag() -> None:
    assert told(7, 3) == []
    assert told(8, 4) == []


def test_an_older_policy_is_told_after_the_bound_and_not_before() -> None:
    assert told(6, 3, NOW + BOUND) == []
    (text,) = told(6, 3)
    assert "holds snapshot 6, 7 was published" in text


def test_a_withheld_assignment_is_told_by_its_number() -> None:
    (text,) = told(7, 2)
    assert "holds assignment 2, 3 was published" in text
    assert "snapshot" not in text


def test_who_has_an_assignment_and_says_nothing_is_told() -> None:
    (text,) = told(0, 0)
    assert "snapshot none" in text
    assert "assignment none" in text


def test_who_takes_no_part_is_left_alone() -> None:
    assert told(0, 0, gateway="gw-9") == []
    assert len(told(6, 0, gateway="gw-9")) == 1


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A utility that has published once, to a folder."""
    world = World(tmp_path)
    world.assign()
    write_publication(world.publish(), tmp_path / "out")
    return world


def says(books: Books, state: State, at_ms: int) -> None:
    """Write what a gateway said into the books."""
    with books.transaction(at_ms):
        books.connection.execute(
            "INSERT OR REPLACE INTO gateway VALUES (?, ?, ?, ?)",
            (state.gateway, at_ms, at_ms, encode_plain(state).decode()),
        )


def state(snapshot: int, assignment: str) -> State:
    """Return what a gateway says."""
    x: dict[str, object] = {"policy": {"freshness": "fresh", "snapshot": snapshot}}
    return State(v=1, gateway=GATEWAY, online=True, policy="1", assignment=assignment, x=x)


def test_the_folder_and_the_books_are_compared_once_a_minute(world: World, tmp_path: Path) -> None:
    books = Books(tmp_path / "books.db", NOW)
    lag = PolicyLag(tmp_path / "out", BOUND)
    later = round((tmp_path / "out/bundle.zip").stat().st_mtime * 1000) + BOUND + 60_000
    says(books, state(1, "1"), NOW)
    assert lag.look(books.connection, later) == []
    world.assign()
    write_publication(world.publish(), tmp_path / "out")
    assert published_versions(tmp_path / "out")[1] == {GATEWAY: 2}
    assert lag.look(books.connection, later + LOOK_MS - 1) == []
    ((gateway, text),) = lag.look(books.connection, later + LOOK_MS)
    assert gateway == GATEWAY
    assert "holds assignment 1, 2 was published" in text
    says(books, state(1, "2"), NOW)
    assert lag.look(books.connection, later + 2 * LOOK_MS) == []
    books.close()


def test_a_folder_that_cannot_be_read_is_told_once_and_harms_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lag = PolicyLag(tmp_path / "nowhere", BOUND)
    books = sqlite3.connect(":memory:")
    for number in range(3):
        assert lag.look(books, NOW + number * LOOK_MS) == []
    books.close()
    assert len(caplog.records) == 1


def test_nonsense_in_a_state_counts_as_nothing_said(world: World, tmp_path: Path) -> None:
    books = Books(tmp_path / "books.db", NOW)
    odd = State(v=1, gateway=GATEWAY, online=True, assignment="x", x={"policy": [1]})
    says(books, odd, NOW)
    later = round((tmp_path / "out/bundle.zip").stat().st_mtime * 1000) + BOUND + 60_000
    ((_, text),) = PolicyLag(tmp_path / "out", BOUND).look(books.connection, later)
    assert "assignment none" in text
    books.close()


def test_the_section_of_the_configuration_is_read_from_its_folder(tmp_path: Path) -> None:
    text = (
        '[headend]\nentity = "dso.example"\nbooks = "books.db"\n[[broker]]\nurl = "mqtt://127.0.0.1"\n'
        '[signing]\ncert = "c"\nkey = "k"\ntrust = ["ca"]\n[policy]\npublished = "out"\n'
    )
    (tmp_path / "headend.toml").write_text(text)
    config = load(tmp_path / "headend.toml")
    assert config.policy is not None
    assert (config.policy.published, config.policy.lag_s) == (tmp_path / "out", 3600)
    (tmp_path / "headend.toml").write_text(text + "lag_s = 0\n")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "headend.toml")
    assert "policy.lag_s" in caught.value.faults[0]
    assert json.dumps(caught.value.faults)
