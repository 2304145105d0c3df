"""The demo's live view and summary in terminals of several sizes."""

import io
from dataclasses import fields
from decimal import Decimal

import pytest
from rich.console import Console

from cli.demo import commands, conclusion, console_for, summary
from cli.demo_evidence import ControlVerdict, Refusal
from cli.demo_story import COUNTED, MEANINGS, scenes
from cli.demo_view import SHOWN, Moment, Picture
from cli.judge import Verdict
from core.manifest import Group
from core.quality import Precedence
from headend.journal import GOOD, Quality
from headend.readings import Reading

STORY = (
    "  0.0 s  two owners, each with a collector and books of its own; every part is a process",
    "  1.1 s  the gateway holds the policy, signed by two of dso's three, by esco1 and by the customer: ...",
    "  4.1 s  the same, forged: counted and not answered: bad-signature",
    *(f"{scene.at_s:5.1f} s  {scene.words}" for scene in scenes(60.0)),
)
READINGS = tuple(
    Reading(
        "gw-0001", "e", 1, 0, device, "type", "", point, "", "kWh", Decimal("10408570.5"),
        GOOD if number % 2 else Quality("1.4.9", ("clock-unsure", "late-answer"), Precedence.GATEWAY),
        ("dso.example", "customer.example"), "dso.example", "dso.example", 1_800_000_000_000, 0, 110,
        Group(1, device, "type", 1000, (), ()),
    )
    for device, points in SHOWN.items()
    for number, point in enumerate(points)
)  # fmt: skip
MOMENT = Moment(
    READINGS,
    arrived=12_345,
    rate=123.0,
    confirmations=1_234,
    stored=1_234,
    waiting=1_234,
    parts=(
        ("broker", "pid 1234567", True),
        ("agent", "pid 1234567, life 2", True),
        ("collector dso", "pid 1234567", True),
        ("collector customer", "pid 1234567", True),
        ("collector esco1", "pid 1234567", True),
    ),
    command="dispatched",
)


def drawn(width: int, height: int, story: tuple[str, ...] = STORY) -> list[str]:
    """The live view as lines in a terminal of that size."""
    console = Console(width=width, height=height, file=io.StringIO(), force_terminal=True, no_color=True)
    lines = console.render_lines(Picture(MOMENT, story, 40.0, 60.0), console.options, pad=False)
    return ["".join(segment.text for segment in line) for line in lines]


@pytest.mark.parametrize("size", [(80, 24), (80, 50), (100, 24), (120, 30), (150, 45), (200, 60)])
def test_view_fits_the_terminal_and_ends_with_what_was_told_last(size: tuple[int, int]) -> None:
    for told in range(1, len(STORY) + 1):
        lines = drawn(*size, STORY[:told])
        assert len(lines) < size[1]
        assert max(map(len, lines)) <= size[0]
        assert " ".join(" ".join(lines).split()).endswith(" ".join(STORY[told - 1].split()))


@pytest.mark.parametrize("size", [(80, 24), (150, 45)])
def test_delay_value_and_headings_are_whole(size: tuple[int, int]) -> None:
    lines = drawn(*size)
    assert lines[1].split()[:6] == ["device", "point", "value", "unit", "owner", "quality"]
    assert lines[1].rstrip().endswith("delay")
    rows = [line for line in lines if "10408570.5" in line]
    assert len(rows) >= 10
    assert all("0.11 s" in row for row in rows)
    assert {device for device in SHOWN if any(line.startswith(device) for line in lines)} == set(SHOWN)


def test_large_terminal_shows_every_point_with_time_and_reasons() -> None:
    lines = drawn(150, 45)
    assert sum("10408570.5" in line for line in lines) == len(READINGS)
    assert "time" in lines[1].split()
    assert any("clock-unsure late-answer" in line for line in lines)


def test_summary_says_what_each_number_counts_and_fits_a_small_terminal() -> None:
    numbers = {one.name: 1234 for one in fields(Verdict) if one.name not in ("entities", "faults")}
    output = io.StringIO()
    Console(width=80, file=output).print(summary(Verdict(**numbers, entities=(), faults=())))
    rows = {words[0]: words for words in map(str.split, output.getvalue().splitlines()) if words}
    assert {key: rows[key][2] for key in MEANINGS} == {key: COUNTED.get(key, "readings") for key in MEANINGS}
    assert rows["gaps"][1:3] == ["1,234", "ticks"]
    assert len(output.getvalue().splitlines()) < 24 - 2


def test_where_the_command_stands_is_in_the_smallest_view() -> None:
    assert any("command dispatched" in line for line in drawn(80, 24))


def test_the_commands_are_shown_with_their_reasons_in_a_small_terminal() -> None:
    codes = dict.fromkeys(Refusal, ("some-code",))
    output = io.StringIO()
    console = Console(width=80, file=output)
    console.print(commands(ControlVerdict(True, False, True, {**codes, Refusal.FORGED: ()}, ())))
    rows = {words[0]: words[1:] for words in map(str.split, output.getvalue().splitlines()) if words}
    assert (rows["executed"][0], rows["read_back"][0], rows["restored"][0]) == ("yes", "NO", "yes")
    assert all(rows[one.value][0] == "some-code" for one in Refusal if one is not Refusal.FORGED)
    assert rows["forged"][:2] == ["NOT", "refused"]
    assert len(output.getvalue().splitlines()) == 2 + 3 + len(Refusal)


@pytest.mark.parametrize(
    ("unbalanced", "disobeyed", "said"),
    [
        ([], [], "The books balance, and every command ended as it must."),
        (["x"], [], "The books do NOT balance, but every command ended as it must."),
        ([], ["x"], "The books balance, but not every command ended as it must."),
        (["x"], ["x"], "The books do NOT balance, and not every command ended as it must."),
    ],
)
def test_the_last_line_says_what_holds(unbalanced: list[str], disobeyed: list[str], said: str) -> None:
    assert conclusion(unbalanced, disobeyed) == said


@pytest.mark.parametrize(("value", "coloured"), [("", True), ("1", False)])
def test_no_color_in_the_environment_is_heeded(
    monkeypatch: pytest.MonkeyPatch, value: str, coloured: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", value)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert console_for(no_color=False).no_color is not coloured
    assert console_for(no_color=True).no_color is True
