"""Books, a judge and a gateway double for the head-end's tests; keys are made once."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from certs.signing import TrustedSigners
from headend.arrival import Stored, store
from headend.books import Books
from headend.intake import Accepted, Intake, Refused
from tests.support.gateway_double import ENTITY, T0, GatewayDouble, Keys

NOW = T0 + 60_000


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys.create(tmp_path_factory.mktemp("ca"), NOW)


@pytest.fixture
def books_path(tmp_path: Path) -> Path:
    return tmp_path / "books.db"


@pytest.fixture
def books(books_path: Path) -> Iterator[Books]:
    made = Books(books_path, NOW)
    yield made
    made.close()


@pytest.fixture
def intake(keys: Keys, books: Books) -> Intake:
    return Intake(ENTITY, TrustedSigners(keys.ca), books)


@pytest.fixture
def double(keys: Keys) -> GatewayDouble:
    return GatewayDouble(keys.stream())


Take = Callable[..., list[Stored]]


@pytest.fixture
def take(books: Books, intake: Intake) -> Take:
    """Judge messages, which must hold, and store them in one transaction."""

    def judged(message: tuple[str, bytes], now_ms: int) -> Accepted:
        verdict = intake.judge(*message, now_ms)
        assert isinstance(verdict, Accepted), verdict
        return verdict

    def take_all(*messages: tuple[str, bytes], now_ms: int = NOW) -> list[Stored]:
        accepted = [judged(message, now_ms) for message in messages]
        with books.transaction(now_ms):
            return [store(books, one) for one in accepted]

    return take_all


@pytest.fixture
def refused(intake: Intake) -> Callable[[tuple[str, bytes]], Refused]:
    """Judge a message that must not hold."""

    def judge(message: tuple[str, bytes]) -> Refused:
        verdict = intake.judge(*message, NOW)
        assert isinstance(verdict, Refused), verdict
        return verdict

    return judge
