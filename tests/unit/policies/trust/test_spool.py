"""The spool keeps what came, of whom, within its size, and says in which order it is tried."""

import json
import os
import stat
from pathlib import Path

import pytest

from core.errors import StoreError
from policies.trust.bounds import LONGEST_TIMESTAMP
from policies.trust.bundle import pack
from policies.trust.refusals import PolicyRefused, Why
from policies.trust.spool import MOST_SOURCES, Place, Spool

NAME = "metadata/timestamp.json"


def stamp(version: object) -> bytes:
    """Return what looks like a timestamp of a version."""
    return json.dumps({"signed": {"version": version}}).encode()


def spool_of(folder: Path, bundle: bytes | None, timestamp: bytes | None) -> Spool:
    """Return a spool with what one source left."""
    spool = Spool(folder, ("mqtt",))
    for place, content in ((Place.BUNDLE, bundle), (Place.TIMESTAMP, timestamp)):
        if content is not None:
            spool.put("mqtt", place, content)
    return spool


def tried(spool: Spool) -> list[bytes]:
    """Return the timestamps of the sets on offer, in the order in which they are tried."""
    return [files[NAME] for offer in spool.offers() for files in offer.sets]


def test_the_newer_timestamp_is_tried_first_by_its_own_claim(tmp_path: Path) -> None:
    old, new = stamp(3), stamp(4)
    assert tried(spool_of(tmp_path / "a", pack({NAME: old}), new)) == [new, old]
    assert tried(spool_of(tmp_path / "b", pack({NAME: new}), old)) == [new, old]
    assert tried(spool_of(tmp_path / "c", pack({NAME: new}), new)) == [new]


@pytest.mark.parametrize("claim", [b"", b"[", b"{}", b"[" * 4000, stamp("9"), stamp(None)])
def test_a_timestamp_that_claims_nothing_is_tried_last(tmp_path: Path, claim: bytes) -> None:
    good = stamp(1)
    found = tried(spool_of(tmp_path, pack({NAME: good}), claim or b" "))
    assert found == [good, claim or b" "]


def test_a_timestamp_alone_is_an_offer_and_so_is_a_bundle_alone(tmp_path: Path) -> None:
    assert tried(spool_of(tmp_path / "a", None, stamp(1))) == [stamp(1)]
    assert tried(spool_of(tmp_path / "b", pack({NAME: stamp(1)}), None)) == [stamp(1)]
    assert tried(spool_of(tmp_path / "c", None, None)) == []


def test_a_bundle_that_is_none_does_not_hide_the_timestamp(tmp_path: Path) -> None:
    (offer,) = spool_of(tmp_path, b"garbage", stamp(1)).offers()
    assert offer.unread is not None
    assert offer.unread.why is Why.MALFORMED
    assert [dict(files) for files in offer.sets] == [{NAME: stamp(1)}]


def test_a_bundle_that_is_none_is_an_offer_of_nothing_with_its_reason(tmp_path: Path) -> None:
    (offer,) = spool_of(tmp_path, b"garbage", None).offers()
    assert offer.sets == ()
    assert offer.unread is not None


def test_the_same_again_is_no_news_also_after_a_restart(tmp_path: Path) -> None:
    spool = Spool(tmp_path, ("mqtt",))
    assert spool.put("mqtt", Place.TIMESTAMP, stamp(1))
    assert not spool.put("mqtt", Place.TIMESTAMP, stamp(1))
    written = (tmp_path / "mqtt.timestamp.json").stat().st_mtime_ns
    again = Spool(tmp_path, ("mqtt",))
    assert again.put("mqtt", Place.TIMESTAMP, stamp(1))  # looked at once in each life, and not written again
    assert (tmp_path / "mqtt.timestamp.json").stat().st_mtime_ns == written
    assert again.put("mqtt", Place.TIMESTAMP, stamp(2))
    assert again.get("mqtt", Place.TIMESTAMP) == stamp(2)


def test_sources_are_kept_apart_and_assignments_named(tmp_path: Path) -> None:
    spool = Spool(tmp_path, ("mqtt", "folder"))
    spool.put("mqtt", Place.ASSIGNMENT, b"one")
    spool.put("folder", Place.ASSIGNMENT, b"two")
    assert list(spool.assignments()) == [("mqtt", b"one"), ("folder", b"two")]
    assert spool.get("folder", Place.BUNDLE) is None


def test_what_nobody_of_ours_left_is_taken_away(tmp_path: Path) -> None:
    Spool(tmp_path, ("mqtt", "stick")).put("stick", Place.TIMESTAMP, stamp(1))
    (tmp_path / "mqtt.bundle.part").write_bytes(b"half")
    Spool(tmp_path, ("mqtt",))
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        Spool(tmp_path, ("a/b",))
    Spool(tmp_path, tuple(f"s{number}" for number in range(MOST_SOURCES)))
    with pytest.raises(ValueError):
        Spool(tmp_path, tuple(f"s{number}" for number in range(MOST_SOURCES + 1)))
    with pytest.raises(ValueError):
        Spool(tmp_path, ("mqtt",)).put("stick", Place.TIMESTAMP, b"")


def test_what_fills_its_place_exactly_is_kept(tmp_path: Path) -> None:
    spool = Spool(tmp_path, ("mqtt",))
    assert spool.put("mqtt", Place.TIMESTAMP, bytes(LONGEST_TIMESTAMP))
    assert len(spool.get("mqtt", Place.TIMESTAMP) or b"") == LONGEST_TIMESTAMP


def test_a_file_that_somebody_made_longer_on_the_disk_is_refused(tmp_path: Path) -> None:
    spool = spool_of(tmp_path, None, stamp(1))
    (tmp_path / "mqtt.timestamp.json").write_bytes(bytes(LONGEST_TIMESTAMP + 1))
    with pytest.raises(PolicyRefused):
        list(spool.offers())


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError):
        Spool(tmp_path / "file", ("mqtt",))


def test_a_spool_is_made_where_there_is_none_and_nobody_else_reads_it(tmp_path: Path) -> None:
    base = tmp_path / "deep" / "spool"
    Spool(base, ("mqtt",))
    assert stat.S_IMODE(base.stat().st_mode) == 0o700


def test_of_two_timestamps_with_one_number_the_one_that_came_by_itself_is_tried_first(tmp_path: Path) -> None:
    old, new = stamp(3), stamp(3) + b" "
    assert tried(spool_of(tmp_path, pack({NAME: old}), new)) == [new, old]


def test_what_came_is_whole_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[tuple[str, int]] = []

    def fsync(handle: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        flushed.append((path.name, path.stat().st_size))

    spool = Spool(tmp_path, ("mqtt",))
    monkeypatch.setattr(os, "fsync", fsync)
    spool.put("mqtt", Place.TIMESTAMP, stamp(1))
    assert flushed == [("mqtt.timestamp.part", len(stamp(1)))]
