"""`portico policy` as somebody uses it who has never heard of TUF, from the first key on."""

import json
import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.policy import app
from core.errors import ConfigError
from policies.trust.agreement import OWNERS
from policies.trust.assignment import read_unverified
from policies.trust.bounds import CONSENT_KEYS_PATH
from policies.trust.repository import Repository

EXAMPLES = Path("policies/examples")
ENTITIES = {"dso.example": "roster-dso.toml", "esco1": "roster-esco1.toml", "aggr1": "roster-aggr1.toml"}


class Office:
    """Types commands for one folder."""

    def __init__(self, base: Path) -> None:
        self.base = base

    def type(self, command: str, *arguments: str | Path, env: dict[str, str] | None = None) -> Result:
        """Run a command; an error of the tree is raised."""
        result = CliRunner().invoke(app, [command, str(self.base), *map(str, arguments)], env=env)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result

    def json(self, command: str, *arguments: str | Path) -> dict[str, object]:
        """Run a command with --json and return what it says."""
        found: dict[str, object] = json.loads(self.type(command, *arguments, "--json").stdout)
        return found

    def key(self, name: str) -> Path:
        """Return a private key of the folder."""
        return self.base / "keys" / f"{name}.key"

    def sign(self, *names: str) -> dict[str, object]:
        """Sign with some keys."""
        return self.json("sign", *(part for name in names for part in ("--key", self.key(name))))


@pytest.fixture
def office(tmp_path: Path) -> Office:
    """A policy that was begun."""
    office = Office(tmp_path / "policy")
    office.type("init", "--utility", "dso.example", "--zone", "America/New_York")
    return office


@pytest.fixture
def full(office: Office) -> Office:
    """A policy with entities, rosters and grants in a draft that nobody signed."""
    for entity in ENTITIES:
        office.type("add-entity", entity)
    office.type("grant", EXAMPLES / "policy.toml", "--name", "example")
    for entity, file in ENTITIES.items():
        office.type("add-entity", entity, "--roster", EXAMPLES / file)
    return office


ALL = ("targets-1", "targets-3", "dso.example-1", "esco1-1", "aggr1-1")


def test_a_policy_that_was_begun_is_published_and_verifies(office: Office) -> None:
    found = office.json("verify")
    assert found["versions"] == {"root": 1, "timestamp": 1, "snapshot": 1, "targets": 1}
    assert found["expired"] == []
    assert (office.base / "root.json").read_bytes() == (office.base / "metadata/1.root.json").read_bytes()


def test_which_key_belongs_to_whom_is_told_in_plain_words(office: Office) -> None:
    text = (office.base / "README.txt").read_text()
    for key in (path.stem for path in (office.base / "keys").glob("*.key")):
        assert key.rpartition("-")[0] in text
    assert "this machine" in text
    assert "TUF" not in text


def test_private_keys_are_for_their_owner_alone(office: Office) -> None:
    assert {path.stat().st_mode & 0o777 for path in (office.base / "keys").glob("*.key")} == {0o600}


def test_a_change_counts_once_two_have_signed(full: Office) -> None:
    assert full.sign("targets-1")["signed"] == {"targets-1": ["targets"]}
    waiting = full.json("publish")
    assert waiting["policy"] == 1
    assert [one["role"] for one in _roles(waiting)] == ["targets", "aggr1", "dso.example", "esco1"]
    full.sign("targets-3")
    assert full.json("publish")["policy"] == 2


def test_who_is_missing_is_told_by_name(full: Office) -> None:
    found = full.sign("targets-2")
    targets = next(one for one in _roles(found) if one["role"] == "targets")
    assert (targets["signed"], targets["may_sign"], targets["missing"]) == (
        ["targets-2"],
        ["targets-1", "targets-3"],
        1,
    )
    assert "targets-1, targets-3" in str(found["next"])
    assert "adds esco1-water-heaters" in str(found["changes"])


def test_a_key_for_which_nothing_waits_signs_nothing(full: Office) -> None:
    assert full.sign("snapshot")["signed"] == {"snapshot": []}


