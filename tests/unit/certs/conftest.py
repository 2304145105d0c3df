"""One development authority for the tests of this package; each test that writes has its own."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from certs.authority import DevAuthority

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def authority(tmp_path: Path) -> DevAuthority:
    return DevAuthority.create(tmp_path / "ca", now=NOW)


@pytest.fixture
def other_authority(tmp_path: Path) -> DevAuthority:
    return DevAuthority.create(tmp_path / "other", now=NOW)
