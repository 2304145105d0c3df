"""Compile the C programs that tests and benchmark run beside us: servers and shims not written in Python.

Relies on gcc. A program is compiled once: the result lies in `.cache/cbuild/` of the checkout (not in
git) under a name that holds the hash of source, libraries and flags, so an edit makes a new one.
Deliberately not here: running the programs, and source of more than one file.
"""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "cbuild"
FLAGS = ("-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror")
SHARED_FLAGS = ("-shared", "-fPIC")
TIMEOUT_S = 120

# The Debian package that brings a library's header and the file the linker looks for.
PACKAGES = {"modbus": "libmodbus-dev", "mosquitto": "libmosquitto-dev"}


class BuildUnavailable(RuntimeError):
    """The machine lacks the compiler or a library; the sentence names the Debian package."""


class BuildFailed(RuntimeError):
    """The compiler refused the source; carries what it said."""


def build(source: Path, *libs: str, shared: bool = False) -> Path:
    """Return the program compiled from `source`, compiling it if no earlier call did.

    `libs` are names as in `-l`; with `shared` the result is a library for LD_PRELOAD.
    """
    flags = FLAGS + (SHARED_FLAGS if shared else ())
    text = source.read_bytes()
    key = hashlib.sha256(b"\0".join([text, *(part.encode() for part in (*flags, "|", *libs))]))
    target = CACHE / f"{source.stem}-{key.hexdigest()[:16]}{'.so' if shared else ''}"
    if target.exists():
        return target
    compiler = shutil.which("gcc")
    if compiler is None:
        raise BuildUnavailable(
            f"{source.name} cannot be compiled: gcc is missing; run apt-get install gcc libc6-dev."
        )
    for lib in libs:
        _require(compiler, source, lib)
    CACHE.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f"{target.name}.{os.getpid()}")
    command = [compiler, *flags, str(source), "-o", str(unfinished), *(f"-l{lib}" for lib in libs)]
    try:
        run = _gcc(command)
        if run.returncode != 0:
            raise BuildFailed(f"{source.name} does not compile:\n{run.stderr.strip()}")
        unfinished.replace(target)  # whole or not at all, also when two processes compile at once
    finally:
        unfinished.unlink(missing_ok=True)
    return target


def _require(compiler: str, source: Path, lib: str) -> None:
    """Refuse with the package's name when the linker does not find `lib`."""
    path = _gcc([compiler, f"-print-file-name=lib{lib}.so"]).stdout.strip()
    if not os.path.isabs(path):  # gcc echoes the bare name when it finds no such file
        package = PACKAGES.get(lib, f"lib{lib}-dev")
        raise BuildUnavailable(
            f"{source.name} cannot be compiled: lib{lib} is missing; run apt-get install {package}."
        )


def _gcc(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