def test_what_was_signed_in_a_copy_is_taken_over(full: Office, tmp_path: Path) -> None:
    copies = [tmp_path / name for name in ("one", "other")]
    for copy, key in zip(copies, ("targets-1", "esco1-1"), strict=True):
        shutil.copytree(full.base, copy, ignore=shutil.ignore_patterns("keys"))
        Office(copy).type("sign", "--key", full.key(key))
    assert full.json("sign", "--from", copies[0])["taken_over"] == ["targets"]
    assert full.json("sign", "--from", copies[1])["taken_over"] == ["esco1"]
    assert full.json("sign", "--from", copies[1])["taken_over"] == []
    full.sign("targets-2", "dso.example-1", "aggr1-1")
    assert full.json("publish")["promoted"] == ["targets", "aggr1", "dso.example", "esco1"]


def test_signatures_of_a_draft_that_was_changed_since_are_not_taken_over(
    full: Office, tmp_path: Path
) -> None:
    shutil.copytree(full.base, tmp_path / "copy")
    Office(tmp_path / "copy").type("sign", "--key", full.key("targets-1"))
    full.type("add-entity", "late")
    with pytest.raises(ConfigError, match="changed after the copy"):
        full.type("sign", "--from", tmp_path / "copy")


def test_a_grant_waits_for_its_entity(full: Office) -> None:
    full.sign("targets-1", "targets-2", "aggr1-1")
    full.json("publish")
    grants = {one["grant"]: one for one in _grants(full.json("verify"))}
    assert grants["esco1-water-heaters"]["waits_for"] == ["esco1"]
    assert grants["aggr1-ev"]["signed_by"] == ["aggr1", "dso.example"]
    assert grants["no-heat-shed-on-holidays"]["waits_for"] == []


def test_everything_together_is_in_force(full: Office) -> None:
    full.sign(*ALL)
    published = full.json("publish")
    assert published["promoted"] == ["targets", "aggr1", "dso.example", "esco1"]
    assert [one["waits_for"] for one in _grants(full.json("verify"))] == [[], [], [], []]
    assert full.json("status")["changes"] == ""
    assert full.json("assign", "gw-0001", EXAMPLES / "assignment-gw-0001.toml")["assignments"] == {
        "gw-0001": 1
    }
    assert full.json("assign", "gw-0001", "--again")["assignments"] == {"gw-0001": 2}
    assert full.json("publish")["assignments"] == ["gw-0001"]
    assert (full.base / "out/assign/gw-0001.json").exists()


def test_publishing_again_renews_the_timestamp_alone(office: Office) -> None:
    first = office.json("publish")
    bundle = (office.base / "out/bundle.zip").read_bytes()
    second = office.json("publish")
    assert (office.base / "out/bundle.zip").read_bytes() == bundle
    assert (first["snapshot"], second["snapshot"]) == (1, 1)
    assert second["timestamp"] == int(str(first["timestamp"])) + 1


def test_a_change_of_keys_is_signed_by_old_and_new(full: Office) -> None:
    full.sign(*ALL)
    full.type("publish")
    told = full.json("rotate", "root")
    assert "root-4" in str(told["did"])
    waiting = full.json("publish")
    assert waiting["promoted"] == []
    full.sign("root-1", "root-2")
    assert full.json("publish")["promoted"] == ["root"]
    assert json.loads((full.base / "root.json").read_bytes())["signed"]["version"] == 2
    full.type("rotate", "targets")
    full.sign("root-4", "root-5", "targets-4", "targets-5")
    assert full.json("publish")["promoted"] == ["root", "targets"]
    full.type("rotate", "timestamp")
    full.sign("root-4", "root-6")
    assert full.json("publish")["promoted"] == ["root"]
    assert dict(full.json("verify")["versions"])["root"] == 4  # type: ignore[call-overload]


def test_after_a_change_of_the_assignment_key_the_next_one_is_found(full: Office) -> None:
    full.sign(*ALL)
    full.type("publish")
    full.type("assign", "gw-0001", EXAMPLES / "assignment-gw-0001.toml")
    full.type("rotate", "assignment")
    full.sign("targets-1", "targets-2")
    full.type("publish")
    assert full.json("assign", "gw-0001", "--again")["assignments"] == {"gw-0001": 2}


