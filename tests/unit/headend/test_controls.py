"""Where commands stand by their outcomes, and controls of whose end nobody knows."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent.control.life import ENDED as ENDED_AT_THE_GATEWAY
from agent.control.life import FOLLOWS, State
from cli.main import entry
from core.records import Outcome, Record
from core.topics import Lane
from headend.arrival import Stored
from headend.books import Books
from headend.controls import ENDED, MARGIN_MS, Open, Watch, after, past, sentence, silent
from headend.instants import instant
from tests.support.gateway_double import T0, GatewayDouble

NOW = T0 + 60_000
END = NOW + 600_000
LATE = END + MARGIN_MS
Take = Callable[..., list[Stored]]


def one(end_ms: int = END, gateway: str = "gw-0001", command: str = "c-1") -> Open:
    return Open(gateway, "esco1", command, "wh-01", "LoadShed", end_ms)


def outcome(
    seq: int, state: str, at: int = NOW, *reasons: str, command: str = "c-1", **x: int | str
) -> Outcome:
    return Outcome(
        seq=seq, at=at, command=command, entity="esco1", state=state, device="wh-01", point="LoadShed",
        reasons=list(reasons), x=dict(x),
    )  # fmt: skip


def told(double: GatewayDouble, *outcomes: Outcome) -> tuple[str, bytes]:
    first, last = outcomes[0].seq, outcomes[-1].seq
    records: list[Record] = list(outcomes)
    return double.sealed(first, last, None, records, lane=Lane.CONTROL, cert=True)


def alarms(books: Books) -> list[tuple[str, str, int | None]]:
    return books.connection.execute("SELECT gateway, text, cleared_ms FROM alarm").fetchall()


def look(books: Books, now_ms: int) -> None:
    with books.transaction(now_ms):
        Watch().look(books, 0.0)


def test_the_ended_states_are_those_of_the_gateway() -> None:
    assert {state.value for state in ENDED_AT_THE_GATEWAY} == ENDED


def test_every_step_that_a_gateway_may_take_is_followed() -> None:
    for before, next_ in FOLLOWS.items():
        for state in next_:
            assert after(before.value, state.value, ()) == state.value


def test_what_has_ended_does_not_begin_again() -> None:
    for state in ENDED - {"refused"}:
        assert after(state, State.DISPATCHED.value, ()) is None


def test_a_refusal_of_one_message_ends_no_control_that_runs() -> None:
    assert after("confirmed", "refused", ["id-reused"]) is None
    assert after("accepted", "refused", ["retained"]) is None
    assert after(None, "refused", ["retained"]) == "refused"
    assert after("accepted", "refused", ["window"]) == "refused"
    assert after("refused", "accepted", ()) == "accepted"


@pytest.mark.parametrize(
    ("now_ms", "heard_ms", "found"),
    [
        (LATE - 1, 0, False),
        (LATE, LATE - MARGIN_MS, True),
        (LATE, LATE - MARGIN_MS + 1, False),
        (LATE + 10 * MARGIN_MS, END, True),
    ],
)
def test_a_control_is_unknown_when_its_end_and_the_gateway_s_last_word_are_both_past_the_margin(
    now_ms: int, heard_ms: int, found: bool
) -> None:
    assert bool(silent([one()], {"gw-0001": heard_ms}, now_ms)) is found


def test_a_gateway_that_was_never_heard_is_silent() -> None:
    assert silent([one()], {}, LATE) == [one()]
    assert past([one(END + 1)], LATE) == []


def test_the_sentence_names_the_longest_past_first_and_counts_the_rest() -> None:
    text = sentence([one(END + number, command=f"c-{number}") for number in reversed(range(7))])
    assert text.index("c-0") < text.index("c-4")
    assert "c-5" not in text
    assert text.endswith("and 2 more")


def test_an_alarm_stands_from_silence_past_the_end_until_the_end_is_heard(
    books: Books, take: Take, double: GatewayDouble
) -> None:
    take(told(double, outcome(1, "accepted", begin=NOW, end=END, grant="shed"), outcome(2, "dispatched")))
    take(told(double, outcome(3, "confirmed")))
    look(books, LATE - 1)
    assert alarms(books) == []
    look(books, LATE)
    [(gateway, text, cleared)] = alarms(books)
    assert (gateway, cleared) == ("gw-0001", None)
    assert f"wh-01 LoadShed (command c-1 of esco1, end {instant(END)})" in text
    look(books, LATE + 1)
    assert len(alarms(books)) == 1
    assert books.connection.execute("SELECT count FROM alarm").fetchone() == (1,)
    # Talking alone is not the end.
    take(double.hello(), now_ms=LATE + 2)
    look(books, LATE + 3)
    assert alarms(books)[0][2] is None
    take(told(double, outcome(4, "restoring"), outcome(5, "restored")), now_ms=LATE + 4)
    look(books, LATE + 5)
    assert alarms(books)[0][2] == LATE + 5


def test_a_control_whose_end_was_told_raises_nothing(books: Books, take: Take, double: GatewayDouble) -> None:
    take(told(double, outcome(1, "accepted", begin=NOW, end=END), outcome(2, "cancelled")))
    look(books, LATE + 1)
    assert alarms(books) == []


def test_alarms_that_were_cleared_are_not_listed(
    books: Books, take: Take, double: GatewayDouble, books_path: Path
) -> None:
    def listed() -> str:
        return (
            CliRunner().invoke(entry(["headend"]), ["headend", "alarms", "--books", str(books_path)]).stdout
        )

    take(told(double, outcome(1, "accepted", begin=NOW, end=END)))
    look(books, LATE)
    assert "control-unknown-end" in listed()
    take(told(double, outcome(2, "restored")), now_ms=LATE)
    look(books, LATE)
    assert "control-unknown-end" not in listed()


def test_outcomes_are_listed_in_their_order_with_reasons_and_end(
    books: Books, take: Take, double: GatewayDouble, books_path: Path
) -> None:
    take(
        told(
            double,
            outcome(1, "accepted", NOW, begin=NOW, end=END, grant="shed"),
            outcome(2, "refused", NOW + 1, "window", "budget", command="c-2"),
        )
    )
    where = ["headend", "outcomes", "--books", str(books_path)]
    out = CliRunner().invoke(entry(where), [*where, "--json"]).stdout
    first, second = map(json.loads, out.splitlines())
    assert (first["state"], first["entity"], first["end"], first["grant"]) == (
        "accepted", "esco1", instant(END), "shed",
    )  # fmt: skip
    assert (second["reasons"], second["end"]) == (["window", "budget"], None)
    assert CliRunner().invoke(entry(where), [*where, "--command", "c-9"]).stderr.startswith("no outcomes")
    table = CliRunner().invoke(entry(where), [*where, "--command", "c-2"]).stdout
    assert "window budget" in table
    assert "c-1" not in table


def test_books_of_version_2_are_taken_over(tmp_path: Path) -> None:
    import sqlite3

    from headend.schema import AUDIT_TABLES, _create, _run, open_writer

    path = tmp_path / "old.db"
    old = sqlite3.connect(path, isolation_level=None)
    old.execute("BEGIN")
    _create(old, NOW)
    _run(old, AUDIT_TABLES)
    old.execute("PRAGMA user_version=2")
    old.execute("COMMIT")
    old.close()
    new = open_writer(path, NOW)
    assert new.execute("SELECT count(*) FROM outcome").fetchone() == (0,)
    assert new.execute("SELECT count(*) FROM alarm WHERE cleared_ms IS NULL").fetchone() == (0,)
    new.close()


def test_a_control_that_was_left_to_its_device_is_not_over_until_its_end_is_heard(
    books: Books, take: Take, double: GatewayDouble
) -> None:
    take(
        told(double, outcome(1, "accepted", begin=NOW, end=END), outcome(2, "confirmed"), outcome(3, "left"))
    )
    look(books, LATE)
    assert [cleared for _, _, cleared in alarms(books)] == [None]
    take(told(double, outcome(4, "restoring"), outcome(5, "restored")), now_ms=LATE + 1)
    look(books, LATE + 2)
    assert [cleared for _, _, cleared in alarms(books)] == [LATE + 2]
