"""`portico command`: what it asks for, what it takes from its file, and what it says of a wrong use."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)
from typer.testing import CliRunner, Result

from certs.pem import key_pem, write_atomically
from cli.command_operator import Given, load_operator, signing_key
from cli.main import entry
from core.errors import ConfigError
from policies.reading import canonical, parse_command
from simulator.broker import free_port

SEND = ("send", "--gateway", "gw-0001", "--device", "wh-01", "--point", "LoadShed", "--verb", "shed")
FULL = (*SEND, "--value", "1", "--for", "30min", "--purpose", "peak", "--as", "esco1/dr-hub/op-17")


def portico(*arguments: str) -> Result:
    command = ["command", *arguments]
    return CliRunner().invoke(entry(command), command)


def written(path: Path, key: PrivateKeyTypes) -> Path:
    write_atomically(path, key_pem(key), 0o600)
    return path


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PORTICO_OPERATOR", raising=False)
    return tmp_path


def test_a_dry_run_prints_the_bytes_that_would_be_signed_and_needs_no_key() -> None:
    result = portico(*FULL, "--at", "2030-01-01T17:00:00Z", "--dry-run", "--json")
    assert result.exit_code == 0
    raw = result.stdout.strip().encode()
    command = parse_command(raw)
    assert canonical(command) == raw
    assert (command.issuer.individual, command.duration_s, command.purpose) == ("op-17", 1800, "peak")


def test_a_dry_run_for_people_names_the_topic() -> None:
    out = portico(*FULL, "--dry-run").stdout
    assert "portico/v1/gw-0001/cmd/esco1/wh-01" in out
    assert "dr-hub" in out


def test_the_operator_file_says_what_options_do_not(here: Path) -> None:
    (here / "operator.toml").write_text(
        '[operator]\nentity = "esco9"\napplication = "hub"\nindividual = "op-1"\nkey = "own.key"\n'
        '[broker]\nurl = "mqtt://127.0.0.1:1"\n[gateways]\ntrust = ["ca.pem"]\nbooks = "b.db"\n'
    )
    out = portico(*FULL[:-2], "--dry-run", "--json").stdout
    assert json.loads(out)["issuer"] == {"entity": "esco9", "application": "hub", "individual": "op-1"}
    out = portico(*FULL, "--dry-run", "--json").stdout
    assert json.loads(out)["issuer"]["entity"] == "esco1"
    operator = load_operator(Given())
    assert (operator.trust, operator.books) == ((here / "ca.pem",), here / "b.db")
    assert (operator.broker.url, operator.entity) == ("mqtt://127.0.0.1:1", "esco9")


def test_the_key_s_id_is_the_one_named_else_the_file_s_name(here: Path) -> None:
    own = written(here / "own.key", ed25519.Ed25519PrivateKey.generate())
    other = written(here / "other.key", ec.generate_private_key(ec.SECP256R1()))
    (here / "operator.toml").write_text('[operator]\nkey = "own.key"\nkey_id = "k7"\n')
    assert load_operator(Given()).key()[0] == "k7"
    assert load_operator(Given(key=own)).key()[0] == "own"
    assert load_operator(Given(key=other, key_id="k8")).key()[0] == "k8"


def test_a_key_of_another_kind_and_a_wrong_pass_phrase_are_refused(here: Path) -> None:
    path = written(here / "rsa.key", rsa.generate_private_key(65537, 2048))
    with pytest.raises(ConfigError, match="neither Ed25519 nor P-256"):
        signing_key(path)
    key = ed25519.Ed25519PrivateKey.generate()
    guarded = here / "guarded.key"
    raw = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"right"))
    write_atomically(guarded, raw, 0o600)
    assert isinstance(signing_key(guarded, b"right"), ed25519.Ed25519PrivateKey)
    with pytest.raises(ConfigError, match="pass phrase"):
        signing_key(guarded, b"wrong")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*SEND, *FULL[-2:]), "--value"),
        ((*SEND, *FULL[-2:], "--value", "1"), "--for"),
        ((*FULL[:-2], "--as", "esco1"), "entity/application/individual"),
        ((*FULL[:-2],), "entity/application/individual"),
        (FULL, "no key to sign with"),
        ((*FULL[:-6], "--verb", "cancel"), "portico command cancel"),
        ((*FULL, "--cosign", "op-18"), "INDIVIDUAL=KEY"),
        ((*FULL, "--config", "missing.toml"), "missing.toml"),
        (("watch", "c-1", "--gateway", "gw-0001"), "which entity"),
        (("watch", "c-1", "--gateway", "gw-0001", "--as", "esco1"), "no broker is named"),
    ],
)
def test_wrong_use_is_one_sentence_that_says_what_to_do(arguments: tuple[str, ...], said: str) -> None:
    error = portico(*arguments).exception
    assert isinstance(error, ConfigError)
    assert said in str(error)


def test_a_broker_without_its_files_is_wrong_use_and_one_that_is_not_there_a_failure(here: Path) -> None:
    written(here / "op.key", ed25519.Ed25519PrivateKey.generate())
    tls = portico(*FULL, "--key", "op.key", "--broker", "mqtts://127.0.0.1:1").exception
    assert isinstance(tls, ConfigError)
    assert "--key-tls" in str(tls)


def test_an_operator_file_with_a_fault_names_it(here: Path) -> None:
    (here / "operator.toml").write_text('[operator]\nentitty = "esco1"\n')
    error = portico(*FULL, "--dry-run").exception
    assert isinstance(error, ConfigError)
    assert "operator.entitty" in error.faults[0]


def test_status_tells_of_books_without_the_command(here: Path) -> None:
    from headend.books import Books

    Books(here / "b.db", 1).close()
    error = portico("status", "c-1", "--gateway", "gw-0001", "--as", "esco1", "--books", "b.db").exception
    assert isinstance(error, ConfigError)
    assert "nothing of command c-1" in str(error)


def test_nobody_at_the_broker_s_address_is_a_failure(here: Path) -> None:
    from certs.authority import DevAuthority
    from core.errors import Unreachable

    ca = DevAuthority.create(here / "certs").ca_path
    url = f"mqtt://127.0.0.1:{free_port()}"
    where = ("--gateway", "gw-0001", "--as", "esco1", "--broker", url, "--trust", str(ca))
    assert isinstance(portico("watch", "c-1", *where).exception, Unreachable)
