"""A disk whose power can be cut: an ext4 image on a loop device that forgets what was not flushed.

kill -9 does not show whether a store is durable, for the page cache survives it. Here the processes are
stopped, the file system is shut down without writing its log (ioctl EXT4_IOC_SHUTDOWN with
EXT4_GOING_FLAGS_NOLOGFLUSH, Linux fs/ext4/ext4.h), and only what had reached the loop device by then is
found after the next mount.

Relies on Linux, root, loop devices and e2fsprogs; `why_not` and PowerCutUnavailable say what is missing.
Touches nothing but its own image, loop device and mount point, and removes them in every case but its own
kill -9. Deliberately not here: what runs on the disk and what must have survived (tests/powercut.py); a
drive's own cache, which lies below this.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import signal
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

EXT4_IOC_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32)
EXT4_GOING_FLAGS_NOLOGFLUSH = 2
SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
TOOLS = {"mkfs.ext4": "e2fsprogs", "losetup": "mount", "mount": "mount", "umount": "mount"}
TOOL_TIMEOUT_S = 60
DEADLINE_S = 10.0
# A stopped thread, a dead one, or one inside an uninterruptible system call, which stops before it
# returns to its program. None of them can tell anybody anything any more.
SILENT = frozenset("TtZXD")


class PowerCutUnavailable(RuntimeError):
    """This machine cannot cut a disk's power; the sentence says why."""


@dataclass(frozen=True)
class Cut:
    """The instants of one power cut, wall time in milliseconds."""

    stop_ms: int  # before the first process was stopped: what ran ran until here at least
    silent_ms: int  # every process had stopped: nothing was acknowledged after it
    shutdown_ms: int  # the file system took its last write before it


def why_not() -> str | None:
    """Return the sentence that says why no disk can be cut here, or None."""
    if os.geteuid() != 0:
        return "The power-cut proof did not run: it needs root for loop devices and mount."
    for tool, package in TOOLS.items():
        if _which(tool) is None:
            return f"The power-cut proof did not run: {tool} is missing; run apt-get install {package}."
    if not Path("/dev/loop-control").exists():
        return "The power-cut proof did not run: this kernel offers no loop devices (/dev/loop-control)."
    return None


class PowerCutDisk:
    """A mounted file system at `path`; `cut`, then `remount` and look at what it still holds."""

    def __init__(self, *, size_mib: int = 200) -> None:
        self._size_mib = size_mib
        self._workspace: Path | None = None
        self._device: str | None = None
        self._mounted = False

    @property
    def path(self) -> Path:
        """The mount point; stays the same over cut and remount."""
        if self._workspace is None:
            raise RuntimeError("the disk exists only inside its with block")
        return self._workspace / "mnt"

    @property
    def _image(self) -> Path:
        return self.path.with_name("disk.img")

    def __enter__(self) -> "PowerCutDisk":
        reason = why_not()
        if reason is not None:
            raise PowerCutUnavailable(reason)
        self._workspace = Path(tempfile.mkdtemp(prefix="portico-powercut-"))
        try:
            self.path.mkdir()
            with self._image.open("wb") as image:
                image.truncate(self._size_mib * 1024 * 1024)
            # Initialised at once: a lazy kernel thread would write beside the process under test.
            options = "lazy_itable_init=0,lazy_journal_init=0"
            _tool("mkfs.ext4", "-q", "-F", "-E", options, str(self._image))
            self.remount()
        except BaseException:
            self.destroy()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.destroy()

    def cut(self, pids: Sequence[int]) -> Cut:
        """Take the power from the disk while `pids` run on it: they end, unflushed writes are lost.

        Name every process that has files open on the disk. Children of the caller are left as zombies
        for the caller to wait for.
        """
        stop_ms = _wall_ms()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            _until(lambda: all(_silent(pid) for pid in pids), "the processes did not stop")
            silent_ms = _wall_ms()
            self._shut_down()
            shutdown_ms = _wall_ms()
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        _until(lambda: all(_state(pid) in "ZX" for pid in pids), "the processes did not die")
        self._unmount()
        return Cut(stop_ms, silent_ms, shutdown_ms)

    def remount(self) -> None:
        """Mount what the image holds; the file system recovers from its own journal."""
        self._device = _tool("losetup", "--find", "--show", str(self._image)).strip()
        _tool("mount", "-t", "ext4", self._device, str(self.path))
        self._mounted = True

    def destroy(self) -> None:
        """Unmount, detach and remove; harmless when repeated."""
        if self._workspace is None:
            return
        try:
            self._unmount()
        finally:
            shutil.rmtree(self._workspace)
            self._workspace = None

    def _shut_down(self) -> None:
        root = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(root, EXT4_IOC_SHUTDOWN, struct.pack("=I", EXT4_GOING_FLAGS_NOLOGFLUSH))
        except OSError as error:
            if error.errno not in (errno.ENOTTY, errno.EOPNOTSUPP, errno.EPERM):
                raise
            raise PowerCutUnavailable(
                f"The power-cut proof did not run: ext4 of this kernel refuses its shutdown ({error})."
            ) from error
        finally:
            os.close(root)

    def _unmount(self) -> None:
        """Detach as well, so that nothing of the device's cache outlives the cut."""
        if self._mounted:
            _until(lambda: _run("umount", str(self.path)).returncode == 0, f"{self.path} stays busy")
            self._mounted = False
        if self._device is not None:
            device, self._device = self._device, None
            _tool("losetup", "--detach", device)
            # Detaching is completed by the last close, which may be another program's (udev).
            image = str(self._image)
            _until(lambda: image not in _backing(device), f"{device} stays attached")


def _which(tool: str) -> str | None:
    return shutil.which(tool, path=f"{os.environ.get('PATH', os.defpath)}:{SBIN}")


def _run(tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [_which(tool) or tool, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=TOOL_TIMEOUT_S, check=False)


def _tool(tool: str, *arguments: str) -> str:
    run = _run(tool, *arguments)
    if run.returncode != 0:
        said = " ".join(run.stderr.split())
        raise PowerCutUnavailable(f"The power-cut proof did not run: {tool} failed ({said}).")
    return run.stdout


def _backing(device: str) -> str:
    try:
        return Path("/sys/block", Path(device).name, "loop", "backing_file").read_text()
    except OSError:
        return ""


def _state(pid: int, thread: int | None = None) -> str:
    """Return the one-letter state of a process or thread, X when it is gone (proc(5), /proc/pid/stat)."""
    stat = Path(f"/proc/{pid}/stat" if thread is None else f"/proc/{pid}/task/{thread}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def _silent(pid: int) -> bool:
    try:
        threads = [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return all(_state(pid, thread) in SILENT for thread in threads)


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


def _until(condition: Callable[[], bool], otherwise: str) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{otherwise} within {DEADLINE_S:g} s")
        time.sleep(0.005)
