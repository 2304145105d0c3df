"""`portico certs`: what is written, kept, refused, and printed for a program."""

import json
from pathlib import Path

import pytest

from certs.signing import SigningKey
from cli.main import main

ARGUMENTS = ["--gateway", "gw-0001", "--entity", "dso.example", "--broker", "127.0.0.1"]


@pytest.fixture(autouse=True)
def no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PORTICO_SETTING", raising=False)


def portico(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["certs", *arguments])
    return int(caught.value.code or 0)


def test_dev_writes_what_a_small_site_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert portico("dev", str(tmp_path / "new"), *ARGUMENTS) == 0
    stems = ["broker", "ca", "dso.example", "dso.example.sign", "gw-0001", "gw-0001.sign"]
    expected = {".gitignore", *(f"{stem}{suffix}" for stem in stems for suffix in (".pem", ".key"))}
    assert {path.name for path in (tmp_path / "new").iterdir()} == expected
    assert "gw-0001.sign.pem" in capsys.readouterr().out


def test_dev_tells_a_program_what_was_written_and_what_was_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def written() -> dict[str, bool]:
        issued = json.loads(capsys.readouterr().out.splitlines()[-1])["issued"]
        return {Path(one["cert"]).name: one["written"] for one in issued}

    assert portico("dev", str(tmp_path), *ARGUMENTS, "--json") == 0
    assert set(written().values()) == {True}
    assert portico("dev", str(tmp_path), *ARGUMENTS, "--gateway", "gw-0002", "--json") == 0
    again = written()
    assert {name for name, new in again.items() if new} == {"gw-0002.pem", "gw-0002.sign.pem"}
    assert portico("dev", str(tmp_path), *ARGUMENTS, "--json", "--force") == 0
    assert set(written().values()) == {True}


def test_broker_writes_what_mosquitto_needs_and_says_how_to_start_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    certs, directory = tmp_path / "certs", tmp_path / "a broker"
    named = ["--certs", str(certs), "--gateway", "gw-0001", "--entity", "dso.example", "--port", "18883"]
    assert portico("dev", str(certs), *ARGUMENTS) == 0
    assert portico("broker", str(directory), *named) == 0
    said = capsys.readouterr().out
    assert said.endswith(f"mosquitto -c '{directory}/mosquitto.conf'\n")
    config = (directory / "mosquitto.conf").read_text()
    assert f"cafile {certs}/ca.pem\n" in config
    assert "listener 18883 127.0.0.1\n" in config
    rules = (directory / "acl").read_text()
    assert ("user gw-0001\n" in rules, "user dso.example\n" in rules, "%u" in rules) == (True, True, False)
    assert portico("broker", str(directory), "--certs", str(certs), "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["config"], told["start"][1:]) == (
        f"{directory}/mosquitto.conf",
        ["-c", f"{directory}/mosquitto.conf"],
    )
    assert "%u" in Path(told["acl"]).read_text()


def test_broker_without_a_certificate_says_which_command_makes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert portico("dev", str(tmp_path), "--gateway", "gw-0001") == 0
    assert portico("broker", str(tmp_path / "broker"), "--certs", str(tmp_path)) == 2
    said = capsys.readouterr().err
    assert f"{tmp_path}/broker.pem does not exist: write it with portico certs dev" in said
    assert not (tmp_path / "broker").exists()


@pytest.mark.parametrize("way", ["option", "environment"])
def test_production_refuses_dev_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], way: str
) -> None:
    if way == "environment":
        monkeypatch.setenv("PORTICO_SETTING", "production")
    extra = ["--setting", "production"] if way == "option" else []
    assert portico("dev", str(tmp_path / "new"), *ARGUMENTS, *extra) == 2
    assert not (tmp_path / "new").exists()
    assert "this setting is production" in capsys.readouterr().err


def test_setting_that_does_not_exist_is_wrong_use(tmp_path: Path) -> None:
    assert portico("dev", str(tmp_path / "new"), "--setting", "prod") == 2
    assert not (tmp_path / "new").exists()


def test_unusable_identity_is_wrong_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert portico("dev", str(tmp_path), "--gateway", "a/b") == 2
    assert "identity 'a/b'" in capsys.readouterr().err


def test_show_prints_role_validity_fingerprint_and_kid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    portico("dev", str(tmp_path), *ARGUMENTS)
    capsys.readouterr()
    names = ["ca", "broker", "gw-0001", "gw-0001.sign", "dso.example.sign"]
    assert portico("show", "--json", *(str(tmp_path / f"{name}.pem") for name in names)) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["certificates"]
    assert [one["role"] for one in found] == ["authority", "server", "client", "stream", "collector"]
    assert [one["subject"] for one in found[1:]] == ["broker", "gw-0001", "gw-0001", "dso.example"]
    assert found[1]["names"] == ["127.0.0.1"]
    assert all(one["development"] for one in found)
    assert {one["days_left"] for one in found[1:]} == {824}
    key = SigningKey.load(tmp_path / "gw-0001.sign.key", tmp_path / "gw-0001.sign.pem")
    assert found[3]["kid"] == key.kid.hex()
    assert len(found[3]["fingerprint"]) == 64

    assert portico("show", str(tmp_path / "gw-0001.sign.pem")) == 0
    table = capsys.readouterr().out
    for text in ("gw-0001", "stream", "824 days left", key.kid.hex(), found[3]["fingerprint"][:40]):
        assert text in table


def test_show_of_a_key_is_wrong_use_and_prints_none_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    portico("dev", str(tmp_path), *ARGUMENTS)
    assert portico("show", str(tmp_path / "gw-0001.key")) == 2
    printed = capsys.readouterr()
    secret = (tmp_path / "gw-0001.key").read_text().splitlines()[1]
    assert "holds no readable PEM certificate" in printed.err
    assert secret not in printed.err + printed.out


@pytest.mark.parametrize("command", ["dev", "show"])
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert portico(command, "--help") == 0
    assert f"Example: portico certs {command} " in capsys.readouterr().out
