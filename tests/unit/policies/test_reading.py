"""Documents: all faults at once with their places, one canonical form, a schema that fits."""

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ConfigError
from policies.assignment import Assignment
from policies.command import Command
from policies.policy import Policy
from policies.reading import (
    LONGEST_FILE,
    canonical,
    parse_command,
    parse_document,
    read_document,
    read_rulebook,
)
from policies.roster import Roster
from policies.schema import schema
from tests.unit.policies.made import command
from tests.unit.policies.worlds import World, worlds

EXAMPLES = Path(__file__).parents[3] / "policies" / "examples"
SCHEMA = Path(__file__).parents[3] / "policies" / "policy.schema.json"
FILES = sorted(EXAMPLES.glob("*.toml"))


def faults_of(text: str) -> tuple[str, ...]:
    """Return the faults in a document."""
    with pytest.raises(ConfigError) as caught:
        parse_document(text.encode(), "p.toml")
    return caught.value.faults or (str(caught.value),)


HEAD = """
[policy]
id = "p"
version = 1
utility = "dso"
zone = "America/New_York"
issued = 2026-11-01T00:00:00Z
expires = 2027-01-01T00:00:00Z
[[entity]]
id = "dso"
kind = "utility"
application = [{ id = "room" }]
"""
GRANT = """
[[grant]]
id = "g"
from = "dso"
may = ["shed"]
to = { kinds = ["heater"] }
purpose = ["peak"]
valid = { until = 2027-06-01T00:00:00Z }
duration = { max = "2h" }
"""


def test_the_smallest_policy_is_read() -> None:
    found = parse_document((HEAD + GRANT).encode(), "p.toml")
    assert isinstance(found, Policy)
    assert found.grants[0].duration is not None
    assert found.grants[0].duration.max_s == 7200


@pytest.mark.parametrize(
    ("line", "written", "fault"),
    [
        ('may = ["shed"]', 'may = ["shedd"]', 'grant[1] "g" may[1]: must be "shed", "switch", "limit" or'),
        ('may = ["shed"]', "", 'grant[1] "g": write exactly one of may, shall and shall_not'),
        ('may = ["shed"]', 'may = ["shed"]\nshall_not = ["shed"]', "write exactly one of may"),
        ('may = ["shed"]', "may = []", 'grant[1] "g" may: must hold at least 1, holds 0'),
        ('may = ["shed"]', 'may = ["limit"]', "limits needs min and max, or values, for the verb limit"),
        ('may = ["shed"]', 'may = ["cancel"]', 'grant[1] "g" may[1]: must be "shed"'),
        ('from = "dso"', 'from = "esco7"', 'grant[1] "g" from: "esco7" is no [[entity]] of this policy'),
        ('from = "dso"', 'from = "*"', 'from = "*" is for shall_not alone'),
        ('from = "dso"', 'from = "a/b"', "may hold letters, digits"),
        ('from = "dso"', "", 'grant[1] "g" from: is missing'),
        ('from = "dso"', 'from = "dso"\nbye = 1', 'grant[1] "g" bye: no such key: did you mean "by"?'),
        (
            'from = "dso"',
            'from = "dso"\nby = { applications = ["hub"] }',
            'grant[1] "g" by applications: "hub" is no application of dso',
        ),
        ('to = { kinds = ["heater"] }', "to = {}", "to names nothing"),
        (
            'to = { kinds = ["heater"] }',
            'to = { kindz = ["heater"] }',
            'grant[1] "g" to kindz: no such key: did you mean "kinds"?',
        ),
        ('to = { kinds = ["heater"] }', "to = { kinds = [] }", 'grant[1] "g" to kinds: an empty list'),
        ('to = { kinds = ["heater"] }', 'to = { kinds = ["a", "a"] }', 'names "a" twice'),
        ('to = { kinds = ["heater"] }', "to = 7", 'grant[1] "g" to: must be a table, is 7'),
        ('purpose = ["peak"]', "", "purpose is missing"),
        ("valid = { until = 2027-06-01T00:00:00Z }", "", "valid has no until"),
        (
            "valid = { until = 2027-06-01T00:00:00Z }",
            "valid = { until = 2027-06-01T00:00:00 }",
            'grant[1] "g" valid until: needs an offset from UTC',
        ),
        (
            "valid = { until = 2027-06-01T00:00:00Z }",
            "valid = { until = 2027-06-01T00:00:00Z, from = 2027-06-01T00:00:00Z }",
            'grant[1] "g" valid: ends before it begins',
        ),
        (
            'duration = { max = "2h" }',
            "duration = { max = 7200 }",
            'must be text in quotes, for example "4h"',
        ),
        ('duration = { max = "2h" }', 'duration = { max = "2 h" }', '"2 h" is no duration: write "90s"'),
        ('duration = { max = "2h" }', 'duration = { max = "40d" }', 'must be at most "31d", is "40d"'),
        ('duration = { max = "2h" }', 'duration = { min = "3h", max = "2h" }', "min is above max"),
        ('duration = { max = "2h" }', "", "duration is missing"),
        (
            'version = 1\nutility = "dso"',
            'version = true\nutility = "dso"',
            "policy version: must be a whole",
        ),
        (
            'version = 1\nutility = "dso"',
            'version = 0\nutility = "dso"',
            "policy version: must be at least 1",
        ),
        ('utility = "dso"', 'utility = "dsa"', 'policy utility: "dsa" is no [[entity]]'),
        ('zone = "America/New_York"', 'zone = "America/New_Jork"', '"America/New_Jork" is no time zone'),
        ('zone = "America/New_York"', 'zone = "../../etc/passwd"', "is no time zone"),
    ],
)
def test_a_fault_is_told_with_its_place(line: str, written: str, fault: str) -> None:
    text = HEAD + GRANT
    assert line in text
    found = faults_of(text.replace(line, written))
    assert any(fault in one for one in found), found
    assert all(one.startswith("p.toml: ") for one in found)


