"""Hints: a register whose content tells one make of device from others (``[[recognise]]`` of a type).

A hint that fits is evidence and no proof: registers of another make may hold the same by chance, the
more so where it is a range.  Relies on ``drivers.points``.  Not here: reading it (``drivers.probe``).
"""

from decimal import Decimal
from typing import Annotated

from pydantic import Field, Strict

from core.manifest import Value
from drivers.points import Address, Noun, Number, Order, PointType, RegisterType, TableName, point_faults


class Hint(Noun):
    """A register whose content tells this make of device from others, for ``portico probe``.

    One of ``values``, ``begins`` (text only) or a range says what is expected.
    """

    table: TableName
    address: Address
    type: Annotated[RegisterType, Strict(False)] = RegisterType.UINT16
    length: Annotated[int, Field(ge=1, le=125)] | None = None
    word_order: Order = "big"
    values: Annotated[tuple[int, ...], Strict(False)] = ()
    """Any of these, as the register's type counts."""
    begins: str = ""
    low: Number | None = None
    high: Number | None = None

    @property
    def point(self) -> PointType:
        """The register as a point that can be read."""
        return PointType.model_validate(
            {
                "name": "hint",
                "quantity": "hint",
                "unit": "",
                "table": self.table,
                "address": self.address,
                "type": self.type,
                "length": self.length,
                "word_order": self.word_order,
            }
        )

    def fits(self, value: Value) -> bool:
        """Tell whether a decoded value is what is expected."""
        if value is None or isinstance(value, bool):
            return False
        if self.begins:
            return isinstance(value, str) and value.startswith(self.begins)
        number = Decimal(value)
        if self.values:
            return number in self.values
        low, high = self.low, self.high
        return (low is None or low <= number) and (high is None or number <= high)


def hint_faults(hint: Hint) -> list[str]:
    """Return what the keys of a hint say against each other."""
    text = hint.type is RegisterType.STRING
    if hint.table.is_bits or not (text or hint.type.is_integer or hint.type.is_float):
        return ["it looks at a number or a text in registers, not at bits"]
    if text != bool(hint.begins) or text != (hint.length is not None):
        return [
            'a text has type "string", its "length" in registers, and "begins"; a number has none of these'
        ]
    ranged = hint.low is not None or hint.high is not None
    if [bool(hint.values), bool(hint.begins), ranged].count(True) != 1:
        return ['it says what is expected by one of "values", "begins", or "low" and "high"']
    return point_faults(hint.point)
