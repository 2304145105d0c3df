"""Finding out what a SunSpec device holds: the marker, the chain of models, and their registers.

The chain is walked with bounds and without trust: lengths that do not fit are reported and the next
model is looked for where the definition puts it, what is not known is stepped over, what the device
refuses is left out.  Nothing is written to the device.

Source: the client of the SunSpec Alliance, sunspec/pysunspec2: sunspec2/modbus/client.py (base addresses,
marker, chain, end that may lack its length; commit f2ece9a, read 2026-11-22).
Deliberately not here: what becomes of it (``drivers.sunspec.devicetype``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from core.errors import FieldError, LinkDown, NoAnswer, Refused, Undecodable
from drivers.modbus.registers import registers
from drivers.patientread import PatientReader
from drivers.sunspec.definitions import END, HEADER, ModelDefinition, definition, model_names

BASES = (40000, 0, 50000)
"""Where the marker is looked for, as protocol addresses of holding registers."""
MARKER = b"SunS"
MAX_MODELS = 100
"""Models of one device; the most that was heard of is below 40."""
MAX_REPEATS = 100
"""Repeats of one model that are read: inputs of an inverter, strings of a battery."""
VENDOR_MODELS = range(64001, 65536)
"""Ids that makers give to models of their own."""


@dataclass(frozen=True, slots=True)
class FoundModel:
    """One model of the chain."""

    id: int
    address: int
    """Of its id; its points begin two registers later."""
    length: int
    """Registers behind id and length, as used for the walk."""
    definition: ModelDefinition | None
    registers: Mapping[int, int] = field(default_factory=dict)
    """By address; empty for a model whose points are not known."""

    @property
    def first(self) -> int:
        """Address of its first point."""
        return self.address + HEADER

    @property
    def name(self) -> str:
        """What SunSpec calls it."""
        return model_names().get(self.id, "of the maker" if self.id in VENDOR_MODELS else "unknown")


@dataclass(frozen=True, slots=True)
class Discovery:
    """What a device holds."""

    base: int
    models: tuple[FoundModel, ...]
    remarks: tuple[str, ...]
    """What was odd, one sentence each."""
    max_registers: int
    """The largest read that the device took."""
    refused: tuple[int, ...]
    """Addresses inside known models that the device does not give."""

    def model(self, *ids: int) -> FoundModel | None:
        """Return the first model that has one of these ids."""
        return next((model for model in self.models if model.id in ids), None)


async def discover(reader: PatientReader, bases: Sequence[int] = BASES) -> Discovery:
    """Return what a device says it holds.

    ``Undecodable`` when it answers but has no SunSpec map; other ``FieldError`` when it does not answer.
    """
    base = await _find(reader, bases)
    remarks: list[str] = []
    chain = await _walk(reader, base + HEADER, remarks)
    models: list[FoundModel] = []
    for model in chain:
        held: Mapping[int, int] = {}
        wanted = _wanted(model)
        if wanted:
            held = await reader.read_all(model.first, wanted)
            missing = wanted - len(held)
            if missing:
                remarks.append(f"model {model.id} at {model.address}: {missing} registers are refused")
        models.append(FoundModel(model.id, model.address, model.length, model.definition, held))
    return Discovery(base, tuple(models), tuple(remarks), reader.largest, tuple(sorted(reader.refused)))


def _wanted(model: FoundModel) -> int:
    """Return how many registers of a model its definition says something of."""
    if model.definition is None:
        return 0
    repeat = model.definition.repeat
    most = model.definition.length + (MAX_REPEATS * repeat.length if repeat is not None else 0)
    return min(model.length, most)


async def _find(reader: PatientReader, bases: Sequence[int]) -> int:
    """Return the address of the marker."""
    said: list[str] = []
    silent: NoAnswer | None = None
    for base in bases:
        try:
            found = await reader.read(base, 2)
        except LinkDown:
            raise
        except Refused as error:
            said.append(f"{base}: exception {error.code}")
        except NoAnswer as error:
            silent = error
            said.append(f"{base}: no answer")
        else:
            if found == MARKER:
                return base
            said.append(f"{base}: {found.hex()}")
    if silent is not None and all("no answer" in one for one in said):
        raise silent
    raise Undecodable(
        f"unit {reader.unit_id} has no SunSpec map: no {MARKER.decode()!r} in its holding registers "
        f"({', '.join(said)}); is SunSpec switched on in the device?"
    )


async def _walk(reader: PatientReader, address: int, remarks: list[str]) -> list[FoundModel]:
    """Return the models of the chain, without their registers."""
    models: list[FoundModel] = []
    while True:
        if address + HEADER > 0x10000:
            remarks.append("the chain of models runs to the last register without an end")
            return models
        if len(models) == MAX_MODELS:
            remarks.append(f"the chain was left after {MAX_MODELS} models at {address}")
            return models
        try:
            model, length = await _header(reader, address)
        except LinkDown:
            raise
        except FieldError as error:
            if not models:
                raise
            remarks.append(f"the chain of models breaks off at {address}: {error}")
            return models
        if model == END:
            return models
        if model == 0 and length == 0:
            remarks.append(f"the chain of models ends in zeros at {address}, not by {END:#x}")
            return models
        known = definition(model)
        if known is not None and not known.fits(length):
            length = await _real_length(reader, address, known, length, remarks)
        if address + HEADER + length > 0x10000:
            remarks.append(f"model {model} at {address} says {length} registers, beyond the last one")
            return models
        models.append(FoundModel(model, address, length, known))
        address += HEADER + length


async def _header(reader: PatientReader, address: int) -> tuple[int, int]:
    """Return id and length of the model at an address; some devices end their chain in an id alone."""
    try:
        model, length = registers(await reader.read(address, HEADER))
    except Refused:
        (model,) = registers(await reader.read(address, 1))
        if model != END:
            raise
        return model, 0
    return model, length


async def _real_length(
    reader: PatientReader, address: int, known: ModelDefinition, length: int, remarks: list[str]
) -> int:
    """Return the length by which the walk goes on where that stated is not the definition's.

    Stated lengths win where a model follows there, since makers do add registers; else the definition's.
    """
    place = f"model {known.id} at {address} says {length} registers, its definition {known.length}"
    stated = await _looks_like_model(reader, address + HEADER + length)
    defined = await _looks_like_model(reader, address + HEADER + known.length)
    if defined > stated:
        remarks.append(f"{place}; the next model follows the definition")
        return known.length
    remarks.append(f"{place}; {'taken as it says' if stated else 'no model follows either'}")
    return length


async def _looks_like_model(reader: PatientReader, address: int) -> int:
    """Tell whether a model, or the end, seems to begin at an address: 0 no, 1 perhaps, 2 yes."""
    if address >= 0x10000:
        return 0
    try:
        model, length = await _header(reader, address)
    except LinkDown:
        raise
    except FieldError:
        return 0
    if model == END:
        return 2 if length == 0 else 1  # all ones in a row are more often values that are not implemented
    return 2 if model in model_names() or model in VENDOR_MODELS else 0
