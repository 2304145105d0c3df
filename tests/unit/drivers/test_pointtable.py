"""Point tables: out to a spreadsheet and back without loss, and faults at their row and column."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import ConfigError
from drivers.points import PointType
from drivers.pointtable import COLUMNS, csv_text, read_csv
from drivers.types import known_types, load_type
from tests.support.points import bit_points, counting_points, ordered_points, point, register_points

ADDRESS = st.integers(0, 60_000)
ANY = register_points(ADDRESS) | bit_points(ADDRESS) | counting_points(ADDRESS) | ordered_points(ADDRESS)
SEPARATORS = [",", ";", "\t"]


@pytest.mark.parametrize("separator", SEPARATORS)
@pytest.mark.parametrize("name", known_types())
def test_points_of_every_shipped_type_survive_a_spreadsheet(name: str, separator: str) -> None:
    points = load_type(name).points
    assert read_csv(csv_text(points, separator), "t.csv") == points


@given(
    points=st.lists(ANY, min_size=1, max_size=6),
    separator=st.sampled_from(SEPARATORS),
    every_column=st.booleans(),
)
def test_any_points_survive_a_spreadsheet(
    points: list[PointType], separator: str, every_column: bool
) -> None:
    named = tuple(one.model_copy(update={"name": f"P{number}"}) for number, one in enumerate(points))
    assert read_csv(csv_text(named, separator, every_column), "t.csv") == named


def test_every_key_of_a_point_has_a_column() -> None:
    names = [column.name for column in COLUMNS]
    assert names[:6] == ["name", "quantity", "unit", "table", "address", "type"]
    assert {"every", "write.min", "write.hold_register.address"} <= set(names)
    roots = {name.partition(".")[0] for name in names}
    assert roots == {field.alias or name for name, field in PointType.model_fields.items()}


def test_what_spreadsheets_make_of_a_table_is_understood() -> None:
    text = (
        "\ufeffName;Address;TYPE;table;scale;default;unit;not_available\r\n"
        "W;0x10;Int16;Holding;0,1;FALSCH;W;\r\n".replace("FALSCH", "FALSE")
        + ";;;;;;;\r\n"
        + 'Hz;17;uint16;holding;"0,01";TRUE;Hz;0xFFFF 65534\r\n'
    )
    first, second = read_csv(text, "t.csv")
    assert first == point("W", address=16, type="int16", scale="0.1", default=False, unit="W")
    assert second.not_available == (0xFFFF, 65534)
    assert (str(second.scale), second.default) == ("0.01", True)


def test_table_for_a_spreadsheet_with_decimal_commas_has_them() -> None:
    points = [point("W", scale="0.1", low=-5, high="1.5")]
    assert csv_text(points, ";").splitlines()[1] == "W;W;1;holding;0;uint16;0,1;-5;1,5"
    assert csv_text(points, ",").splitlines()[1] == "W,W,1,holding,0,uint16,0.1,-5,1.5"


HEAD = "name,unit,table,address,type"
ROW = "W,W,holding,1,int16"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (f"{HEAD}\nW,W,holding,sixteen,int16\n", "row 2, column address: is a whole number"),
        (f"{HEAD}\n{ROW}\nA,A,holding,2,int17\n", "row 3, column type: is one of bool, bit"),
        (f"{HEAD}\n{ROW}\n\nW,W,holding,2,int16\n", "row 4, column name: row 2 has the name 'W'"),
        (f"{HEAD}\nW,,holding,1,int16\n", "row 2, column unit: is empty"),
        (f"{HEAD}\nW,W,holding,,int16\n", "row 2, column address: is empty"),
        (f"{HEAD}\nW,W,holding,70000,int16\n", "row 2, column address: input should be less than"),
        (f"{HEAD},scael\n{ROW},1\n", "row 1, column scael: is not known; did you mean scale?"),
        (f"{HEAD},unit\n{ROW},W\n", "row 1, column unit: is there twice"),
        ("name,unit,table,type\nW,W,holding,int16\n", "row 1: there is no column 'address'"),
        (f"{HEAD},scale\n{ROW},much\n", "row 2, column scale: is a number such as 230 or 0.1"),
        (f"{HEAD},default\n{ROW},maybe\n", "row 2, column default: is true or false"),
        (f"{HEAD},every\n{ROW},often\n", "row 2, column every: 'often' is no duration"),
        (f"{HEAD},write.min\n{ROW},0\n", "row 2, column write.function: is empty"),
        (f"{HEAD}\n{ROW},more\n", "row 2: 'more' stands behind the last column"),
        (f"{HEAD},resolution\n{ROW},0.1\n", 'row 2, point W: "resolution" is for floats'),
        (f"{HEAD}\n", "it has no point"),
        ("", "is empty"),
        (f'{HEAD}\n"W,W', "row 2"),
    ],
)
def test_fault_names_row_and_column(text: str, fault: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_csv(text, "t.csv")
    told = refused.value.faults or (str(refused.value),)
    assert any(one.startswith("t.csv: ") and fault in one for one in told), told


def test_all_faults_are_told_at_once() -> None:
    text = f"{HEAD}\nW,W,holding,x,int16\nA,A,nowhere,1,int16\n"
    with pytest.raises(ConfigError) as refused:
        read_csv(text, "t.csv")
    assert len(refused.value.faults) == 2


@given(st.text(max_size=300) | st.text('name,;"\n\t0x1.uit', max_size=200))
def test_any_text_is_read_or_refused_by_a_sentence(text: str) -> None:
    sentence = ""
    try:
        read_csv(text, "t.csv")
    except ConfigError as error:
        sentence = str(error)
    assert not sentence or sentence.startswith("t.csv")


@pytest.mark.parametrize("separator", [",", ";"])
def test_clock_and_durations_of_sense_survive_a_spreadsheet(separator: str) -> None:
    clock = {"since": "2000-01-01", "max_offset": "90s", "max_ppm": "2.5"}
    points = (point("Clock", unit="s", type="uint32", sense={"clock": clock, "frozen": "5min"}),)
    text = csv_text(points, separator)
    assert read_csv(text, "t.csv") == points
    assert "90s" in text
    assert "5min" in text
