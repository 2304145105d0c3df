"""Every fault of the simulator on every kind of line stores the quality that the matrix names."""

from pathlib import Path

import pytest

from simulator.faults import FaultKind
from simulator.pytest_plugin import Starter
from tests.faultmatrix import TYPES, run_kind, scenario, table
from tests.support.faultcells import CELLS, KINDS

pytestmark = pytest.mark.alone
FAULTS = Path(__file__).resolve().parents[2] / "docs" / "faults.md"
OF_WRITES = {FaultKind.REFUSED_WRITES, FaultKind.IGNORED_WRITES}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", KINDS)
async def test_every_fault_stores_its_quality_spares_the_other_device_and_passes(
    portico_premises: Starter, kind: str
) -> None:
    home = portico_premises(scenario(kind), "--types", str(TYPES))
    shown = await run_kind(home, kind)
    assert len(shown) == len(CELLS)
    assert not [(one.cell.name, one.faults) for one in shown if one.faults]


def test_the_matrix_names_every_fault_of_reading_and_its_table_is_the_documented_one() -> None:
    named = {cell.fault for cell in CELLS} - {"set"}
    assert named == {kind.value for kind in FaultKind if kind not in OF_WRITES}
    assert table() in FAULTS.read_text()
