"""A program that runs for years begins afresh: without what only its command line needed.

`portico agent run` reads its options with typer and then becomes `python -m agent`: the same process id,
one and a half megabytes less.  Relies on nothing.  Deliberately not here: what the new program does.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent


def become(module: str, *arguments: str, environment: Mapping[str, str]) -> NoReturn:
    """Replace this process by ``python -m module``; what is in ``environment`` and not set yet is set."""
    sys.stdout.flush()
    sys.stderr.flush()
    env = {**environment, **os.environ}
    if not _found_afresh():
        env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), env.get("PYTHONPATH"))))
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    # -P: modules are never looked for in the folder in which somebody stands.
    safe = [] if "-P" in flags or "-I" in flags else ["-P"]
    os.execve(sys.executable, [sys.executable, *flags, *safe, "-m", module, *arguments], env)


def _found_afresh() -> bool:
    """Tell whether an interpreter that is not told finds our packages: all but the first entry stay."""
    stays = sys.path if sys.flags.safe_path else sys.path[1:]
    return str(ROOT) in stays
