"""Checkpoints of a log: what a signed head says (C2SP tlog-checkpoint), built and parsed in one place.

    portico/v1/gw-0001/audit
    1042
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

The lines are origin, size and the root of `core.merkle`.  Deliberately not here: the signature below
them (`certs.note`).
"""

import base64
import binascii
from dataclasses import dataclass

from core.errors import WireError
from core.merkle import HASH_BYTES


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of a log at one size."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """Return what is signed; ends with a newline."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    @classmethod
    def parse(cls, text: str) -> "Checkpoint":
        """Read the text of a note, further lines ignored; `WireError` when it is no checkpoint."""
        lines = text.split("\n")
        if len(lines) < 4 or not lines[0]:
            raise WireError("a checkpoint has three lines: origin, size and root")
        if not (lines[1].isascii() and lines[1].isdigit()) or (lines[1] != "0" and lines[1][0] == "0"):
            raise WireError(f"the size of a checkpoint is a number without zeros in front, not {lines[1]!r}")
        try:
            root = base64.b64decode(lines[2], validate=True)
        except binascii.Error as error:
            raise WireError("the root of a checkpoint is not base64") from error
        if len(root) != HASH_BYTES:
            raise WireError(f"the root of a checkpoint has {HASH_BYTES} bytes, not {len(root)}")
        return cls(lines[0], int(lines[1]), root)