MORE = {
    "limits = { min = 2, max = 1 }": "limits: min is above max",
    "limits = { max = 0.1234567 }": "at most six decimals",
    'limits = { max = "1e3" }': "is no number of ours",
    "limits = { max = nan }": "must be a number",
    "limits = { max = inf }": "must be a number",
    "limits = { step = 0 }": "step must be above 0",
    'windows = [{ start = "25:00" }]': 'windows[1] start: "25:00" is no time of day',
    'windows = [{ start = "06:00", end = "06:00" }]': "start and end leave nothing between",
    'windows = [{ days = ["mo", "holiday"] }]': '"holiday" needs a calendar',
    'windows = [{ calendar = "us" }]': 'windows[1] calendar: "us" is no [[calendar]]',
    'windows = [{ season = ["02-30", "03-01"] }]': '"02-30" is no day of a year',
    'windows = [{ season = ["02-20"] }]': "windows[1] season",
    'windows = [{ zone = "Mars/Olympus" }]': "windows[1] zone",
    "budget = { count_day = 0 }": "budget count_day: must be at least 1",
    "budget = { count_season = 5 }": "a budget of a season needs season",
    'budget = { season = ["01-01", "02-01"] }': "a budget of a season needs season",
    'budget = { total_day = "30s" }': 'must be at least "1min", is "30s"',
    "latching = true": "belong together",
    'latching_max = "1h"': "belong together",
    "priority = { level = 256 }": "priority level: must be at most 255",
    'emergency = { signatures = 1, max = "1h" }': "emergency signatures: must be at least 2",
    'emergency = { max = "1h", may_bypass = ["denied"] }': 'may_bypass[1]: must be "window"',
    'opt_out = "never"': 'opt_out: must be "any_time", "before_start" or "none"',
    "revision = 0": "revision: must be at least 1",
}


@pytest.mark.parametrize("line", sorted(MORE))
def test_a_fault_in_a_further_key_is_told(line: str) -> None:
    assert any(MORE[line] in one for one in faults_of(HEAD + GRANT + line)), faults_of(HEAD + GRANT + line)


