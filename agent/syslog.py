"""An audit entry as a line of syslog (RFC 5424).  Pure.

Facility 13 (log audit), severity notice; the entry's own fields are structured data, so that nothing
of them is lost, and its JSON is the message.
"""

import re
from datetime import UTC, datetime
from typing import Final

from agent.store.auditlook import Entry

AUDIT_FACILITY: Final = 13
NOTICE: Final = 5
ENTERPRISE: Final = 32473
"""Private enterprise number for examples (RFC 5612): there is none of our own yet."""
_NO_NAME: Final = re.compile(r"[^!-~]")


def as_syslog(entry: Entry, host: str) -> str:
    """Return the line of an entry, without its end."""
    at = datetime.fromtimestamp(entry.at_ms / 1000, UTC).isoformat(timespec="milliseconds")
    name = _NO_NAME.sub("-", host)[:255] or "-"
    kind = _NO_NAME.sub("-", entry.kind)[:32] or "-"
    fields = f'[entry@{ENTERPRISE} number="{entry.number}" leaf="{entry.leaf.hex()}"]'
    priority = AUDIT_FACILITY * 8 + NOTICE
    when = at.removesuffix("+00:00") + "Z"
    return f"<{priority}>1 {when} {name} portico - {kind} {fields} \ufeff{entry.body}"
