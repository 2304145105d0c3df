"""What is signed of a device and what is installed: where they differ nothing is switched, or left on."""

from pathlib import Path

import pytest

from simulator.pytest_plugin import Premises, Starter
from tests.support.controlrig import DEVICE, Controlled, Documents, command, rig, rulebook

pytestmark = [pytest.mark.field, pytest.mark.timeout(60)]
SHIPPED = Path(__file__).parents[2] / "drivers" / "types"
REGISTER = 'hold_register = { table = "holding", address = 0, type = "uint16", max = 65535 }\n'
NO_HOLD = {'hold = "timer"\n': 'hold = "none"\n', REGISTER: "", 'refresh = "hold"\n': ""}


@pytest.fixture
def home(portico_premises: Starter) -> Premises:
    return portico_premises("household")


def relay(directory: Path, texts: dict[str, str]) -> Path:
    """Return a folder with the shipped relay in which some texts are others."""
    text = (SHIPPED / "generic-load-relay.toml").read_text()
    for old, new in texts.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    (directory / "types").mkdir()
    (directory / "types" / "generic-load-relay.toml").write_text(text)
    return directory / "types"


async def test_a_device_of_another_type_than_was_signed_is_not_controlled(
    home: Premises, tmp_path: Path
) -> None:
    async with rig(home, tmp_path, Documents(rulebook(Controlled(type="other-relay")))) as gateway:
        gateway.send(command())
        assert (await gateway.until("refused")).reasons == ["other-type"]
        assert "correct the" in gateway.alarms["other-type", DEVICE]
    assert home.log("write") == []


async def test_a_device_with_a_weaker_hold_than_was_signed_is_not_controlled(
    home: Premises, tmp_path: Path
) -> None:
    async with rig(home, tmp_path, types=relay(tmp_path, NO_HOLD)) as gateway:
        gateway.send(command())
        assert (await gateway.until("refused")).reasons == ["other-type"]
        assert "correct the" in gateway.alarms["other-type", DEVICE]
    assert home.log("write") == []


async def test_an_orderly_stop_puts_back_what_the_installed_device_does_not_end(
    home: Premises, tmp_path: Path
) -> None:
    async with rig(home, tmp_path, orderly=False) as gateway:
        gateway.send(command())
        await gateway.until("confirmed")
    async with rig(home, tmp_path, types=relay(tmp_path, NO_HOLD)) as gateway:
        await gateway.until("confirmed")
        await gateway.commander.stop()
        await gateway.until("restored")
        assert gateway.shed() is False