def test_a_row_with_shall_not_has_no_keys_of_a_permission() -> None:
    text = HEAD + '[[grant]]\nid = "n"\nfrom = "*"\nshall_not = ["shed"]\nto = {}\n'
    parse_document(text.encode(), "p.toml")
    found = faults_of(text + 'duration = { max = "1h" }\nopt_out = "none"\nlimits = { step = 1 }\n')
    assert all(key in found[0] for key in ("duration", "opt_out", "limits step"))


def test_all_faults_of_a_file_are_told_at_once() -> None:
    text = HEAD.replace("version = 1", "version = 0") + GRANT.replace('id = "g"', 'id = "g"\nby = 1')
    text += GRANT.replace('"shed"', '"shred"').replace('id = "g"', 'id = "h"')
    found = faults_of(text)
    assert len(found) == 3
    assert {one.split(": ")[1].split('"')[0].strip() for one in found} == {
        "policy version",
        "grant[1]",
        "grant[2]",
    }


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "and has none of them"),
        ("[policy]\n[roster]\n", "it has policy and roster"),
        ("[policy", "is not valid TOML"),
        ('{"policy": {}, "policy": {}}', '"policy" stands twice in one object'),
        ('{"policy": NaN}', "NaN is no number"),
        ("{" + '"a":[' * 100_000, "is not valid JSON"),
        ("[1]", "and has none of them"),
    ],
)
def test_what_is_no_document_is_refused(text: str, fault: str) -> None:
    assert any(fault in one for one in faults_of(text))


def test_bytes_that_are_no_text_and_too_many_bytes_are_refused() -> None:
    for raw, fault in ((b"[policy]\nid = \xff", "line 2"), (b" " * (LONGEST_FILE + 1), "more than")):
        with pytest.raises(ConfigError, match=fault):
            parse_document(raw, "p.toml")


def test_the_examples_are_read_and_fit_together() -> None:
    book = read_rulebook(FILES)
    assert len(book.permits) == 3
    assert {type(read_document(path)) for path in FILES} == {Policy, Roster, Assignment}


def test_what_documents_say_against_each_other_is_told(tmp_path: Path) -> None:
    def changed(name: str, old: str, new: str) -> list[Path]:
        text = (EXAMPLES / name).read_text("utf-8")
        assert old in text
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        (folder / name).write_text(text.replace(old, new), "utf-8")
        return [folder / name if path.name == name else path for path in FILES]

    cases = [
        (changed("roster-esco1.toml", '"dr-hub"', '"pager"'), '"pager" is no application of esco1'),
        (changed("roster-esco1.toml", 'entity = "esco1"', 'entity = "aggr1"'), '"aggr1" has its roster in'),
        (changed("roster-aggr1.toml", 'entity = "aggr1"', 'entity = "aggr9"'), '"aggr9" is no [[entity]]'),
        (
            changed("assignment-gw-0001.toml", '"aggr1-ev"', '"aggr1-eV"'),
            '"aggr1-eV" is no [[grant]] of the policy: did you mean "aggr1-ev"?',
        ),
        (FILES[:1], "exactly one file with [policy] is needed, there are 0"),
        ([*FILES, FILES[0]], "at most one file with [assignment]"),
    ]
    for files, fault in cases:
        with pytest.raises(ConfigError) as caught:
            read_rulebook(files)
        assert any(fault in one for one in caught.value.faults), caught.value.faults


