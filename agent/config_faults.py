"""What is wrong with a configuration, as sentences with their place.

A place reads as the file does: ``gateway.toml: device[2] "boiler" override[1] every``,
counted from 1, with the table's own name where it has one.  Relies on pydantic's
error list and on the words of `core.faultwords`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from core.faultwords import sentence

EXAMPLES = {
    "id": 'id = "gw-0001"',
    "data_dir": 'data_dir = "/var/lib/portico"',
    "name": 'name = "main-meter"',
    "url": 'url = "modbus+tcp://192.168.1.50:502" for a line, "mqtts://broker.example:8883" for a route',
    "type": 'type = "eastron-sdm630"',
    "line": 'line = "lan"',
    "unit_id": "unit_id = 1",
    "every": 'every = "10s"',
    "entity": 'entity = "dso.example"',
    "owner": 'owner = "dso.example"',
    "points": 'points = ["W", "TotWhImp"]',
}
"""How the keys that must be there are written."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the file something stands."""

    file: str
    table: str
    """``gateway``, ``device`` …; empty for the file as a whole."""
    number: int = 0
    """Position among the tables of that name, from 1; 0 where there is only one."""
    name: str = ""
    key: str = ""

    def __str__(self) -> str:
        table = f"{self.table}[{self.number}]" if self.number else self.table
        parts = [f"{self.file}:", table, f'"{self.name}"' if self.name else "", self.key]
        return " ".join(part for part in parts if part)

    def at(self, key: str) -> "Place":
        """Return the place of a key in this table."""
        return Place(self.file, self.table, self.number, self.name, key)

    def fault(self, words: str) -> str:
        """Return a sentence with this place in front."""
        place = str(self)
        return f"{place} {words}" if place.endswith(":") else f"{place}: {words}"


def form_faults(
    error: ValidationError, place: Place, model: type[BaseModel], nested: Mapping[str, type[BaseModel]]
) -> Iterator[str]:
    """Yield one sentence for each fault that pydantic found in a table.

    ``nested`` names the models of the tables inside it, by key.
    """
    for fault in error.errors(include_url=False):
        if fault["type"] == "default_factory_not_called":
            continue  # the key that the default follows from is told itself
        loc = fault["loc"]
        owner = next((nested[str(part)] for part in reversed(loc[:-1]) if part in nested), model)
        keys = [field.alias or name for name, field in owner.model_fields.items()]
        key = str(loc[-1]) if loc else ""
        context = {"key": key, **fault.get("ctx", {})}
        words = sentence(fault["type"], fault["msg"], fault["input"], context, keys, EXAMPLES.get(key, ""))
        yield place.at(_key(loc)).fault(words)


def _key(loc: Sequence[int | str]) -> str:
    """Write a location such as ``("override", 0, "every")`` as ``override[1] every``."""
    words: list[str] = []
    for part in loc:
        if isinstance(part, int) and words:
            words[-1] += f"[{part + 1}]"
        else:
            words.append(str(part))
    return " ".join(words)
