"""What is wrong with a configuration, as sentences with their place.

A place reads as the file does: ``gateway.toml: device[2] "boiler" override[1] every``,
counted from 1, with the table's own name where it has one.  Relies on pydantic's
error list; the sentences are ours, because they are read by technicians.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

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

_WRONG_TYPE = {
    "string_type": "must be text in quotes",
    "int_type": "must be a whole number without quotes",
    "int_from_float": "must be a whole number",
    "tuple_type": 'must be a list, for example ["a", "b"]',
    "model_type": "must be a table",
    "datetime_type": "must be a date and time with offset and without quotes, e.g. 2026-01-01T00:00:00Z",
    "timezone_aware": "needs an offset from UTC, for example 2026-01-01T00:00:00Z",
}


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

    def fault(self, sentence: str) -> str:
        """Return a sentence with this place in front."""
        place = str(self)
        return f"{place} {sentence}" if place.endswith(":") else f"{place}: {sentence}"


def close(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the known word that is most like a word, None when none is like it."""
    names = {name.lower(): name for name in known}
    import difflib  # only where something is misspelt

    found = difflib.get_close_matches(word.lower(), names, n=1, cutoff=cutoff)
    return names[found[0]] if found else None


def near(word: str, known: Iterable[str], most: int = 12) -> str:
    """Return half a sentence that leads from an unknown word to what was probably meant."""
    names = sorted(known)
    meant = close(word, names)
    if meant is not None:
        return f'did you mean "{meant}"?'
    if not names:
        return "there is none"
    listed = ", ".join(names[:most])
    return f"there is {listed}" + (f" and {len(names) - most} more" if len(names) > most else "")


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
        yield place.at(_key(loc)).fault(
            _sentence(fault["type"], fault["msg"], fault["input"], fault.get("ctx", {}), loc, owner)
        )


def _key(loc: Sequence[int | str]) -> str:
    """Write a location such as ``("override", 0, "every")`` as ``override[1] every``."""
    words: list[str] = []
    for part in loc:
        if isinstance(part, int) and words:
            words[-1] += f"[{part + 1}]"
        else:
            words.append(str(part))
    return " ".join(words)


def _sentence(
    kind: str,
    message: str,
    value: object,
    context: Mapping[str, object],
    loc: Sequence[int | str],
    model: type[BaseModel],
) -> str:
    key = str(loc[-1]) if loc else ""
    match kind:
        case "missing":
            example = EXAMPLES.get(key)
            return f"is missing: write for example {example}" if example else "is missing"
        case "extra_forbidden":
            keys = [field.alias or name for name, field in model.model_fields.items()]
            return f"no such key: {near(key, keys)}"
        case "value_error":
            return str(context["error"])
        case "greater_than_equal":
            return f"must be at least {context['ge']}, is {value!r}"
        case "less_than_equal":
            return f"must be at most {context['le']}, is {value!r}"
        case "enum":
            return f"must be {context['expected']}, is {_shown(value)}".replace("'", '"')
        case _ if kind in _WRONG_TYPE:
            return f"{_WRONG_TYPE[kind]}, is {_shown(value)}"
        case _:
            return f"{message[:1].lower()}{message[1:]}, is {_shown(value)}"


def _shown(value: object) -> str:
    """Show a value in a few words; a table or a list only by its kind."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return f'"{value}"' if len(value) <= 80 else f'"{value[:77]}…"'
        case dict():
            return "a table"
        case list():
            return "a list"
        case _:
            return str(value)
