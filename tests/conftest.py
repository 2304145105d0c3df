"""What holds for every test: everything below tests/field is marked `field`, hypothesis has no clock.

A proof that did not run is named at the end with its reason, whatever options were given.
"""

from pathlib import Path

import hypothesis
import pytest

# A deadline for one example measures the machine and its neighbours, not the code.
hypothesis.settings.register_profile("portico", deadline=None, print_blob=True)
hypothesis.settings.load_profile("portico")

FIELD = Path(__file__).parent / "field"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark by place, so that no test of the field can forget its marker."""
    for item in items:
        if item.path.is_relative_to(FIELD):
            item.add_marker(pytest.mark.field)


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
