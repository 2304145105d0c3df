"""How a program of ours ends: an error becomes sentences and an exit code, also where nobody reads them.

The output may be full, closed before the start, or a pipe whose reader has left; none of these is a
traceback.  Relies on `core.errors` for the exit code of an error.  Deliberately not here: what runs.
"""

import contextlib
import errno
import os
import sys
from collections.abc import Callable
from typing import Final, NoReturn

from core.errors import PorticoError

UNWRITABLE: Final = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EPIPE}
"""What a full device, a limit or a closed pipe answers to a write."""


def leave(run: Callable[[], object]) -> NoReturn:
    """Run a program and leave with its exit code: 0, 1 (failed), 2 (wrong use)."""
    code: str | int | None = 0
    open_closed_streams()
    try:
        try:
            run()
        except SystemExit as left:
            code = left.code
        except PorticoError as error:
            tell(error)
            code = error.exit_code
        # Here and not at the interpreter's end, where a failure would be a traceback.
        sys.stdout.flush()
    except OSError as error:
        if error.errno not in UNWRITABLE or error.filename is not None:  # a write knows no name
            raise
        abandon_output()
        if error.errno != errno.EPIPE:  # who closed the pipe has seen enough
            tell(f"the output cannot be written: {error.strerror}")
        code = 1
    sys.exit(code)


def tell(error: PorticoError | str) -> None:
    """Write an error with its faults; where nobody can be told, the exit code says it alone."""
    said = str(error)
    # A sentence may begin with the first fault; it is said once.
    more = (fault for fault in getattr(error, "faults", ()) if not said.startswith(fault))
    with contextlib.suppress(OSError):
        print("\n".join((f"error: {said}", *(f"  {fault}" for fault in more))), file=sys.stderr, flush=True)


def open_closed_streams() -> None:
    """Let what is written to a stream that was closed before the start (``>&-``) go nowhere.

    Without it the next file that is opened, perhaps a database, would get the stream's number.
    """
    for number, name in ((0, "stdin"), (1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is the stream's
            setattr(sys, name, os.fdopen(nowhere, "w" if number else "r"))


def abandon_output() -> None:
    """Let what is still to be written go nowhere, so that the interpreter's own flush does not fail."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
