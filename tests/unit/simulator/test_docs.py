"""What the simulator's pages say is what there is."""

import re
import tomllib
from pathlib import Path

import pytest

from simulator.effect import Cause
from simulator.faults import FaultKind
from simulator.parts import BehaviourPart, DevicePart, LinePart, Scenario
from simulator.scenario import load_scenario

ROOT = Path(__file__).parents[3]
REFERENCE = (ROOT / "simulator" / "README.md").read_text()
GUIDE = (ROOT / "docs" / "simulator.md").read_text()


def section(heading: str) -> str:
    return REFERENCE.split(f"{heading}\n", 1)[1].split("\n#", 1)[0]


@pytest.mark.parametrize("kind", [kind.value for kind in FaultKind])
def test_every_kind_of_fault_is_described(kind: str) -> None:
    first_cells = " ".join(
        line.split("|")[1] for line in section("### Faults").splitlines() if line[:1] == "|"
    )
    assert f"`{kind}`" in first_cells


@pytest.mark.parametrize(
    ("heading", "part"), [("### Lines", LinePart), ("### How a device obeys", BehaviourPart)]
)
def test_every_key_of_a_line_and_of_a_behaviour_is_described(
    heading: str, part: type[LinePart] | type[BehaviourPart]
) -> None:
    text = section(heading)
    keys = set(part.model_fields) - {"name"}
    assert not [key for key in keys if f"`{key}" not in text]


@pytest.mark.parametrize("cause", [cause.value for cause in Cause])
def test_every_cause_of_an_effect_is_described(cause: str) -> None:
    (line,) = [line for line in REFERENCE.splitlines() if line.startswith("| `effect`")]
    assert f"`{cause}`" in line


def test_the_scenario_of_the_page_is_one(tmp_path: Path) -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", REFERENCE, re.DOTALL)
    path = tmp_path / "page.toml"
    path.write_text(text)
    scenario = load_scenario(path)
    assert isinstance(scenario, Scenario)
    used = set().union(*(device for device in tomllib.loads(text)["premises"][0]["device"]))
    assert used | {"port"} == set(DevicePart.model_fields)


def test_commands_of_the_guide_name_faults_that_there_are() -> None:
    named = re.findall(r"ctl fault \S+ (\S+)", GUIDE + REFERENCE)
    assert len(named) > 5
    assert set(named) <= {kind.value for kind in FaultKind}