@pytest.mark.parametrize(
    ("name", "old", "new", "fault"),
    [
        ("roster-esco1.toml", 'individual = "op-18"', 'individual = "op-19"', '"op-19" is no [[individual]]'),
        (
            "roster-esco1.toml",
            'id = "op-18"',
            'id = "op-17"',
            'individual[2]: "op-17" is individual[1] already',
        ),
        (
            "roster-esco1.toml",
            "expires = 2027",
            "expires = 2025",
            "roster expires: ends before it was issued",
        ),
        (
            "assignment-gw-0001.toml",
            'ownership = [{ owners = ["customer-17"] }]',
            'ownership = [{ owners = ["customer-17"] }, { owners = ["esco1"] }]',
            'device[2] "ev-01" ownership[2]: is valid at the same time',
        ),
        (
            "assignment-gw-0001.toml",
            'evidence = "signed enrolment form 2026-117"',
            "",
            "consent[1] evidence: is missing",
        ),
        ("policy.toml", "holidays = [2026-11-26", "holidays = [2028-11-26", "lies outside of 2026-01-01"),
        ("policy.toml", 'id = "aggr1-ev"', 'id = "dso-emergency"', '"dso-emergency" is grant[2] already'),
        ("policy.toml", 'point = "ALimit"', 'point = "ALimit"\ndefault = 17', "limits[2] default: "),
    ],
)
def test_a_fault_of_an_example_made_worse_is_told(name: str, old: str, new: str, fault: str) -> None:
    text = (EXAMPLES / name).read_text("utf-8")
    assert old in text
    if name == "policy.toml" and "ALimit" in old:
        text = text.replace("default = 16\n", "")
        fault = "default 17 lies outside of 6 to 16"
    found = faults_of(text.replace(old, new, 1))
    assert any(fault in one for one in found), found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_canonical_form_of_an_example_reads_back_to_the_same_bytes(path: Path) -> None:
    document = read_document(path)
    again = parse_document(canonical(document), "c.json")
    assert again == document
    assert canonical(again) == canonical(document)
    assert json.loads(canonical(document)) == json.loads(json.dumps(json.loads(canonical(document))))


@given(worlds())
@settings(max_examples=100)
def test_every_document_and_command_reads_back_to_itself(world: World) -> None:
    for document in (world.policy, *world.rosters, world.assignment):
        if document is not None:
            assert parse_document(canonical(document), "c") == document
    assert parse_command(canonical(world.command)) == world.command


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@settings(max_examples=200)
def test_any_bytes_are_a_document_or_a_clear_error(raw: bytes) -> None:
    for parse in (parse_document, parse_command):
        with contextlib.suppress(ConfigError):
            parse(raw, "x")


def test_the_order_of_keys_and_the_form_of_numbers_change_no_byte() -> None:
    toml = GRANT + "limits = { min = 0, max = 16.50 }\n"
    other = GRANT + 'limits = { max = "16.5", min = "0.0" }\n'
    one, two = (canonical(parse_document((HEAD + text).encode(), "p")) for text in (toml, other))
    assert one == two
    assert b'"max":"16.5"' in one


def test_a_command_without_what_it_must_have_is_a_fault() -> None:
    plain = json.loads(canonical(command()))
    for key in ("id", "issuer", "gateway", "device", "point", "verb", "issued", "expires"):
        with pytest.raises(ConfigError) as caught:
            parse_command(json.dumps({name: one for name, one in plain.items() if name != key}).encode())
        assert caught.value.faults == (f"command: {key}: is missing",)
    for key in ("entity", "application", "individual"):
        lacking = {name: one for name, one in plain["issuer"].items() if name != key}
        with pytest.raises(ConfigError) as caught:
            parse_command(json.dumps(plain | {"issuer": lacking}).encode())
        assert caught.value.faults == (f"command: issuer {key}: is missing",)


def test_the_published_schema_is_that_of_the_nouns() -> None:
    assert SCHEMA.read_text("utf-8") == schema(), (
        "run python -m policies.schema > policies/policy.schema.json"
    )


def test_the_schema_names_every_key_that_the_canonical_form_has() -> None:
    definitions = json.loads(schema())["$defs"]

    def named(definition: dict[str, object], value: object) -> None:
        if "$ref" in definition:
            named(definitions[str(definition["$ref"]).rsplit("/", 1)[1]], value)
        elif isinstance(value, dict):
            options = definition.get("anyOf", [definition])
            assert isinstance(options, list)
            with_keys = next(one for one in options if one.get("type") != "null")
            if "$ref" in with_keys:
                with_keys = definitions[str(with_keys["$ref"]).rsplit("/", 1)[1]]
            assert set(value) <= set(with_keys["properties"])
            for key, inner in value.items():
                named(with_keys["properties"][key], inner)
        elif isinstance(value, list):
            for inner in value:
                items = definition.get("items", {})
                assert isinstance(items, dict)
                named(items, inner)

    for path in FILES:
        document = read_document(path)
        named(definitions[type(document).__name__], json.loads(canonical(document)))
    assert Command.__name__ in definitions
