"""What python-tuf's Updater fetches from: files in memory, as they came, none of them believed.

The Updater ends its search for newer roots only on a 404, so that a file that is not there must be one.
"""

from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import unquote

from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient.fetcher import FetcherInterface

SCHEME: Final = "spool:///"
_CHUNK: Final = 64 << 10


class MemoryFetcher(FetcherInterface):
    """Serves the files of one offer."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def _fetch(self, url: str) -> Iterator[bytes]:
        name = unquote(url.removeprefix(SCHEME))
        content = self._files.get(name)
        if content is None:
            raise DownloadHTTPError(f"{name} has not come", 404)
        return (content[at : at + _CHUNK] for at in range(0, len(content), _CHUNK))
