"""Identifiers that cannot be malformed.

Names of gateways, entities, devices, lines, routes and points become MQTT topic
levels, file names and column values, so one narrow grammar serves them all:
letters, digits, ``.``, ``_`` and ``-``, beginning with a letter or digit, at
most 64 characters.  No ``/``, ``+`` or ``#`` (MQTT 5 §4.7.1) can occur.
"""

import re
import secrets

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_NAME = re.compile(NAME_PATTERN)
EPOCH_PATTERN = "^[0-9a-f]{16}$"
HASH_PATTERN = "^[0-9a-f]{32}$"
_EPOCH = re.compile(r"[0-9a-f]{16}")
_HASH = re.compile(r"[0-9a-f]{32}")
_BOOKS = re.compile(r"([0-9]{13})-[0-9a-f]{8}")


def name_fault(text: str) -> str | None:
    """Return what is wrong with a name, as half a sentence, or None when it is well formed."""
    if not text:
        return "is empty"
    if len(text) > 64:
        return f"has {len(text)} characters, at most 64 are allowed"
    if _NAME.fullmatch(text) is None:
        return "may hold letters, digits, '.', '_' and '-' only, and begins with a letter or a digit"
    return None


def checked_name(text: str, what: str) -> str:
    """Return ``text`` when it is a well formed name; ``ValueError`` names ``what`` otherwise."""
    fault = name_fault(text)
    if fault is not None:
        raise ValueError(f"{what} {text!r} {fault}")
    return text


def new_epoch() -> str:
    """Return a new epoch: 64 random bits as 16 hexadecimal digits."""
    return secrets.token_hex(8)


def is_epoch(text: str) -> bool:
    """Tell whether ``text`` has the form of an epoch."""
    return _EPOCH.fullmatch(text) is not None


def is_hash(text: str) -> bool:
    """Tell whether ``text`` has the form of a manifest's name."""
    return _HASH.fullmatch(text) is not None


def new_books_id(born_ms: int) -> str:
    """Return a new books id; books ids order by ``born_ms`` (UTC, milliseconds)."""
    return f"{born_ms:013d}-{secrets.token_hex(4)}"


def books_born_ms(books: str) -> int:
    """Return the instant in a books id; ``ValueError`` when it has not the form of one."""
    match = _BOOKS.fullmatch(books)
    if match is None:
        raise ValueError(f"books id {books[:60]!r} has not the form <13 digits>-<8 hexadecimal digits>")
    return int(match[1])
