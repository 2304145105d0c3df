"""What an operator sees: a line a step, the reasons with their codes, and nothing that came as markup."""

import io

import pytest
from rich.console import Console

from cli.command_view import PeopleView
from core.records import Outcome

NOW = 1_790_000_000_000


def step(
    seq: int, state: str, *why: str, text: str = "", value: str | None = None, **x: int | str
) -> Outcome:
    return Outcome(
        seq=seq, at=NOW + seq, command="c-1", state=state, reasons=list(why), text=text, point="LoadShed",
        value=value, x=dict(x),
    )  # fmt: skip


def shown(*steps: Outcome, terminal: bool = False) -> str:
    out = io.StringIO()
    view = PeopleView(Console(file=out, width=160, force_terminal=terminal, color_system=None))
    with view:
        view.sent("c-1", "gw-0001")
        for number, one in enumerate(steps):
            view.step("gw-0001", one)
            view.tick(NOW + number * 1000)
        view.say("ended as wanted")
    return out.getvalue()


LIFE = (
    step(1, "accepted", begin=NOW, end=NOW + 60_000, grant="shed"),
    step(2, "dispatched"),
    step(3, "confirmed", value="1"),
    step(4, "restoring", "ended"),
    step(5, "restored", value="0"),
)


def test_each_step_is_a_line_in_its_order() -> None:
    lines = shown(*LIFE).splitlines()
    words = (
        "sent",
        "accepted",
        "dispatched",
        "confirmed",
        "restoring",
        "ended:",
        "restored",
        "ended as wanted",
    )
    assert [word in line for word, line in zip(words, lines, strict=True)] == [True] * len(words)
    assert "under grant shed" in lines[1]
    assert "(LoadShed 1)" in lines[3]


def test_a_terminal_gets_a_bar_while_the_control_holds() -> None:
    assert "to its end" in shown(*LIFE[:3], terminal=True)
    assert "to its end" not in shown(*LIFE[:2], terminal=True)
    assert "to its end" not in shown(*LIFE)


def test_a_refusal_shows_each_code_with_its_sentence_and_the_numbers_of_two_standards() -> None:
    out = shown(step(1, "refused", "window", "strange"))
    assert "window: " in out
    assert "AddCause" in out
    assert "strange" in out


@pytest.mark.parametrize("text", ["[red]no[/]", "[/]", "[link=http://x]y[/link]"])
def test_what_came_from_outside_is_no_markup(text: str) -> None:
    assert text in shown(step(1, "failed", text=text))
