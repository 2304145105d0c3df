"""``first_frame`` of a line on which devices dial in: what each says first, by the name of its device.

Pure.  What is compared with it: `drivers.modbus.firstframe`.  Not here: whether the devices exist
(`agent.config_rules`).
"""

from collections.abc import Mapping
from typing import Annotated

from pydantic import PlainValidator, WithJsonSchema

from core.errors import ConfigError
from drivers.modbus.firstframe import doubtful, parse_frame, shown


def _frame(value: object) -> bytes:
    if not isinstance(value, str):
        raise ValueError('must be text in quotes, for example "METER-7" or "hex:01 a7"')
    try:
        return parse_frame(value)
    except ConfigError as error:
        raise ValueError(str(error)) from error


FirstFrame = Annotated[bytes, PlainValidator(_frame), WithJsonSchema({"type": "string"})]


def check_first_frames(
    frames: Mapping[str, bytes], devices: tuple[str, ...] | None, by_address: bool
) -> None:
    """Raise ``ValueError`` where callers could not be told apart, or would be known by nothing else.

    Args:
        frames: by the name of the device.
        devices: who is known by certificate.
        by_address: callers are known by their address.
    """
    if devices is None and not by_address:
        raise ValueError(
            "first_frame proves nothing, since anybody can send it: give devices with ca, cert and key, or "
            "trust_address, as well"
        )
    if not frames:
        raise ValueError("first_frame is empty: name at least one device, or leave the key out")
    pair = doubtful(frames.values())
    if pair is not None:
        one, two = map(shown, pair)
        raise ValueError(f'first_frame "{one}" begins "{two}": nobody could tell which of them is meant')
    for name in frames:
        if devices is not None and name not in devices:
            raise ValueError(f'first_frame names "{name}", which devices does not list')
