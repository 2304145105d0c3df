"""Hints in a type's file: read, refused with their place, and fitting what they should."""

from pathlib import Path

import pytest

from core.errors import ConfigError
from drivers.hints import Hint
from drivers.types import load_type

TOY = """
[type]
name = "toy"
manufacturer = "M"
model = "T1"
description = "A toy"
kind = "meter"
[source]
title = "Manual"
where = "page 1"
read = 2026-11-22
verified = true
[limits]
max_registers = 10
forbidden = [{ table = "holding", first = 20, last = 29 }]
[[point]]
name = "W"
table = "input"
address = 0
type = "int16"
unit = "W"
"""


def faults(directory: Path, hint: str) -> tuple[str, ...]:
    (directory / "toy.toml").write_text(f"{TOY}[[recognise]]\n{hint}")
    try:
        load_type("toy", [directory])
    except ConfigError as error:
        return error.faults
    return ()


def test_hints_are_read_from_the_file(tmp_path: Path) -> None:
    assert faults(tmp_path, 'table = "holding"\naddress = 11\nvalues = [70, 71]\n') == ()
    (hint,) = load_type("toy", [tmp_path]).recognise
    assert (hint.table.value, hint.address, hint.point.width, hint.values) == ("holding", 11, 1, (70, 71))


@pytest.mark.parametrize(
    ("hint", "sentence"),
    [
        ('table = "holding"\naddress = 11\n', "recognise[0]: it says what is expected"),
        (
            'table = "holding"\naddress = 11\nvalues = [1]\nlow = 0\n',
            "recognise[0]: it says what is expected",
        ),
        ('table = "coil"\naddress = 11\nvalues = [1]\n', "recognise[0]: it looks at a number or a text"),
        ('table = "holding"\naddress = 11\nbegins = "A"\n', "recognise[0]: a text has type"),
        ('table = "holding"\naddress = 20\nvalues = [1]\n', "it lies in the forbidden range 20 to 29"),
        (
            'table = "holding"\naddress = 0\ntype = "string"\nlength = 11\nbegins = "A"\n',
            "recognise[0]: it needs 11 registers",
        ),
        ('table = "holding"\naddress = 11\nvalue = 1\n', "recognise[0].value: this key is not known"),
        ('table = "holding"\nvalues = [1]\n', "recognise[0].address: is missing"),
    ],
)
def test_wrong_hint_is_refused_at_its_place(tmp_path: Path, hint: str, sentence: str) -> None:
    (fault,) = faults(tmp_path, hint)
    assert sentence in fault


@pytest.mark.parametrize(
    ("expected", "value", "fits"),
    [
        ({"values": [70, 71]}, 71, True),
        ({"values": [70, 71]}, 72, False),
        ({"low": 4900, "high": 5100}, 5000, True),
        ({"low": 4900, "high": 5100}, 5101, False),
        ({"low": 4900}, None, False),
        ({"values": [2**60]}, str(2**60), True),
        ({"type": "string", "length": 4, "begins": "WB-"}, "WB-MR6C", True),
        ({"type": "string", "length": 4, "begins": "WB-"}, "X-WB-", False),
    ],
)
def test_hint_fits_what_it_says(expected: dict[str, object], value: int | str | None, fits: bool) -> None:
    hint = Hint.model_validate({"table": "holding", "address": 1, **expected})
    assert hint.fits(value) is fits
