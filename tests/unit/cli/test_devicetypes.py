"""`portico types`: lists, shows, and takes points to a spreadsheet and back."""

import json
from pathlib import Path

import pytest

from cli.main import main
from drivers.types import known_types, load_type


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as left:
        main(["types", *map(str, arguments)])
    return int(left.value.code or 0)


def test_list_names_every_type(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in told] == known_types()
    relay = next(one for one in told if one["name"] == "generic-load-relay")
    assert len(relay["unverified"]) == relay["points"]


def test_table_of_types_tells_which_are_confirmed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list") == 0
    lines = capsys.readouterr().out.splitlines()
    words = {line.split()[0]: line.split()[-1] for line in lines if line.split()}
    assert words["generic-load-relay"] == "no"
    assert words["abb-b23"] == "yes"


def test_show_tells_source_points_and_what_is_not_confirmed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "abb-b21") == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "victronenergy/dbus-modbus-client: abb.py" in told
    assert "PhVphA V holding 23296 uint32" in told
    assert "no source confirmed: VAR, VA, TotVArhImp, TotVArhExp" in told


def test_points_go_to_a_spreadsheet_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, made = tmp_path / "points.csv", tmp_path / "my-meter.toml"
    assert run("export", "abb-b21", "-o", table, "--separator", "semicolon") == 0
    assert run("import", table, "-o", made, "--like", "abb-b21") == 0
    again, before = load_type("my-meter", [tmp_path]), load_type("abb-b21")
    assert again == before.model_copy(update={"name": "my-meter"})
    assert "23296" in table.read_text("utf-8-sig")


@pytest.mark.parametrize("separator", ["comma", "semicolon", "tab"])
@pytest.mark.parametrize("name", known_types())
def test_every_shipped_type_is_the_same_after_a_spreadsheet(
    tmp_path: Path, name: str, separator: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table, made = tmp_path / "points.csv", tmp_path / f"{name}.toml"
    assert run("export", name, "-o", table, "--separator", separator) == 0
    assert run("import", table, "-o", made, "--like", name) == 0
    assert load_type(name, [tmp_path]) == load_type(name)


def test_show_tells_orders_with_their_hold_and_names_guesses(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "heidelberg-energy-control") == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "ALimit: 0 or 6 to 16 A in steps of 0.1, by function 6 default 16 A (guessed)" in told
    assert "1 to 65.535 s in holding 257 in counts of 0.001 s; falls back to AFailsafe" in told
    assert "0 again at 4294967296 VAh (guessed), as old as 10s (guessed): VAhPowerOn, TotVAh" in told
    assert run("show", "sg-ready-relay") == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "on for at least 600 s (guessed)" in told
    assert "only while FallsSG1 is 1; falls back to SafeSG1" in told
    assert run("show", "generic-load-relay") == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "LoadShed ?: 0 to 1, by function 5 default 0, feedback LoadState" in told
    assert run("show", "keba-p40") == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "no feedback, only taken, never told" in told
    assert "5 to 600 s in holding 5018, shown by FailsafeS; falls back to AFailsafe" in told
    assert "writes at least 5s apart" in told
    assert run("show", "waveshare-rtu-relay-d") == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "up to 3276.7 s in the order itself, to coil 512 in counts of 0.1 s" in told


def test_type_of_changed_points_does_not_claim_their_source(tmp_path: Path) -> None:
    table = tmp_path / "points.csv"
    run("export", "abb-b21", "-o", table)
    table.write_text(table.read_text("utf-8-sig").replace("23296", "23300"))
    assert run("import", table, "-o", tmp_path / "mine.toml", "--like", "abb-b21", "--model", "B99") == 0
    mine = load_type("mine", [tmp_path])
    assert (mine.source.verified, mine.source.where, mine.model) == (False, "points.csv", "B99")
    assert mine.limits == load_type("abb-b21").limits


def test_faults_of_a_table_leave_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "points.csv"
    table.write_text("name,unit,table,address,type\nW,W,holding,x,int16\n")
    assert run("import", table, "-o", tmp_path / "mine.toml") == 2
    assert "points.csv: row 2, column address: is a whole number" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [table]


def test_points_that_contradict_each_other_leave_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "points.csv"
    head = "name,unit,table,address,type,write.function,write.min,write.max,write.default,write.feedback"
    table.write_text(f"{head}\nK,,coil,0,bool,coil,0,1,0,Nowhere\n")
    assert run("import", table, "-o", tmp_path / "mine.toml") == 2
    assert "there is no point 'Nowhere'" in capsys.readouterr().err
    assert not (tmp_path / "mine.toml").exists()


def test_files_are_not_written_over_unless_forced(tmp_path: Path) -> None:
    table = tmp_path / "points.csv"
    table.write_text("mine")
    assert run("export", "abb-b21", "-o", table) == 2
    assert table.read_text() == "mine"
    assert run("export", "abb-b21", "-o", table, "--force") == 0


TABLE = "name\tunit\ttable\taddress\ttype\tscale\nTmp\t°C\tholding\t7\tint16\t0,1\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-be"])
def test_a_table_is_read_as_a_spreadsheet_saves_it(tmp_path: Path, encoding: str) -> None:
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    (tmp_path / "points.txt").write_bytes((mark + TABLE).encode(encoding))
    assert run("import", tmp_path / "points.txt", "-o", tmp_path / "mine.toml") == 0
    (point,) = load_type("mine", [tmp_path]).points
    assert (point.name, point.unit, str(point.scale)) == ("Tmp", "°C", "0.1")


@pytest.mark.parametrize("body", [TABLE.encode("utf-16") + b"x", TABLE.encode("utf-16-le"), b"PK\3\4\0\0\0"])
def test_a_table_that_is_no_text_is_one_sentence(
    tmp_path: Path, body: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "points.txt").write_bytes(body)
    assert run("import", tmp_path / "points.txt", "-o", tmp_path / "mine.toml") == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert told.endswith("points.txt is no text; save it as CSV in UTF-8")


def test_each_fault_of_a_table_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head = "name,unit,table,address,type\n"
    for rows, count in (("W,W,holding,x,int16\n", 1), ("W,W,holding,x,int16\nA,A,nowhere,1,int16\n", 2)):
        (tmp_path / "points.csv").write_text(head + rows)
        assert run("import", tmp_path / "points.csv", "-o", tmp_path / "mine.toml") == 2
        lines = capsys.readouterr().err.splitlines()
        assert [line.count("row 2, column address: is a whole number") for line in lines] == [1, 0][:count]
    assert lines[0].endswith("(and 1 more)")
    assert "row 3, column table" in lines[1]


def test_a_folder_that_a_type_needs_is_made_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, made = tmp_path / "points.txt", tmp_path / "types" / "mine.toml"
    table.write_text(TABLE)
    assert run("import", table, "-o", made) == 0
    assert f"the folder {made.parent} was not there and was made" in capsys.readouterr().out
    assert run("import", table, "-o", made, "--force") == 0
    assert "was not there" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["export", "abb-b21", "--separator", "pipe"], "comma, semicolon or tab"),
        (["import", "nowhere.csv", "-o", "x.toml"], "nowhere.csv cannot be read"),
        (["show", "nowhere.toml"], "there is no file nowhere.toml"),
        (["show", "abb-b2"], "did you mean abb-b2"),
    ],
)
def test_wrong_use_is_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    assert sentence in capsys.readouterr().err
