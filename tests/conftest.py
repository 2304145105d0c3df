"""What holds for every test: everything below tests/field is marked `field`, hypothesis has no clock.

Side by side (`make test` runs the field tests so, by pytest-xdist) each process has ports of its own, tests
that may take longest begin first, and tests of a file that share what a fixture starts stay together.
A proof that did not run is named at the end with its reason, whatever options were given.
"""

import os
from pathlib import Path

import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

from simulator.broker import PORTS_SETTING, free_range

# A deadline for one example measures the machine and its neighbours, not the code.
hypothesis.settings.register_profile("portico", deadline=None, print_blob=True)
hypothesis.settings.load_profile("portico")

FIELD = Path(__file__).parent / "field"
TOGETHER = {
    f"tests/field/test_{name}.py" for name in ("acl", "conformance", "probe", "sunspec_maps", "type_maps")
}
"""Files with fixtures that serve all their tests."""


class ByFixture(LoadScopeScheduling):
    """One test after the other to whichever process is free, the files in TOGETHER whole."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return path if path in TOGETHER else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByFixture:
    """Let xdist deal out the tests in the order of `pytest_collection_modifyitems`."""
    config.option.loadscopereorder = False
    return ByFixture(config, log)


def pytest_configure(config: pytest.Config) -> None:
    """Give each process of tests ports of its own: what was chosen and is not bound yet is nobody else's."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if hasattr(config, "workerinput") and worker.startswith("gw"):
        ports, count = free_range(), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        share = len(ports) // count
        first = ports[int(worker.removeprefix("gw")) * share]
        os.environ[PORTS_SETTING] = f"{first}-{first + share - 1}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark by place, so that no test of the field can forget its marker, and put the longest first."""
    for item in items:
        if item.path.is_relative_to(FIELD):
            item.add_marker(pytest.mark.field)
    if hasattr(config, "workerinput"):
        items.sort(key=allowed_s, reverse=True)


def allowed_s(item: pytest.Item) -> float:
    """Return how long a test may take, where it says so: the rest take little."""
    marker = item.get_closest_marker("timeout")
    return float(marker.args[0]) if marker is not None and marker.args else 0.0


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name every test that was skipped, by its reason."""
    by_reason: dict[str, list[str]] = {}
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        by_reason.setdefault(reason.removeprefix("Skipped: "), []).append(report.nodeid)
    if not by_reason:
        return
    terminalreporter.section("proofs that did not run", red=True, bold=True)
    for reason, names in sorted(by_reason.items()):
        terminalreporter.line(f"{len(names)} because {reason}", red=True)
        for name in names:
            terminalreporter.line(f"    {name}")
