"""The JSON Schema of the wire, for integrators: ``python -m core.wire_schema`` prints it.

Made from the types in :mod:`core.records` and :mod:`core.manifest`, which the decoder uses as well,
so it says what the decoder accepts, save for what no schema can say (that sequences lie in the
coverage, that ranges ascend, that a row fits its group: ``docs/wire.md``).  The file is
``docs/wire.schema.json``; a test compares.
"""

import json
from typing import Final

import msgspec

from core.manifest import Manifest
from core.records import Ask, AuditHead, Confirmation, State, StreamMessage

BODIES: Final[dict[str, type[msgspec.Struct]]] = {
    "stream": StreamMessage,
    "confirm": Confirmation,
    "ask": Ask,
    "state": State,
    "manifest": Manifest,
    "evt": AuditHead,
}
"""What lies in a sealed message, by the third level of its topic."""


def schema() -> str:
    """Return the schema as JSON text; ``$defs`` holds each body under the name of its type."""
    _, definitions = msgspec.json.schema_components(BODIES.values(), ref_template="#/$defs/{name}")
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Portico wire, version 1: bodies of messages",
        "description": "Which of $defs a body is follows from its topic: "
        + ", ".join(f"{branch}: {body.__name__}" for branch, body in BODIES.items()),
        "anyOf": [{"$ref": f"#/$defs/{body.__name__}"} for body in BODIES.values()],
        "$defs": dict(sorted(definitions.items())),
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(schema(), end="")
