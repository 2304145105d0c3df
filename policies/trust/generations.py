"""Where the policy in force lies: one folder a generation, put in force by the swap of one link.

At any instant, also in the middle of a power cut, ``current`` names a whole generation or none.  What was
being prepared is thrown away at the next start.  Two generations are kept: the one in force and the one
before.

One owner.  Not here: whether what lies there is to be believed (`policies.trust.folder`).
"""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from core.errors import StoreError
from policies.trust.refusals import PolicyRefused, Why

KEPT: Final = 2
CURRENT: Final = "current"
_STAGE: Final = "stage"
_LINK: Final = "current.new"
_GENERATION: Final = re.compile(r"gen-([0-9]{1,12})", re.ASCII)


class Generations:
    """A folder of generations; ``at_step`` is called between the steps of a commit, for tests that kill."""

    def __init__(self, base: Path, at_step: Callable[[str], None] = lambda step: None) -> None:
        self.base: Final = base
        self._at_step = at_step
        try:
            base.mkdir(parents=True, exist_ok=True, mode=0o700)
            # What an end in the middle of a commit left behind.
            self.discard()
            (base / _LINK).unlink(missing_ok=True)
            self._prune(self._pointed())
        except OSError as error:
            raise StoreError(f"the folder of the policy {base} cannot be made: {error.strerror}") from error

    def step(self, name: str) -> None:
        """Note that a step is done."""
        self._at_step(name)

    def newest_first(self) -> list[Path]:
        """Return what may be believed after verification: the one in force, then the others, newest first."""
        pointed = self._pointed()
        others = [path for _, path in self._numbered() if path != pointed]
        return ([pointed] if pointed is not None and pointed.is_dir() else []) + others

    def stage(self) -> Path:
        """Return a new empty folder to prepare the next generation in; what was left of another goes."""
        stage = self.base / _STAGE
        shutil.rmtree(stage, ignore_errors=True)
        (stage / "metadata" / "root_history").mkdir(parents=True, mode=0o700)
        (stage / "targets").mkdir(mode=0o700)
        return stage

    def discard(self) -> None:
        """Throw away what was prepared."""
        shutil.rmtree(self.base / _STAGE, ignore_errors=True)

    def commit(self) -> Path:
        """Put what was prepared in force, whole or not at all; return its folder."""
        stage = self.base / _STAGE
        for folder, _, files in os.walk(stage):
            for name in files:
                _flush(Path(folder, name))
            _flush(Path(folder))
        self.step("flushed")
        numbered = self._numbered()
        generation = self.base / f"gen-{numbered[0][0] + 1 if numbered else 1}"
        stage.rename(generation)
        _flush(self.base)
        self.step("named")
        link = self.base / _LINK
        link.unlink(missing_ok=True)
        link.symlink_to(generation.name)
        self.step("linked")
        link.replace(self.base / CURRENT)
        _flush(self.base)
        self.step("swapped")
        self._prune(generation)
        self.step("pruned")
        return generation

    def _pointed(self) -> Path | None:
        try:
            return self.base / os.readlink(self.base / CURRENT)
        except OSError:
            return None

    def _prune(self, current: Path | None) -> None:
        others = [path for _, path in self._numbered() if path != current]
        for path in others[KEPT - 1 :]:
            shutil.rmtree(path, ignore_errors=True)

    def _numbered(self) -> list[tuple[int, Path]]:
        found = []
        for path in self.base.iterdir():
            matched = _GENERATION.fullmatch(path.name)
            if matched is not None and path.is_dir():
                found.append((int(matched[1]), path))
        return sorted(found, reverse=True)


def read_bounded(path: Path, most: int) -> bytes | None:
    """Return a file, None when there is none; one that is longer than ``most`` bytes is refused."""
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise PolicyRefused(Why.INCOMPLETE, f"{path.name} cannot be read: {error.strerror}") from error
    if len(content) > most:
        raise PolicyRefused(Why.TOO_LARGE, f"{path.name} has more than {most} bytes")
    return content


def _flush(path: Path) -> None:
    if path.is_symlink():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
