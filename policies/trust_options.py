"""Arguments that the commands of a policy share, and the reading of keys that they name.

Not here: what the commands do (`policies.trust_cli` and beside it).
"""

import getpass
import os
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated

import typer
from securesystemslib.signer import SSlibKey

from core.errors import ConfigError
from policies.trust.generations import read_bounded
from policies.trust.keys import KeyPair, is_encrypted, read_private, read_public

Base = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the policy.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on one line.")]
Public = Annotated[
    list[Path] | None, typer.Option("--public", metavar="FILE", help="A .pub file; may be repeated.")
]
PassPhrase = Annotated[
    Path | None,
    typer.Option("--pass-phrase-file", metavar="FILE", help="First line: the pass phrase of the keys."),
]
Keys = Annotated[
    list[Path] | None, typer.Option("--key", metavar="FILE", help="A .key file; may be repeated.")
]


def now_ms() -> int:
    """Return the instant at which a person acts."""
    return time.time_ns() // 1_000_000


def public_keys(paths: Sequence[Path] | None) -> list[SSlibKey]:
    return [read_public(path) for path in paths or ()]


def key_pairs(paths: Sequence[Path], pass_phrase_file: Path | None) -> list[KeyPair]:
    phrase = phrase_in(pass_phrase_file)
    found = []
    for path in paths:
        if phrase is None and is_encrypted(path) and sys.stdin.isatty():
            phrase = getpass.getpass(f"Pass phrase of {path}: ").encode()
        found.append(read_private(path, phrase))
    return found


def phrase_in(path: Path | None) -> bytes | None:
    if path is None:
        given = os.environ.get("PORTICO_PASS_PHRASE")
        return given.encode() if given else None
    phrase = bytes_of(path, 4096).splitlines()
    if not phrase or not phrase[0]:
        raise ConfigError(f"{path} has no pass phrase in its first line")
    return phrase[0]


def bytes_of(path: Path, most: int = 1 << 20) -> bytes:
    found = read_bounded(path, most)
    if found is None:
        raise ConfigError(f"{path} is not there")
    return found


def keys_here(base: Path, keyids: Collection[str]) -> list[Path]:
    """Return the private keys in the folder of a policy that have one of these ids."""
    found = []
    for public in sorted((base / "keys").glob("*.pub")):
        private = public.with_suffix(".key")
        if private.exists() and read_public(public).keyid in keyids:
            found.append(private)
    return found
