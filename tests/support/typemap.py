"""The maps of device types read and encoded apart from ``drivers``: what a foreign server is made to hold.

The files are read here by ``tomllib`` alone, values become registers by ``struct``, and what must be read
back is worked out in ``Decimal`` from the register content and the file's keys.  Nothing of ``drivers`` is
used, so that a mistake there shows.

Not here: SunSpec's scale factors (no shipped type has them), servers (``tests.support.mappeer``).
"""

import math
import random
import struct
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from pathlib import Path
from typing import Any

TYPES = Path(__file__).parents[2] / "drivers" / "types"
INTEGERS = {"16": "h", "32": "i", "64": "q"}
FLOATS = {"float32": "f", "float64": "d"}
POISON = 0xA5A5
"""What registers hold that belong to no point: a read that is off by one shows it."""
EXACT = 2**53
"""Integers beyond travel as text."""

Raw = int | float | str | bool


@dataclass(frozen=True, slots=True)
class Field:
    """One point as its file has it, with the defaults of the file."""

    keys: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.keys["name"])

    @property
    def type(self) -> str:
        return str(self.keys["type"])

    @property
    def table(self) -> str:
        return str(self.keys["table"])

    @property
    def address(self) -> int:
        return int(self.keys["address"])

    @property
    def is_integer(self) -> bool:
        return "int" in self.type

    @property
    def bits(self) -> int:
        return int(self.type.lstrip("uintfloa"))

    @property
    def count(self) -> int:
        """How many addresses it covers."""
        if self.type == "string":
            return int(self.keys["length"])
        return 1 if self.type in ("bool", "bit") else self.bits // 16

    @property
    def readable(self) -> bool:
        return bool(self.keys.get("readable", True))

    def number(self, key: str) -> Decimal | None:
        """Return a key that is a number, exactly as the file has it."""
        found = self.keys.get(key)
        return None if found is None else Decimal(str(found))

    @property
    def markers(self) -> list[int]:
        """Register contents that mean no value, as unsigned numbers."""
        return [one % (1 << self.bits) for one in self.keys.get("not_available", ()) if one != "nan"]

    def words(self, raw: Raw) -> list[int]:
        """Return what the registers hold, in order of address; one bit for a coil."""
        if isinstance(raw, bool):
            return [int(raw)] if self.type == "bool" else [int(raw) << int(self.keys["bit"])]
        if isinstance(raw, str):
            body = raw.encode().ljust(2 * self.count, b"\0")
        elif self.is_integer:
            code = INTEGERS[str(self.bits)]
            body = struct.pack(">" + (code.upper() if self.type.startswith("u") else code), raw)
        else:
            body = struct.pack(">" + FLOATS[self.type], raw)
        pairs = [body[at : at + 2] for at in range(0, len(body), 2)]
        if self.keys.get("byte_order", "big") == "little":
            pairs = [pair[::-1] for pair in pairs]
        if self.keys.get("word_order", "big") == "little" and not isinstance(raw, str):
            pairs.reverse()
        return [pair[0] << 8 | pair[1] for pair in pairs]

    def meaning(self, raw: Raw) -> tuple[Decimal | str | bool | None, str | None]:
        """Return the value that must be read, and the reason where it is not good."""
        if isinstance(raw, str | bool):
            return raw, None
        if isinstance(raw, int):
            if raw % (1 << self.bits) in self.markers:
                return None, "not-available"
            with localcontext(prec=60):
                scale, offset = self.number("scale"), self.number("offset")
                value = raw * (Decimal(1) if scale is None else scale) + (offset or 0)
        else:
            held = struct.unpack(">" + FLOATS[self.type], struct.pack(">" + FLOATS[self.type], raw))[0]
            if self.words(raw) == self.words_of_marker(raw):
                return None, "not-available"
            if math.isnan(held):
                nan = "nan" in self.keys.get("not_available", ())
                return None, "not-available" if nan else "undecodable"
            resolution = self.number("resolution")
            assert resolution is not None
            with localcontext(prec=800):
                scale = self.number("scale")
                value = Decimal(held) * (Decimal(1) if scale is None else scale)
                value = value.quantize(resolution, ROUND_HALF_EVEN)
        low, high = self.number("low"), self.number("high")
        far = (low is not None and value < low) or (high is not None and value > high)
        return value, "out-of-range" if far else None

    def words_of_marker(self, raw: float) -> list[int] | None:
        """Return the registers of a float that are a marker by their bits, None for another."""
        body = struct.pack(">" + FLOATS[self.type], raw)
        found = int.from_bytes(body, "big")
        return self.words(raw) if found in self.markers else None

    def contents(self) -> Iterator[Raw]:
        """Yield register contents that together show where a map can be wrong."""
        if self.type in ("bool", "bit"):
            yield from (True, False)
        elif self.type == "string":
            yield from ("", "Q", "Ab" * self.count, "x-1"[: 2 * self.count])
        elif self.is_integer:
            yield from self._whole()
        else:
            yield from self._fractional()

    def _whole(self) -> Iterator[int]:
        signed = not self.type.startswith("u")
        low, high = (-(1 << self.bits - 1), (1 << self.bits - 1) - 1) if signed else (0, (1 << self.bits) - 1)
        asymmetric = int("123456789abcdef0"[: self.bits // 4], 16)
        yield from (0, 1, asymmetric, high, high - 1, low, low + 1)
        yield from (-1, -asymmetric) if signed else ()
        yield from (marker - (1 << self.bits) if marker > high else marker for marker in self.markers)
        scale = self.number("scale") or Decimal(1)
        for bound in (self.number("low"), self.number("high")):
            if bound is not None:
                nearest = int((bound - (self.number("offset") or 0)) / scale)
                yield from (step for step in (nearest - 1, nearest, nearest + 1) if low <= step <= high)

    def _fractional(self) -> Iterator[float]:
        yield from (0.0, -0.0, 1.0, -1.0, 230.1, -0.45, 1 / 3, 16_777_216.0, float("nan"))
        for marker in self.markers:
            yield struct.unpack(">" + FLOATS[self.type], marker.to_bytes(self.bits // 8, "big"))[0]
        scale = self.number("scale") or Decimal(1)
        for bound in (self.number("low"), self.number("high")):
            if bound is not None:
                near = float(bound / scale)
                yield from (near, near * 1.001 + 0.01, near * 0.999 - 0.01)


@dataclass(frozen=True, slots=True)
class Map:
    """One type's file."""

    name: str
    fields: tuple[Field, ...]


def read_map(name: str) -> Map:
    """Return a shipped type's map."""
    with (TYPES / f"{name}.toml").open("rb") as file:
        document = tomllib.load(file, parse_float=Decimal)
    defaults: dict[str, Any] = document.get("defaults", {})
    return Map(name, tuple(Field(_keys(point, defaults)) for point in document["point"]))


def _keys(point: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    whole = {**defaults, **point}
    kind = whole["type"]
    markers = whole.get("not_available")
    if isinstance(markers, dict):
        whole["not_available"] = markers.get(kind, [])
    if kind in ("bool", "bit", "string"):
        for key in {"resolution", "scale", "not_available"} - point.keys():
            whole.pop(key, None)
    if "float" not in kind and "resolution" not in point:
        whole.pop("resolution", None)
    return whole


def shipped() -> list[str]:
    """Return the names of all shipped types."""
    return sorted(path.stem for path in TYPES.glob("*.toml"))


def rounds(found: Map, seed: int = 1) -> list[dict[str, Raw]]:
    """Return what every point holds in each of some rounds, by name.

    Each point goes through all its contents; neighbours are at different places of theirs, by a seed, so that
    registers mixed up do not hold the same by chance.
    """
    chance = random.Random(f"{found.name} {seed}")
    every = {field.name: list(field.contents()) for field in found.fields}
    for contents in every.values():
        chance.shuffle(contents)
    most = max(len(contents) for contents in every.values())
    return [{name: contents[at % len(contents)] for name, contents in every.items()} for at in range(most)]
