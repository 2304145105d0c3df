"""What `portico probe` prints of a device that it cannot tell."""

import pytest
from rich.console import Console

from cli.probe_view import print_guesses


def test_what_cannot_be_told_is_said_with_the_way_to_name_it(capsys: pytest.CaptureFixture[str]) -> None:
    print_guesses(Console(width=200), "modbus+tcp://relay:502", 3, [])
    said = " ".join(capsys.readouterr().out.split())
    assert "Many simple devices, relays above all" in said
    assert "portico types list" in said
    assert "portico probe modbus+tcp://relay:502 --unit 3 --type NAME" in said
