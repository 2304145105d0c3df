"""The commands: what they print, their exit codes, and one sentence for each mistake."""

import csv
import io
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import entry
from core.errors import ConfigError
from core.records import Gap
from headend.arrival import Stored
from headend.books import Books
from headend.cli import _alone
from headend.instants import instant, parse_instant
from tests.support.gateway_double import ENTITY, EVERY_MS, T0, GatewayDouble, Keys, group

NOW = T0 + 60_000
Take = Callable[..., list[Stored]]


def portico(*arguments: str) -> tuple[int, str]:
    command = ["headend", *arguments]
    result = CliRunner().invoke(entry(command), command)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


@pytest.fixture
def config(books_path: Path, keys: Keys) -> str:
    path = books_path.with_name("headend.toml")
    ca = keys.ca.parent
    path.write_text(
        f'[headend]\nentity = "{ENTITY}"\nbooks = "{books_path}"\n[[broker]]\nurl = "mqtt://127.0.0.1:1"\n'
        f'[signing]\ncert = "{ca}/c.pem"\nkey = "{ca}/c.key"\ntrust = ["{ca}/ca.pem"]\n'
    )
    return str(path)


def test_readings_as_json_are_exact_and_one_a_line(
    take: Take, double: GatewayDouble, books_path: Path
) -> None:
    take(double.hello(last=4))
    code, out = portico("readings", "--books", str(books_path), "--json", "--point", "p0")
    assert code == 0
    first = json.loads(out.splitlines()[0])
    assert (first["value"], first["tick"], first["delay_ms"]) == ("3.0", "2026-09-21T14:13:20Z", 59_995)
    assert (first["quality"], first["owners"], first["seq"]) == ("1.0.0", [ENTITY], 3)


def test_readings_as_csv_have_a_head_line(take: Take, double: GatewayDouble, books_path: Path) -> None:
    take(double.hello(last=4))
    _, out = portico("readings", "--books", str(books_path), "--csv", "--newest", "--limit", "2")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["value"] for row in rows] == ["4.0", "4.1"]


def test_exponents_never_show(take: Take, books_path: Path, keys: Keys) -> None:
    import msgspec

    big = msgspec.structs.replace(group(points=1).points[0], exp=6)
    wide = msgspec.structs.replace(group(points=1), points=(big,))
    double = GatewayDouble(keys.stream(), groups=(wide,))
    take(double.hello(last=3))
    _, out = portico("readings", "--books", str(books_path), "--json")
    assert json.loads(out)["value"] == "30000000"


def test_readings_as_a_table(take: Take, double: GatewayDouble, books_path: Path) -> None:
    take(double.hello(last=4))
    code, out = portico("readings", "--books", str(books_path))
    assert code == 0
    assert "gw-0001/meter" in out
    assert "59.995 s" in out


def test_completeness_tells_by_its_exit_code(take: Take, double: GatewayDouble, books_path: Path) -> None:
    take(double.hello(last=5))
    code, out = portico("completeness", "--books", str(books_path), "--json")
    assert (code, json.loads(out)["holds"]) == (0, True)
    take(double.sealed(6, 6, [double.row(6, T0 + 9 * EVERY_MS)]))
    code, out = portico("completeness", "--books", str(books_path), "--json")
    assert (code, json.loads(out)["groups"][0]["unreported"]) == (1, 6)
    code, out = portico("completeness", "--books", str(books_path))
    assert code == 1
    assert "not complete" in out


def test_completeness_says_up_to_when_and_what_is_open(take: Take, keys: Keys, books_path: Path) -> None:
    double = GatewayDouble(keys.stream(), groups=(group(), group(2, "second")))
    rows = [double.row(seq, T0 + seq * EVERY_MS, number=2) for seq in range(6, 60)]
    take(double.hello(last=5), double.sealed(6, 59, rows))
    code, out = portico("completeness", "--books", str(books_path))
    assert code == 0
    said = " ".join(out.split())
    assert f"open since {instant(T0 + 3 * EVERY_MS)}: gw-0001 meter/1000/p0 has no row and no gap yet" in said
    assert said.endswith(f"complete up to {instant(T0 + 2 * EVERY_MS)}")
    _, out = portico("completeness", "--books", str(books_path), "--json")
    assert json.loads(out)["complete_up_to"] == T0 + 2 * EVERY_MS
    assert json.loads(out)["groups"][0]["open_since"] == T0 + 3 * EVERY_MS


def test_completeness_says_why_gaps_name_more_ticks_than_lie_in_them(
    take: Take, double: GatewayDouble, books_path: Path
) -> None:
    lost = Gap(6, 1, T0, T0 + 4 * EVERY_MS, 5, "store-lost")
    take(double.hello(last=5), double.sealed(6, 6, [], [lost]))
    _, out = portico("completeness", "--books", str(books_path))
    assert "name 3 ticks more (store-lost 5 in all)" in " ".join(out.split())


