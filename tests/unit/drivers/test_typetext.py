"""A type written as a file is the same type when it is read again."""

from datetime import date
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import ConfigError
from drivers.points import PointType
from drivers.types import DeviceType, Hint, Source, known_types, load_type
from drivers.typetext import duration, save_type, type_text
from tests.support.points import bit_points, counting_points, ordered_points, register_points

ADDRESS = st.integers(0, 60_000)
ANY = register_points(ADDRESS) | bit_points(ADDRESS) | counting_points(ADDRESS) | ordered_points(ADDRESS)


def made(points: tuple[PointType, ...], **more: object) -> DeviceType:
    source = Source(title="T", where="W", read=date(2026, 11, 22), verified=False)
    head = {"name": "toy", "manufacturer": "M", "model": "1", "description": "", "kind": "meter"}
    return DeviceType.model_validate({**head, "source": source, "points": points, **more})


def named(points: list[PointType]) -> tuple[PointType, ...]:
    return tuple(
        point.model_copy(update={"name": f"P{number}"}) for number, point in enumerate(points, start=1)
    )


@pytest.mark.parametrize("name", known_types())
def test_every_shipped_type_survives_being_written(tmp_path: Path, name: str) -> None:
    kind = load_type(name)
    save_type(tmp_path / f"{name}.toml", kind)
    assert load_type(name, [tmp_path]) == kind


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(points=st.lists(ANY, min_size=1, max_size=6))
def test_any_type_survives_being_written(tmp_path: Path, points: list[PointType]) -> None:
    kind = made(named(points))
    save_type(tmp_path / "toy.toml", kind, replace=True)
    assert load_type("toy", [tmp_path]) == kind


def test_texts_of_a_device_cannot_break_the_file(tmp_path: Path) -> None:
    odd = 'Zähler "A" \\ \n[point]\x7f\t#'
    kind = made(load_type("abb-b21").points, manufacturer=odd, description=odd)
    save_type(tmp_path / "toy.toml", kind, [odd, "two\nlines"], {"PhVphA": [odd]})
    assert load_type("toy", [tmp_path]) == kind


def test_hints_are_written(tmp_path: Path) -> None:
    hint = Hint.model_validate({"table": "holding", "address": 11, "values": [70, 71]})
    kind = made(load_type("abb-b21").points, recognise=(hint,))
    save_type(tmp_path / "toy.toml", kind)
    assert load_type("toy", [tmp_path]).recognise == (hint,)


def test_comments_stand_at_the_top_and_before_their_point() -> None:
    text = type_text(load_type("abb-b21"), ["Found so."], {"PhVphA": ["The first."]})
    assert text.startswith("# Found so.\n\n[type]\n")
    assert '\n# The first.\n[[point]]\nname = "PhVphA"\n' in text


def test_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "abb-b21.toml"
    path.write_text("mine")
    with pytest.raises(ConfigError, match="is there already"):
        save_type(path, load_type("abb-b21"))
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]


def test_file_of_another_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"abb-b21\.toml"):
        save_type(tmp_path / "other.toml", load_type("abb-b21"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("ms", "text"), [(500, "500ms"), (1000, "1s"), (90_000, "90s"), (900_000, "15min"), (7_200_000, "2h")]
)
def test_durations_are_written_in_their_largest_unit(ms: int, text: str) -> None:
    assert duration(ms) == text
