"""The bundle: a whole repository, as far as a gateway needs it, in one message or on one stick.

A zip archive, because everybody can look into one.  It is a conveyor and is not believed: each file in it is
verified by itself.  Nothing is ever unpacked to disk; names that are not of the repository's grammar, members
that are larger than their kind may be, too many members and too much altogether refuse the whole of it.

Pure.  Not here: what the files mean.
"""

import io
import zipfile
import zlib
from collections.abc import Mapping
from typing import Final

from policies.trust.bounds import LONGEST_BUNDLE, LONGEST_TOTAL, MOST_FILES, is_repository_name, longest
from policies.trust.refusals import PolicyRefused, Why

_LONG_AGO: Final = (1980, 1, 1, 0, 0, 0)
_DIRECTORY_ENTRY: Final = b"PK\x01\x02"
_ENCRYPTED: Final = 0x1
_SMALLEST: Final = 9
_PLAIN_OR_DEFLATED: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def pack(files: Mapping[str, bytes]) -> bytes:
    """Return the bundle, the same bytes for the same files; ``ValueError`` when it is too large."""
    if len(files) > MOST_FILES or sum(map(len, files.values())) > LONGEST_TOTAL:
        raise ValueError(f"a bundle holds at most {MOST_FILES} files and {LONGEST_TOTAL} bytes")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in sorted(files):
            if not is_repository_name(name) or len(files[name]) > longest(name):
                raise ValueError(f"{name} is no file of a bundle, or too large")
            entry = zipfile.ZipInfo(name, _LONG_AGO)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, files[name], zipfile.ZIP_DEFLATED, _SMALLEST)
    if out.tell() > LONGEST_BUNDLE:
        raise ValueError(f"the bundle has {out.tell()} bytes, at most {LONGEST_BUNDLE} can be delivered")
    return out.getvalue()


def unpack(blob: bytes) -> dict[str, bytes]:
    """Return the files of a bundle by name; :class:`PolicyRefused` for anything that is not one."""
    if len(blob) > LONGEST_BUNDLE:
        raise PolicyRefused(
            Why.TOO_LARGE, f"a bundle of {len(blob)} bytes, at most {LONGEST_BUNDLE} are taken"
        )
    # Before anything is read of it: a directory of a million entries costs memory by itself.
    if blob.count(_DIRECTORY_ENTRY) > MOST_FILES:
        raise PolicyRefused(Why.TOO_LARGE, f"a bundle of more than {MOST_FILES} files")
    try:
        with zipfile.ZipFile(io.BytesIO(blob)) as archive:
            return _files(archive)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError) as error:
        raise PolicyRefused(Why.MALFORMED, f"the bundle cannot be read: {error}") from error


def _files(archive: zipfile.ZipFile) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    left = LONGEST_TOTAL
    for entry in archive.infolist():
        name = entry.orig_filename
        if not is_repository_name(name) or name != entry.filename:
            raise PolicyRefused(
                Why.OUTSIDE, f"the bundle holds {name[:80]!r}, which is no file of a repository"
            )
        if name in found:
            raise PolicyRefused(Why.MALFORMED, f"the bundle holds {name} twice")
        if entry.flag_bits & _ENCRYPTED or entry.compress_type not in _PLAIN_OR_DEFLATED:
            raise PolicyRefused(Why.MALFORMED, f"the bundle holds {name} in a form that is not read here")
        most = min(longest(name), left)
        # What the archive says of its sizes is not believed: one byte more than may be is asked for.
        with archive.open(entry) as member:
            content = member.read(most + 1)
        if len(content) > most:
            raise PolicyRefused(Why.TOO_LARGE, f"the bundle holds {name} with more than {most} bytes")
        found[name] = content
        left -= len(content)
    return found