def test_assignments_that_are_void_or_run_out_are_told_and_all_signed_anew(full: Office) -> None:
    full.sign(*ALL)
    full.type("publish")
    for gateway in ("gw-0001", "gw-0002"):
        text = (EXAMPLES / "assignment-gw-0001.toml").read_text().replace("gw-0001", gateway)
        file = full.base / "assignment.toml"
        file.write_text(re.sub(r"(?m)^expires.*$", "", text, count=1))
        full.type("assign", gateway, file)
    assert "void, or running out" not in str(full.json("publish")["next"])
    full.type("rotate", "assignment")
    full.sign("targets-1", "targets-2")
    assert "the assignments of gw-0001, gw-0002" in str(full.json("publish")["next"])
    assert full.json("assign", "--again")["assignments"] == {"gw-0001": 2, "gw-0002": 2}
    assert "void, or running out" not in str(full.json("publish")["next"])


def test_what_runs_out_is_renewed_and_signed(full: Office) -> None:
    full.sign(*ALL)
    full.type("publish")
    full.type("sign", "--renew", "esco1", "--key", full.key("esco1-1"))
    assert full.json("publish")["promoted"] == ["esco1"]
    with pytest.raises(ConfigError, match="nothing that is renewed by hand"):
        full.type("sign", "--renew", "snapshot")


def test_keys_are_made_elsewhere_and_only_their_public_halves_come(tmp_path: Path) -> None:
    safe = tmp_path / "safe"
    for name in ("root-a", "root-b", "targets-a", "targets-b"):
        CliRunner().invoke(app, ["keygen", name, "--folder", str(safe), "--algorithm", "p256"])
    office = Office(tmp_path / "policy")
    publics = [
        part
        for name in ("root-a", "root-b", "targets-a", "targets-b")
        for part in (f"--{name.partition('-')[0]}", safe / f"{name}.pub")
    ]
    office.type("init", "--utility", "dso.example", *publics)
    assert sorted(path.stem for path in (office.base / "keys").glob("*.key")) == [
        "assignment",
        "snapshot",
        "timestamp",
    ]
    with pytest.raises(ConfigError, match="nothing can be published before enough have signed"):
        office.type("publish")
    for name in ("root-a", "root-b", "targets-a", "targets-b"):
        office.type("sign", "--key", safe / f"{name}.key")
    assert office.json("publish")["policy"] == 1


def test_encrypted_keys_want_their_pass_phrase(tmp_path: Path) -> None:
    phrase, wrong = tmp_path / "phrase", tmp_path / "wrong"
    phrase.write_text("correct horse\n")
    wrong.write_text("battery\n")
    office = Office(tmp_path / "policy")
    office.type("init", "--utility", "dso.example", "--pass-phrase-file", phrase)
    assert b"ENCRYPTED" in office.key("root-1").read_bytes()
    with pytest.raises(ConfigError, match="is encrypted"):
        office.type("publish")
    with pytest.raises(ConfigError, match="pass phrase is another one"):
        office.type("publish", "--pass-phrase-file", wrong)
    office.type("publish", "--pass-phrase-file", phrase)
    office.type("publish", env={"PORTICO_PASS_PHRASE": "correct horse"})


def test_consent_of_an_owner_is_signed_by_its_portal(full: Office, tmp_path: Path) -> None:
    CliRunner().invoke(app, ["keygen", "portal", "--folder", str(tmp_path)])
    full.type("consent-key", tmp_path / "portal.pub", "--owner", "customer-*")
    full.sign(*ALL)
    full.type("publish")
    record = tmp_path / "consent.json"
    evidence = "signed enrolment form 2026-117"
    given = ("gw-0001", "customer-17", "--grant", "esco1-water-heaters", "--evidence", evidence)
    full.type("consent", *given, "--key", tmp_path / "portal.key", "-o", record)
    made = full.json("assign", "gw-0001", EXAMPLES / "assignment-gw-0001.toml", "--consent", record)
    assert made["assignments"] == {"gw-0001": 1}
    full.type("assign", "--again")
    again = read_unverified((full.base / "assign/gw-0001.json").read_bytes())
    assert (again.sequence, [json.loads(one) for one in again.consents]) == (
        2,
        [json.loads(record.read_bytes())],
    )
    listed = json.loads(Repository(full.base).document(CONSENT_KEYS_PATH) or b"")
    assert [one[OWNERS] for one in listed["keys"].values()] == [["customer-*"]]


