"""A file system that can be filled for real: a small tmpfs, mounted as root, that grows and shrinks.

Relies on Linux and root; :func:`why_not` says what is missing. Touches nothing but its own mount point.
Not here: who fills it (`tests.support.torture.misfortunes`).
"""

import errno
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Final

SIZE: Final = 256 << 20
BLOCK: Final = 4096
TOOL_TIMEOUT_S: Final = 30
BUSY_S: Final = 10.0
PATH: Final = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


def why_not() -> str | None:
    """Return why no file system can be mounted here, None when one can."""
    if os.geteuid() != 0:
        return "a real full file system needs root for mount"
    if shutil.which("mount", path=PATH) is None or shutil.which("umount", path=PATH) is None:
        return "mount is missing: run apt-get install mount"
    try:
        if "tmpfs" not in Path("/proc/filesystems").read_text():
            return "this kernel has no tmpfs"
    except OSError:
        return "a real full file system needs Linux"
    return None


class FullableDisk:
    """A tmpfs at `path`, mounted by :meth:`mount`, gone after :meth:`destroy`."""

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        self._mounted = False
        self._ballast: Final = path / "somebody-elses-file"

    def mount(self) -> None:
        """Mount it, empty and with room."""
        self.path.mkdir(parents=True, exist_ok=True)
        _tool("mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0755", "portico-torture", str(self.path))
        self._mounted = True

    def used(self) -> int:
        """Return the bytes in use."""
        seen = os.statvfs(self.path)
        return (seen.f_blocks - seen.f_bfree) * seen.f_frsize

    def shrink(self, room: int) -> None:
        """Leave so many bytes free."""
        _tool("mount", "-o", f"remount,size={self.used() + room}", str(self.path))

    def shrink_to_fit(self) -> None:
        """Leave nothing free."""
        self.shrink(0)

    def fill(self) -> int:
        """Let something else take all the room there is now; return how many bytes that was."""
        written = 0
        handle = os.open(self._ballast, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        try:
            while True:
                written += os.write(handle, b"\xff" * BLOCK)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        finally:
            os.close(handle)
        return written

    def give_room(self) -> None:
        """Take away what filled it."""
        if self._mounted:
            self._ballast.unlink(missing_ok=True)
            _tool("mount", "-o", f"remount,size={SIZE}", str(self.path))

    def destroy(self) -> None:
        """Unmount; harmless when repeated."""
        deadline = time.monotonic() + BUSY_S
        while self._mounted:
            done = subprocess.run(
                ["umount", str(self.path)], env={"PATH": PATH}, capture_output=True, check=False
            )
            self._mounted = done.returncode != 0
            if self._mounted and time.monotonic() > deadline:
                raise RuntimeError(f"{self.path} cannot be unmounted: {done.stderr.decode().strip()}")
            time.sleep(0.05)

    def __enter__(self) -> "FullableDisk":
        self.mount()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.destroy()


def _tool(*command: str) -> None:
    done = subprocess.run(
        command, env={"PATH": PATH}, capture_output=True, text=True, timeout=TOOL_TIMEOUT_S, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
