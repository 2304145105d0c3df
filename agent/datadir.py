"""Whether a data_dir can be used, told before the agent starts.

Tries what the start does (`agent.store.opening.lock`: make the folder, make a file in it) and leaves
nothing behind.  What another user may do is not known here: that we may not is no fault.
"""

import errno
import os
import tempfile
from pathlib import Path

NO_FOLDER = "it is no folder"
_WORDS = {
    errno.EROFS: "its file system is read-only",
    errno.ENOTDIR: NO_FOLDER,
    errno.EEXIST: NO_FOLDER,
    errno.ENOENT: "no folder can be made there",
    errno.ENOSPC: "the disk is full",
}


def data_dir_fault(directory: Path) -> str:
    """Return why the agent could not begin to use a folder, and what to do; empty when it could."""
    there = directory
    try:
        there = next(one for one in (directory, *directory.parents) if os.path.lexists(one))
        if not there.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "Not a directory")
        if not (there / "lock").is_file() or os.statvfs(there).f_flag & os.ST_RDONLY:
            os.rmdir(tempfile.mkdtemp(prefix=".portico-check-", dir=there))
    except PermissionError:
        return ""
    except OSError as error:
        why = _WORDS.get(error.errno or 0, error.strerror or str(error))
        if why == NO_FOLDER and there != directory:
            why = f"{there} is no folder"
        return f"{directory} cannot be used ({why}): name a folder that the agent may make and write"
    return ""