@pytest.mark.parametrize(
    ("command", "arguments", "sentence"),
    [
        ("init", ("--utility", "dso.example"), "holds a policy already"),
        ("add-entity", ("root",), "is the name of a role"),
        ("add-entity", ("a/b",), "may hold letters"),
        ("grant", ("nowhere.toml",), "cannot be read"),
        ("assign", ("gw-0001",), "give GATEWAY and a FILE"),
        ("assign", (), "give GATEWAY and a FILE"),
        ("assign", ("gw-0001", "--again"), "has no assignment yet"),
        ("rotate", ("esco1",), "is no role of the root"),
        ("sign", ("--key", "nowhere.key"), "cannot be read"),
        ("publish", ("--segment", "a/b"), "may hold letters"),
        ("publish", ("--broker", "http://x"), "begins with mqtts://"),
        ("publish", ("--broker", "mqtts://x"), "needs ca, cert, key"),
    ],
)
def test_wrong_use_is_told_and_changes_nothing(
    office: Office, command: str, arguments: tuple[str, ...], sentence: str
) -> None:
    before = _content(office.base)
    with pytest.raises(ConfigError, match=sentence):
        office.type(command, *arguments)
    assert _content(office.base) == before


def test_a_faulty_part_is_told_with_its_places_and_changes_nothing(office: Office, tmp_path: Path) -> None:
    file = tmp_path / "rows.toml"
    file.write_text('[[grant]]\nid = "g"\nfrom = "nobody"\nmay = ["shed"]\n')
    before = _content(office.base)
    with pytest.raises(ConfigError) as caught:
        office.type("grant", file)
    assert "grant[1]" in " ".join(caught.value.faults)
    assert _content(office.base) == before


def test_a_roster_of_somebody_else_is_refused(full: Office) -> None:
    with pytest.raises(ConfigError, match="the roster is of esco1, not of aggr1"):
        full.type("add-entity", "aggr1", "--roster", EXAMPLES / "roster-esco1.toml")


def test_an_assignment_of_a_grant_that_is_not_there_is_refused(office: Office) -> None:
    with pytest.raises(ConfigError, match="does not fit the policy"):
        office.type("assign", "gw-0001", EXAMPLES / "assignment-gw-0001.toml")


def test_a_folder_that_is_no_policy_says_how_to_begin(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="portico policy init"):
        Office(tmp_path).type("status")


def test_a_bundle_is_verified_from_a_root_that_is_given(full: Office, tmp_path: Path) -> None:
    bundle, root = tmp_path / "bundle.zip", tmp_path / "elsewhere.json"
    shutil.copy(full.base / "out/bundle.zip", bundle)
    shutil.copy(full.base / "root.json", root)
    result = CliRunner().invoke(app, ["verify", str(bundle), "--root", str(root)])
    assert result.exit_code == 0
    assert "all in date" in result.output


def test_the_clock_of_the_publishing_machine_may_not_go_back(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("policies.trust_publish.now_ms", lambda: 1_700_000_000_000)
    with pytest.raises(ConfigError, match="clock is behind the last publication"):
        office.type("publish")


def _roles(found: dict[str, object]) -> list[dict[str, object]]:
    roles = found["roles"]
    assert isinstance(roles, list)
    return roles


def _grants(found: dict[str, object]) -> list[dict[str, object]]:
    grants = found["grants"]
    assert isinstance(grants, list)
    return grants


def _content(base: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(base.rglob("*")) if path.is_file()}
