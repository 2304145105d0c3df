"""The changes that no test can see, each with the reason: `equivalent.toml` beside this file."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from tests.support.mutation.changes import Change

PATH = Path(__file__).with_name("equivalent.toml")
_KEYS = {"module", "within", "line", "change", "why"}


@dataclass(frozen=True)
class Equivalent:
    """One entry of the list."""

    module: str
    within: str
    line: str
    change: str
    why: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What names the change, as `Change.key`."""
        return self.module, self.within, self.line, self.change


def read_known(path: Path = PATH) -> list[Equivalent]:
    """Return the list; ``ValueError`` for an entry that does not say everything, or stands twice."""
    found = []
    for number, entry in enumerate(tomllib.loads(path.read_text("utf-8")).get("equivalent", []), start=1):
        if set(entry) != _KEYS or not str(entry["why"]).strip():
            raise ValueError(f"{path.name}: entry {number} needs {', '.join(sorted(_KEYS))} and nothing else")
        found.append(Equivalent(**entry))
    if len({one.key for one in found}) < len(found):
        raise ValueError(f"{path.name}: an entry stands there twice")
    return found


def no_longer(
    known: list[Equivalent], changes: list[Change], killed: set[tuple[str, str, str, str]]
) -> list[str]:
    """Return what is wrong with entries for these modules: nothing to change there, or a test sees it."""
    there = {one.key for one in changes}
    modules = {one.path for one in changes}
    told = []
    for one in known:
        if one.module in modules and one.key not in there:
            told.append(f"{one.module}: {one.within}: {one.change}: the line is not there any more")
        elif one.key in killed:
            told.append(f"{one.module}: {one.within}: {one.change}: a test sees it")
    return told
