"""Words for what is wrong with a file of settings: what a key must be, and which word was probably meant.

Kinds of faults are named as pydantic names them; the sentences are ours, because they are read by
technicians.  Relies on nothing.  Not here: where in the file a fault stands.
"""

from collections.abc import Iterable, Mapping

BEGINS_LIKE = 0.8
"""From here on a known word counts as beginning like the given one; ours."""

_WRONG_TYPE = {
    "string_type": "must be text in quotes",
    "int_type": "must be a whole number without quotes",
    "int_from_float": "must be a whole number",
    "tuple_type": 'must be a list, for example ["a", "b"]',
    "model_type": "must be a table",
    "datetime_type": "must be a date and time with offset and without quotes, e.g. 2026-01-01T00:00:00Z",
    "timezone_aware": "needs an offset from UTC, for example 2026-01-01T00:00:00Z",
}


def close(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the known word that is most like a word, None when none is like it.

    One that begins like it is preferred to one that has it somewhere: ``comit`` is ``commit_window``.
    """
    import difflib  # only where something is misspelt

    wanted = word.lower()
    best, score = None, 0.0
    for name in known:
        whole = difflib.SequenceMatcher(None, name.lower(), wanted).ratio()
        # Up to one letter more than was written: a letter left out is the commonest slip.
        begin = max(
            difflib.SequenceMatcher(None, name.lower()[:length], wanted).ratio()
            for length in (len(wanted), len(wanted) + 1)
        )
        like = max(whole if whole >= cutoff else 0.0, begin * 0.95 if begin >= BEGINS_LIKE else 0.0)
        if like > score:
            best, score = name, like
    return best


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


def sentence(
    kind: str,
    message: str,
    value: object,
    context: Mapping[str, object],
    keys: Iterable[str],
    example: str = "",
) -> str:
    """Return what is wrong with a value.

    Args:
        kind: the fault's type in pydantic's list of errors.
        message: pydantic's own words, for a kind that is not known here.
        value: what was given.
        context: the bounds and the like that belong to the kind.
        keys: the keys that may stand where an unknown one stands.
        example: how a key that is missing is written.
    """
    match kind:
        case "missing":
            return f"is missing: write for example {example}" if example else "is missing"
        case "extra_forbidden":
            return f"no such key: {near(str(context['key']), keys)}"
        case "value_error":
            return str(context["error"])
        case "greater_than_equal":
            return f"must be at least {context['ge']}, is {value!r}"
        case "less_than_equal":
            return f"must be at most {context['le']}, is {value!r}"
        case "enum" | "literal_error":
            return f"must be {context['expected']}, is {shown(value)}".replace("'", '"')
        case _ if kind in _WRONG_TYPE:
            return f"{_WRONG_TYPE[kind]}, is {shown(value)}"
        case _:
            return f"{message[:1].lower()}{message[1:]}, is {shown(value)}"


def shown(value: object) -> str:
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


WHOSE = (
    ("headend", "a head-end", "headend.toml", "`portico headend run -c`"),
    ("premises", "the simulator's scenario", "scenario.toml", "`portico simulate -s`"),
    ("gateway", "a gateway", "gateway.toml", "`portico agent run -c`"),
)
"""The table that only one kind of file has, whose file it is, how it is called, and what reads it."""


def of_another(tables: Iterable[str], own: str) -> str:
    """Return whose file it is when its tables are another program's, in a sentence's end; empty if not.

    ``own`` is the table without which the file is not the one that was asked for.
    """
    names = set(tables)
    if own in names:
        return ""
    for table, whose, _, reads in WHOSE:
        if table != own and table in names:
            wanted = next(file for key, _, file, _ in WHOSE if key == own)
            return f"is the file of {whose}, which {reads} reads: give a {wanted}"
    return ""
