"""The JSON Schema of policy documents and commands, for integrators: ``python -m policies.schema`` prints it.

Made from the nouns with which documents are read, so it says what the reader accepts, save for what no schema
can say: that names are known, that ends come after begins, which keys belong together (``docs/policy.md``).
The file is ``policies/policy.schema.json``; a test compares.
"""

import json
from typing import Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from policies.assignment import Assignment
from policies.command import Command
from policies.policy import Policy
from policies.roster import Roster

DOCUMENTS: Final[tuple[type[BaseModel], ...]] = (Policy, Roster, Assignment, Command)


def schema() -> str:
    """Return the schema as JSON text; ``$defs`` holds each document under the name of its noun."""
    _, described = models_json_schema([(one, "validation") for one in DOCUMENTS], by_alias=True)
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "description": "Portico policies, format 1: a policy, a roster, an assignment or a command. "
        "docs/policy.md tells what they mean.",
        "anyOf": [{"$ref": f"#/$defs/{one.__name__}"} for one in DOCUMENTS],
        **described,
    }
    return json.dumps(_plain(document), indent=2, ensure_ascii=False) + "\n"


def _plain(value: object, named: bool = False) -> object:
    """Return a schema without titles, and without defaults, which it would give as they are in memory.

    ``named``: its keys are names of properties or of nouns, which may be called anything.
    """
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _plain(one, named=not named and key in ("properties", "$defs"))
        for key, one in value.items()
        if named or key not in ("default", "title")
    }


if __name__ == "__main__":
    print(schema(), end="")
