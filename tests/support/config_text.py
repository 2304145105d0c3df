"""A small gateway.toml in parts, and what parsing it says.

Relies on `agent.config`.
"""

from pathlib import Path

import pytest

from agent.config import Config, parse_config, types_of, warnings
from core.errors import ConfigError

GATEWAY = '[gateway]\nid = "gw-0001"\ndata_dir = "var/gw-0001"\n'
LINE = '[[line]]\nname = "lan"\nurl = "modbus+tcp://127.0.0.1:5020"\n'
DEVICE = (
    '[[device]]\nname = "meter"\ntype = "eastron-sdm630"\nline = "lan"\nunit_id = 1\nevery = "10s"\n'
    'owner = "dso.example"\n'
)
ROUTE = (
    '[[route]]\nname = "dso"\nentity = "dso.example"\nurl = "mqtts://127.0.0.1:8883"\n'
    'ca = "ca.pem"\ncert = "gw-0001.pem"\nkey = "gw-0001.key"\n'
)
WHOLE = GATEWAY + LINE + DEVICE + ROUTE


def parsed(text: str) -> Config:
    return parse_config(text, Path("/etc/portico/gateway.toml"))


def faults(text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        parsed(text)
    assert caught.value.exit_code == 2
    return caught.value.faults


def warned(text: str) -> tuple[str, ...]:
    config = parsed(text)
    return warnings(config, types_of(config.gateway))