def test_verify_gateways_and_alarms(
    books: Books, take: Take, double: GatewayDouble, books_path: Path
) -> None:
    take(double.hello(last=5), double.sealed(5, 5, [double.row(5, T0, [1, 1, 1])]))
    where = ("--books", str(books_path))
    assert portico("verify", *where)[0] == 0
    gateway = json.loads(portico("gateways", *where, "--json")[1])
    assert (gateway["gateway"], gateway["readings"], gateway["epochs"]) == ("gw-0001", 9, 1)
    assert "conflicting-content" in portico("alarms", *where)[1]
    books.connection.execute("UPDATE coverage SET ranges = '[[1,2]]'")
    assert portico("verify", *where)[0] == 1


def test_usage_point_is_added_and_listed(take: Take, double: GatewayDouble, config: str) -> None:
    take(double.hello())
    code, _ = portico(
        "usage-point", "add", "up-17", "--gateway", "gw-0001", "--device", "meter",
        "--from", "2026-09-21T00:00Z", "-c", config,
    )  # fmt: skip
    assert code == 0
    listed = json.loads(portico("usage-point", "list", "-c", config, "--json")[1])
    assert (listed["usage_point"], listed["from"], listed["source"]) == (
        "up-17", "2026-09-21T00:00:00Z", "person",
    )  # fmt: skip
    first = json.loads(
        portico("readings", "-c", config, "--json", "--usage-point", "up-17")[1].splitlines()[0]
    )
    assert first["usage_point"] == "up-17"


def test_correction_of_the_owner_counts_for_its_time_and_keeps_what_was_told(
    take: Take, double: GatewayDouble, config: str
) -> None:
    take(double.hello(last=5))
    code, _ = portico(
        "ownership", "add", "--gateway", "gw-0001", "--device", "meter", "--owners", "dso.example, ann",
        "--from", instant(T0 + 1000), "--to", instant(T0 + 2000), "-c", config,
    )  # fmt: skip
    assert code == 0
    lines = portico("readings", "-c", config, "--json", "--point", "p0")[1].splitlines()
    assert [json.loads(line)["owners"] for line in lines] == [[ENTITY], [ENTITY, "ann"], [ENTITY]]
    assert len(portico("readings", "-c", config, "--json", "--entity", "ann")[1].splitlines()) == 3
    told = [json.loads(line) for line in portico("ownership", "list", "-c", config)[1].splitlines()]
    assert [one["source"] for one in told] == ["person", "manifest"]


def test_judgement_is_appended_and_counts(take: Take, double: GatewayDouble, config: str) -> None:
    take(double.hello(last=4))
    code, _ = portico(
        "quality", "add", "--gateway", "gw-0001", "--device", "meter", "--from", instant(T0),
        "--to", instant(T0 + 1000), "--as", "validator", "--reason", "out-of-range", "--rule", "VEE-1",
        "-c", config,
    )  # fmt: skip
    assert code == 0
    lines = portico("readings", "-c", config, "--json", "--point", "p0")[1].splitlines()
    assert [json.loads(line)["judged_by"] for line in lines] == ["validator", "device"]
    assert json.loads(portico("quality", "list", "-c", config)[1])["rule"] == "VEE-1"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("readings", "--books", "/nowhere/books.db"), "there are no books"),
        (("readings", "--from", "yesterday"), "no instant"),
        (("readings", "--from", "2026-11-22T10:00"), "no time zone"),
        (("readings", "-c", "/nowhere/headend.toml"), "cannot be read"),
        (("ask", "gw/1", "--epoch", "0" * 16, "--first", "1", "--last", "2"), "may hold letters"),
        (("ask", "gw-1", "--epoch", "xyz", "--first", "1", "--last", "2"), "16 hexadecimal"),
        (("ask", "gw-1", "--epoch", "0" * 16, "--first", "3", "--last", "2"), "ends before"),
        (("usage-point", "add", "up 1", "--gateway", "g", "--device", "d"), "may hold letters"),
    ],
)
def test_mistake_is_one_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        portico(*arguments)


@pytest.mark.parametrize(
    "command",
    [
        "run",
        "readings",
        "completeness",
        "verify",
        "gateways",
        "alarms",
        "ask",
        "usage-point add",
        "quality add",
        "ownership add",
    ],
)
def test_every_command_has_help_with_an_example(command: str) -> None:
    code, out = portico(*command.split(), "--help")
    assert code == 0
    assert f"Example: portico headend {command}" in " ".join(out.split())


