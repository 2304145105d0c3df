"""The bundle at its edges: what just fits is taken, one byte more is not, and only plain forms are read."""

import io
import random
import zipfile
import zlib

import pytest

from policies.trust import bundle as module
from policies.trust.bounds import LONGEST_TIMESTAMP, MOST_FILES
from policies.trust.bundle import pack, unpack
from policies.trust.refusals import PolicyRefused, Why

NAME = "metadata/timestamp.json"


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return an archive as anybody could make it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def why(blob: bytes) -> Why:
    """Return why a bundle is refused."""
    with pytest.raises(PolicyRefused) as caught:
        unpack(blob)
    return caught.value.why


def test_what_is_packed_is_unpacked_and_any_tool_can_look_into_it() -> None:
    files = {NAME: b"{}", "metadata/1.root.json": b"[]"}
    blob = pack(files)
    assert unpack(blob) == files
    with zipfile.ZipFile(io.BytesIO(blob)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == sorted(files)


def test_a_bundle_is_packed_as_tight_as_can_be_and_its_files_can_be_read_by_all() -> None:
    draw = random.Random(1)
    words = [bytes(draw.choices(b"abcdefghij", k=draw.randrange(2, 9))) for _ in range(300)]
    content = b" ".join(draw.choices(words, k=20_000))
    assert len(zlib.compress(content, 9)) != len(zlib.compress(content))  # else it would show nothing
    small = zlib.compressobj(9, zlib.DEFLATED, -15)
    with zipfile.ZipFile(io.BytesIO(pack({"metadata/1.targets.json": content}))) as archive:
        (entry,) = archive.infolist()
    assert entry.compress_size == len(small.compress(content) + small.flush())
    assert entry.external_attr == 0o644 << 16
    assert entry.date_time == (1980, 1, 1, 0, 0, 0)  # the earliest that the form can tell


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_member_that_just_fits_is_taken_and_one_byte_more_is_not(compression: int) -> None:
    whole = bytes(LONGEST_TIMESTAMP)
    assert unpack(zipped({NAME: whole}, compression)) == {NAME: whole}
    assert why(zipped({NAME: whole + b"x"}, compression)) is Why.TOO_LARGE


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_not_read(compression: int) -> None:
    assert why(zipped({NAME: b"{}"}, compression)) is Why.MALFORMED


def test_an_encrypted_member_is_not_read() -> None:
    blob = bytearray(zipped({NAME: b"{}"}))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        blob[blob.index(signature) + offset] |= 1
    assert why(bytes(blob)) is Why.MALFORMED


def test_a_bundle_has_a_bound_before_anything_of_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    blob = pack({NAME: b"{}"})
    monkeypatch.setattr(module, "LONGEST_BUNDLE", len(blob))
    assert unpack(blob) == {NAME: b"{}"}
    assert pack({NAME: b"{}"}) == blob
    monkeypatch.setattr(module, "LONGEST_BUNDLE", len(blob) - 1)
    assert why(blob) is Why.TOO_LARGE
    with pytest.raises(ValueError, match="can be delivered"):
        pack({NAME: b"{}"})


def test_files_have_a_bound_of_number_and_of_size_together(monkeypatch: pytest.MonkeyPatch) -> None:
    many = {f"metadata/{number}.root.json": b"x" for number in range(1, MOST_FILES + 1)}
    assert unpack(pack(many)) == many
    more = {**many, NAME: b"x"}
    assert why(zipped(more)) is Why.TOO_LARGE
    with pytest.raises(ValueError, match="at most"):
        pack(more)
    two = {"metadata/1.root.json": b"12345", NAME: b"123"}
    monkeypatch.setattr(module, "LONGEST_TOTAL", 8)
    assert unpack(pack(two)) == two
    monkeypatch.setattr(module, "LONGEST_TOTAL", 7)
    assert why(zipped(two)) is Why.TOO_LARGE
    with pytest.raises(ValueError, match="at most"):
        pack(two)


def test_a_file_that_is_too_long_for_its_kind_is_not_packed() -> None:
    assert pack({NAME: bytes(LONGEST_TIMESTAMP)})
    with pytest.raises(ValueError, match="too large"):
        pack({NAME: bytes(LONGEST_TIMESTAMP + 1)})
