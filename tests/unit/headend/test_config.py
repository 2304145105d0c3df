"""headend.toml: what is read, and how every fault is told with its place."""

from pathlib import Path

import pytest

from core.errors import ConfigError
from headend.config import SEVEN_DAYS_S, SHARED_SESSION_S, load

GOOD = """
[headend]
entity = "dso.example"
books = "var/books.db"
[[broker]]
url = "mqtts://127.0.0.1:8884"
ca = "ca.pem"
cert = "dso.example.pem"
key = "dso.example.key"
[signing]
cert = "dso.example.sign.pem"
key = "dso.example.sign.key"
trust = ["ca.pem"]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "headend.toml"


def faults(file: Path, text: str) -> tuple[str, ...]:
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file)
    return caught.value.faults


def test_paths_are_relative_to_the_file(file: Path) -> None:
    file.write_text(GOOD)
    config = load(file)
    assert config.headend.books == file.parent / "var/books.db"
    assert config.broker[0].ca == config.signing.trust[0] == file.parent / "ca.pem"
    assert (config.broker[0].host, config.broker[0].port, config.broker[0].tls) == ("127.0.0.1", 8884, True)
    assert config.status_path("a") == file.parent / "var/collector-a.json"


def test_session_is_long_alone_and_short_in_a_group(file: Path) -> None:
    file.write_text(GOOD)
    assert load(file).broker[0].expiry_s == SEVEN_DAYS_S
    file.write_text(GOOD.replace("[signing]", 'share = "collectors"\n[signing]'))
    assert load(file).broker[0].expiry_s == SHARED_SESSION_S
    file.write_text(GOOD.replace("[signing]", 'share = "c"\nsession_expiry_s = 5\n[signing]'))
    assert load(file).broker[0].expiry_s == 5


def test_all_faults_are_told_at_once_each_with_its_place(file: Path) -> None:
    text = (
        GOOD.replace('"dso.example"', '"dso/example"', 1)
        .replace("mqtts://127.0.0.1:8884", "http://x")
        .replace('trust = ["ca.pem"]', "trust = []\nodd = 1")
    )
    found = faults(file, text)
    assert [one.partition(":")[0] for one in found] == [
        "headend.entity", "broker[1].url", "signing.trust", "signing.odd",
    ]  # fmt: skip


def test_missing_tables_are_named(file: Path) -> None:
    assert {one.partition(":")[0] for one in faults(file, "")} == {
        "[headend] is missing",
        "[broker] is missing",
        "[signing] is missing",
    }
    assert faults(file, "broker = []\n" + GOOD.replace("[[broker]]", "[other]"))[0].startswith(
        "broker: names none"
    )


@pytest.mark.parametrize(
    "url", ["mqtts://", "mqtts://h:0", "mqtts://h:99999", "mqtts://u:p@h", "mqtts://h/x"]
)
def test_address_of_wrong_form_is_refused(file: Path, url: str) -> None:
    assert faults(file, GOOD.replace("mqtts://127.0.0.1:8884", url))[0].startswith("broker[1].url")


def test_tls_without_certificate_is_refused(file: Path) -> None:
    found = faults(file, GOOD.replace('cert = "dso.example.pem"\n', ""))
    assert found == ("broker[1]: a broker by mqtts:// needs cert",)


def test_broker_without_tls_is_for_development_alone(file: Path) -> None:
    plain = GOOD.replace("mqtts://127.0.0.1:8884", "mqtt://127.0.0.1")
    file.write_text(plain)
    assert load(file).broker[0].port == 1883
    found = faults(file, plain.replace('books = "var/books.db"', 'books = "b"\nsetting = "production"'))
    assert "without TLS" in found[0]


def test_file_that_is_absent_or_no_toml_is_told(file: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(file)
    file.write_text("[headend")
    with pytest.raises(ConfigError, match="not TOML"):
        load(file)


def test_file_that_is_not_utf_8_is_told_with_its_line_and_what_to_do(file: Path) -> None:
    file.write_bytes(GOOD.replace("dso.example", "d\u00fcsseldorf").encode("latin-1"))
    with pytest.raises(ConfigError, match=r"not UTF-8 text \(line 3\): save it as UTF-8"):
        load(file)


@pytest.mark.parametrize(
    ("text", "whose"),
    [
        ('[gateway]\nid = "gw-0001"\n', "a gateway, which `portico agent run -c` reads"),
        (
            'name = "home"\n[[premises]]\nname = "a"\n',
            "the simulator's scenario",
        ),
    ],
)
def test_file_of_another_program_is_told_as_that(file: Path, text: str, whose: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert f"is the file of {whose}" in str(caught.value)
    assert str(caught.value).endswith("reads: give a headend.toml")
    assert caught.value.faults == ()


def test_keys_that_are_unknown_or_missing_lead_to_what_was_meant(file: Path) -> None:
    wrong = GOOD.replace("entity =", "entitiy =").replace("[signing]", "[polcy]\nlag_s = 1\n[signing]")
    assert faults(file, wrong) == (
        'headend.entity: is missing: write for example entity = "dso.example"',
        'headend.entitiy: no such key: did you mean "entity"?',
        '[polcy]: no such table: did you mean "policy"?',
    )


PAGE = (Path(__file__).parents[3] / "docs" / "headend.md").read_text("utf-8")


def test_example_on_the_page_is_read_and_names_every_key(file: Path) -> None:
    example = PAGE.partition("```toml\n")[2].partition("```")[0]
    every_key = example.replace("\n# ", "\n")
    file.write_text(every_key)
    config = load(file)
    for section in (config.headend, config.broker[0], config.signing):
        assert set(type(section).model_fields) == section.model_fields_set