def test_instants_are_read_in_three_ways() -> None:
    assert parse_instant("-2h", NOW, "--from") == NOW - 7_200_000
    assert parse_instant("-15min", NOW, "--from") == NOW - 900_000
    assert parse_instant("-30s", NOW, "--from") == NOW - 30_000
    assert parse_instant("-7d", NOW, "--from") == NOW - 604_800_000
    assert parse_instant("2026-09-21", NOW, "--from") == 1_789_948_800_000
    assert parse_instant("2026-09-21T02:00:00+02:00", NOW, "--from") == 1_789_948_800_000
    assert instant(1_789_948_800_250) == "2026-09-21T00:00:00.250Z"
    assert instant(2**53) == "9007199254740992 ms since 1970"


def test_completeness_of_empty_books_is_unknown_and_not_complete(books: Books, books_path: Path) -> None:
    code, out = portico("completeness", "--books", str(books_path), "--json")
    assert (code, json.loads(out)["holds"]) == (1, None)
    code, out = portico("completeness", "--books", str(books_path))
    assert (code, out.strip()) == (1, "the books hold nothing of this yet: nothing can be said")


@pytest.mark.parametrize("stranger", [("--gateway", "nobody"), ("--device", "nothing")])
def test_completeness_of_a_stranger_is_unknown(
    take: Take, double: GatewayDouble, books_path: Path, stranger: tuple[str, str]
) -> None:
    take(double.hello(last=4))
    code, out = portico("completeness", "--books", str(books_path), "--json", *stranger)
    assert (code, json.loads(out)["holds"]) == (1, None)


def test_a_second_collector_of_one_name_is_refused(tmp_path: Path) -> None:
    books = tmp_path / "books.db"
    held = _alone(books, "a")
    other = _alone(books, "b")
    with pytest.raises(ConfigError, match="another --name"):
        _alone(books, "a")
    os.close(held)
    os.close(_alone(books, "a"))
    os.close(other)


@pytest.mark.parametrize("folder", ["/proc/nothing", "file", "file/below"])
def test_books_in_a_folder_that_cannot_be_are_refused_in_one_sentence(
    config: str, books_path: Path, folder: str
) -> None:
    """Root may write everywhere but there, so that it is tried with what nobody can make."""
    (Path(config).parent / "file").write_text("")
    Path(config).write_text(Path(config).read_text().replace(str(books_path), f"{folder}/books.db"))
    with pytest.raises(ConfigError, match=rf"the folder .*{folder} of the books cannot be used \(.*: name a"):
        portico("run", "-c", config)


def test_ticks_are_not_told_yet_while_sequences_are_missing_and_unreported_after(
    take: Take, double: GatewayDouble, books_path: Path
) -> None:
    take(double.hello(last=5), double.sealed(9, 9, [double.row(9, T0 + 9 * EVERY_MS)]))
    code, out = portico("completeness", "--books", str(books_path))
    assert (code, "6 ticks of gw-0001" in out, "unreported:" in out) == (1, True, False)
    assert "not told yet: sequences have not arrived" in out
    take(double.sealed(6, 8, [double.row(n, T0 + n * EVERY_MS) for n in (6, 7, 8)]))
    code, out = portico("completeness", "--books", str(books_path))
    assert (code, "not told yet" in out, "unreported: gw-0001" in out) == (1, False, True)


def test_completeness_names_alarms_by_which_rows_may_be_of_two_boxes(
    books: Books, take: Take, double: GatewayDouble, books_path: Path
) -> None:
    take(double.hello(last=5))
    assert "alarm" not in portico("completeness", "--books", str(books_path))[1]
    with books.transaction(NOW):
        books.alarm("two-gateways-one-id", "gw-0001", "two boxes")
        books.alarm("garbage", "", "of no consequence")
    code, out = portico("completeness", "--books", str(books_path))
    assert (code, "alarm two-gateways-one-id of gw-0001 stands" in out, "garbage" in out) == (0, True, False)
    found = json.loads(portico("completeness", "--books", str(books_path), "--json")[1])
    assert found["alarms"] == [{"gateway": "gw-0001", "code": "two-gateways-one-id"}]
    assert "stands" not in portico("completeness", "--books", str(books_path), "--gateway", "gw-2")[1]


@pytest.mark.parametrize(("age_ms", "waits"), [(20_000, True), (3_600_000, False)])
def test_what_a_gateway_sends_again_soon_after_the_first_contact_is_still_waited_for(
    take: Take, double: GatewayDouble, books_path: Path, age_ms: int, waits: bool
) -> None:
    then_ms = time.time_ns() // 1_000_000 - age_ms
    take(double.hello(last=5), double.more(9, 12), now_ms=then_ms)
    code, out = portico("completeness", "--books", str(books_path))
    said = "still waiting for 3 of 12 data sequences of gw-0001" in out
    assert (code, said, "not arrived: 3 of 12" in out) == (1, waits, not waits)
    (epoch,) = json.loads(portico("completeness", "--books", str(books_path), "--json")[1])["epochs"]
    assert (epoch["missing"], epoch["waiting"]) == (3, waits)
