"""What holds for every test: everything below tests/field is marked `field`, hypothesis has no clock."""

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
