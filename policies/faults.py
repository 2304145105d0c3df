"""What is wrong with a policy file, as sentences with their place.

A place reads as the file does: ``policy.toml: grant[2] "esco1-heat" windows[1] start``, counted from 1, with
the row's own id where it has one.  Relies on pydantic's list of errors; the sentences are ours.
"""

import difflib
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from policies.forms import duration_text, parse_duration

_WRONG_TYPE = {
    "string_type": "must be text in quotes",
    "int_type": "must be a whole number without quotes",
    "int_from_float": "must be a whole number",
    "bool_type": "must be true or false",
    "tuple_type": 'must be a list, for example ["a", "b"]',
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
    "dict_type": "must be a table",
}


def near(word: str, known: Iterable[str], most: int = 30) -> str:
    """Return half a sentence that leads from an unknown word to what was probably meant."""
    names = sorted(known)
    found = difflib.get_close_matches(word.lower(), names, n=1)
    if found:
        return f'did you mean "{found[0]}"?'
    return f"there is {', '.join(names[:most])}"


def form_faults(error: ValidationError, model: type[BaseModel], document: object) -> Iterator[str]:
    """Yield one sentence, with its place, for each fault that pydantic found in a document."""
    faults = error.errors(include_url=False)
    for fault in faults:
        loc = tuple(part for part in fault["loc"] if part not in _FORMS)
        if fault["type"] == "too_short" and any(
            len(one["loc"]) > len(loc) for one in faults if one["loc"][: len(loc)] == loc
        ):
            continue  # a list of which each item is wrong counts as empty
        place = place_of(loc, document)
        sentence = _sentence(
            fault["type"], fault["msg"], fault["input"], fault.get("ctx", {}), owner_of(model, loc), loc
        )
        yield f"{place}: {sentence}" if place else sentence


_FORMS = {"function-after[_name(), str]", "literal['*']"}
"""What pydantic adds to a location to say which form of a union it speaks of."""


def place_of(loc: Sequence[int | str], document: object) -> str:
    """Write ``("grant", 1, "windows", 0, "start")`` as ``grant[2] "esco1-heat" windows[1] start``."""
    words: list[str] = []
    here = document
    for part in loc:
        here = _inside(here, part)
        if not isinstance(part, int):
            words.append(part)
            continue
        if words:
            words[-1] += f"[{part + 1}]"
        if len(words) == 1 and isinstance(here, Mapping) and isinstance(here.get("id"), str):
            words.append(f'"{here["id"][:64]}"')
    return " ".join(words)


def _inside(value: object, part: int | str) -> object:
    if isinstance(value, Mapping) and isinstance(part, str):
        return value.get(part)
    if isinstance(value, list | tuple) and isinstance(part, int) and part < len(value):
        return value[part]
    return None


def owner_of(model: type[BaseModel], loc: Sequence[int | str]) -> type[BaseModel]:
    """Return the model whose key the last part of a location is."""
    owner = model
    for part in loc[:-1]:
        if isinstance(part, str):
            owner = next(
                (
                    inner
                    for name, field in owner.model_fields.items()
                    if part in (name, field.alias)
                    for inner in _models_in(field.annotation)
                ),
                owner,
            )
    return owner


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and get_origin(annotation) is None and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (tuple, Union, types.UnionType):
        for inner in get_args(annotation):
            yield from _models_in(inner)


def _sentence(
    kind: str,
    message: str,
    value: object,
    context: Mapping[str, object],
    model: type[BaseModel],
    loc: Sequence[int | str],
) -> str:
    match kind:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            keys = [field.alias or name for name, field in model.model_fields.items()]
            return f"no such key: {near(str(loc[-1]), keys)}"
        case "value_error":
            return str(context["error"])
        case "literal_error":
            words = str(context["expected"]).replace("'", '"')
            return f"must be {words}, is {_shown(value)}"
        case "enum":
            return f"must be {context['expected']}, is {_shown(value)}".replace("'", '"')
        case "greater_than_equal":
            return f"must be at least {_bound(context['ge'], value)}, is {_shown(value)}"
        case "less_than_equal":
            return f"must be at most {_bound(context['le'], value)}, is {_shown(value)}"
        case "too_short":
            return f"must hold at least {context['min_length']}, holds {context['actual_length']}"
        case "too_long":
            return f"must hold at most {context['max_length']}, holds {context['actual_length']}"
        case "string_too_long":
            return f"must have at most {context['max_length']} characters"
        case "string_too_short":
            return "must not be empty"
        case _ if kind in _WRONG_TYPE:
            return f"{_WRONG_TYPE[kind]}, is {_shown(value)}"
        case _:
            return f"{message[:1].lower()}{message[1:]}, is {_shown(value)}"


def _bound(bound: object, value: object) -> str:
    try:
        parse_duration(value)
    except ValueError:
        return str(bound)
    return f'"{duration_text(bound)}"' if isinstance(bound, int) else str(bound)


def _shown(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return f'"{value}"' if len(value) <= 60 else f'"{value[:57]}..."'
        case dict():
            return "a table"
        case list():
            return "a list"
        case _:
            return str(value)[:60]
