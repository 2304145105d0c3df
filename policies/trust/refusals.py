"""Why something that claims to be policy was refused: an attack, an accident on the way, or time passed.

A refusal never harms what is held.  The reason is for alarms, the audit and tests; the sentence is for
people. Foreign errors of python-tuf and securesystemslib become ours here and nowhere else.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Final

from securesystemslib.exceptions import Error as SslibError
from tuf.api import exceptions as tuf

from core.errors import TrustError

for _library in ("tuf", "securesystemslib"):
    # Of three who may sign two have: that one signature is missing is no news. What fails is told here.
    logging.getLogger(_library).setLevel(logging.WARNING)


class Why(StrEnum):
    """The closed list."""

    ROLLBACK = "rollback"
    """Older than what is held, or than the signed time."""
    EXPIRED = "expired"
    UNSIGNED = "unsigned"
    """Not signed by enough of the keys that count."""
    ALTERED = "altered"
    """Length or hash is not what was signed."""
    INCOMPLETE = "incomplete"
    """Parts are missing; perhaps they come."""
    TOO_LARGE = "too-large"
    OUTSIDE = "outside"
    """A name or path where it has no place."""
    MALFORMED = "malformed"
    OTHER_GATEWAY = "other-gateway"
    NEEDS_NEWER = "needs-newer"
    """An assignment for a later policy than the one held."""


class PolicyRefused(TrustError):
    """Refused; ``why`` says for what reason."""

    def __init__(self, why: Why, sentence: str) -> None:
        super().__init__(sentence)
        self.why: Final = why


_REASONS: Final[tuple[tuple[type[Exception], Why], ...]] = (
    (tuf.BadVersionNumberError, Why.ROLLBACK),
    (tuf.ExpiredMetadataError, Why.EXPIRED),
    (tuf.UnsignedMetadataError, Why.UNSIGNED),
    (tuf.LengthOrHashMismatchError, Why.ALTERED),
    (tuf.DownloadLengthMismatchError, Why.TOO_LARGE),
    (tuf.DownloadError, Why.INCOMPLETE),
    (tuf.RepositoryError, Why.MALFORMED),
    (SslibError, Why.UNSIGNED),
)
"""From the most particular to the most general; the first that fits counts."""


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn what the libraries raise over untrusted bytes into a refusal; ``what`` begins the sentence."""
    try:
        yield
    except PolicyRefused:
        raise
    except (tuf.RepositoryError, tuf.DownloadError, SslibError) as error:
        why = next(reason for kind, reason in _REASONS if isinstance(error, kind))
        raise PolicyRefused(why, f"{what}: {_short(error)}") from error
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        # Untrusted JSON of another shape than the libraries expect.
        raise PolicyRefused(
            Why.MALFORMED, f"{what}: it has not the expected form ({_short(error)})"
        ) from error


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text[:200] or type(error).__name__
