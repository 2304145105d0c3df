"""`portico command` through a real mosquitto to a simulated relay, and back from received to restored."""

import asyncio
import json
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from certs.authority import DevAuthority
from certs.pem import key_pem, write_atomically
from certs.signing import SigningKey
from cli.process import Process, portico
from policies.trust.keys import Algorithm, generate, write
from simulator.pytest_plugin import Premises, Starter
from tests.support.controlrig import DEVICE, GATEWAY, KEY, OTHER_KEY, POINT, Rig, rig
from tests.support.controluplink import Site, uplink
from tests.support.gateway_double import GatewayDouble

pytestmark = [pytest.mark.field, pytest.mark.timeout(90)]
PLACE = ("--gateway", GATEWAY, "--device", DEVICE, "--point", POINT)


@pytest.fixture
def home(portico_premises: Starter) -> Premises:
    return portico_premises("household")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    write_atomically(tmp_path / "k1.key", key_pem(KEY), 0o600)
    write_atomically(tmp_path / "other.key", key_pem(OTHER_KEY), 0o600)
    made.broker.start()
    yield made
    made.broker.kill9()


@pytest.fixture
async def gateway(site: Site, home: Premises, tmp_path: Path) -> AsyncIterator[Rig]:
    (tmp_path / "gw").mkdir()
    async with rig(home, tmp_path / "gw") as made, uplink(site, made):
        yield made


class Told:
    """What a run of `portico command --json` said."""

    def __init__(self, code: int, out: bytes, err: bytes) -> None:
        self.code = code
        self.steps = [json.loads(line) for line in out.splitlines()]
        self.err = err.decode()

    @property
    def states(self) -> list[str]:
        return [one["state"] for one in self.steps]

    @property
    def codes(self) -> list[str]:
        return [reason["code"] for one in self.steps for reason in one.get("reasons", [])]


async def run(site: Site, tmp_path: Path, *arguments: str, entity: str = "esco1", key: str = "k1") -> Told:
    whose = ["--as", f"{entity}/hub/op-17" if arguments[0] in ("send", "cancel") else entity]
    signs = ["--key", str(tmp_path / f"{key}.key"), "--key-id", "k1"]
    command = portico(
        "command", *arguments, "--json", *whose, *(signs if len(whose[1]) > len(entity) else ()),
        *site.connection(entity),
    )  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return Told(process.returncode, out, err)


def shed(seconds: str = "3s", purpose: str = "peak") -> tuple[str, ...]:
    return ("send", *PLACE, "--verb", "shed", "--value", "1", "--for", seconds, "--purpose", purpose)


async def test_a_shed_is_followed_from_sent_to_restored(site: Site, gateway: Rig, tmp_path: Path) -> None:
    told = await run(site, tmp_path, *shed())
    assert told.states == ["sent", "accepted", "dispatched", "confirmed", "restoring", "restored"]
    assert (told.code, gateway.shed()) == (0, False)
    assert told.steps[3]["value"] == "1"
    assert told.steps[1]["grant"] == "shed"


async def test_a_refusal_is_a_failure_with_every_reason(site: Site, gateway: Rig, tmp_path: Path) -> None:
    told = await run(site, tmp_path, *shed("2h", "fun"))
    assert (told.code, told.states) == (1, ["sent", "refused"])
    assert {"purpose", "duration"} <= set(told.codes)
    assert all(one["text"] and one["response"] for one in told.steps[1]["reasons"])


async def test_another_entity_is_refused_and_reads_its_own_answer(
    site: Site, gateway: Rig, tmp_path: Path
) -> None:
    told = await run(site, tmp_path, *shed(), entity="esco2", key="other")
    assert (told.code, told.codes) == (1, ["no-grant"])


async def test_what_is_signed_by_a_key_of_no_roster_gets_no_answer(
    site: Site, gateway: Rig, tmp_path: Path
) -> None:
    write(tmp_path, generate("stranger", Algorithm.P256), None)
    sending = asyncio.create_task(run(site, tmp_path, *shed(), "--expires", "1s", key="stranger"))
    told = await sending
    assert (told.code, told.states) == (1, ["sent"])
    assert gateway.commander.taker.counts["bad-signature"] == 1


async def test_a_cancellation_ends_the_control_and_follows_it_until_it_is_put_back(
    site: Site, gateway: Rig, tmp_path: Path
) -> None:
    sent = await run(site, tmp_path, *shed("100s"), "--no-wait")
    assert (sent.code, sent.states) == (0, ["sent"])
    id_ = sent.steps[0]["command"]
    await gateway.until("confirmed", id_)
    told = await run(site, tmp_path, "cancel", id_, *PLACE)
    assert told.code == 0
    by_command = [(one["command"] == id_, one["state"]) for one in told.steps]
    assert set(by_command) == {(False, "sent"), (False, "done"), (True, "restoring"), (True, "restored")}
    assert by_command[-1] in ((True, "restored"), (False, "done"))
    assert gateway.shed() is False


async def test_nothing_that_runs_is_said_to_whoever_cancels_it(
    site: Site, gateway: Rig, tmp_path: Path
) -> None:
    told = await run(site, tmp_path, "cancel", "c-99", *PLACE)
    assert (told.code, told.states, told.codes) == (0, ["sent", "done"], ["nothing-runs"])
    assert "no word" not in told.err


async def test_a_command_to_a_gateway_that_is_not_there_is_lost_and_said_to_be(
    site: Site, tmp_path: Path
) -> None:
    told = await run(site, tmp_path, *shed())
    assert (told.code, told.states) == (1, [])
    assert "nobody listens" in told.err


async def test_outcomes_of_an_unknown_key_are_not_believed_until_its_certificate_is_given(
    site: Site, home: Premises, tmp_path: Path
) -> None:
    (tmp_path / "gw").mkdir()
    async with rig(home, tmp_path / "gw") as gateway, uplink(site, gateway, cert=False):
        told = await run(site, tmp_path, *shed("1s"))
        assert (told.code, told.states) == (1, ["sent"])
        assert "--certificates" in told.err
        await gateway.until("restored", told.steps[0]["command"])
        told = await run(site, tmp_path, *shed("1s"), "--certificates", str(site.certs))
        assert (told.code, told.states[-1]) == (0, "restored")


async def test_the_retained_state_tells_the_gateways_certificate_to_who_comes_later(
    site: Site, home: Premises, tmp_path: Path
) -> None:
    (tmp_path / "gw").mkdir()
    key = SigningKey.load(site.certs / f"{GATEWAY}.sign.key", site.certs / f"{GATEWAY}.sign.pem")
    async with rig(home, tmp_path / "gw") as gateway, uplink(site, gateway, cert=False) as client:
        client.publish(*GatewayDouble(key, GATEWAY).state(), qos=1, retain=True)
        told = await run(site, tmp_path, *shed("1s"))
        assert (told.code, told.states[-1]) == (0, "restored"), told.err
        watched = await run(site, tmp_path, *shed("1s"), "--no-wait")
        told = await run(site, tmp_path, "watch", watched.steps[0]["command"], "--gateway", GATEWAY)
        assert (told.code, told.states[-1]) == (0, "restored"), told.err


async def test_a_state_by_a_key_of_another_authority_is_not_believed(
    site: Site, home: Premises, tmp_path: Path
) -> None:
    (tmp_path / "gw").mkdir()
    other = DevAuthority.create(tmp_path / "other").issue_signer(GATEWAY, role="stream")
    key = SigningKey.load(other.key_path, other.cert_path)
    async with rig(home, tmp_path / "gw") as gateway, uplink(site, gateway, cert=False) as client:
        client.publish(*GatewayDouble(key, GATEWAY).state(), qos=1, retain=True)
        told = await run(site, tmp_path, *shed("1s"))
        assert (told.code, told.states) == (1, ["sent"])
        assert "--certificates" in told.err


async def test_the_collector_beside_it_has_every_step_and_status_reads_its_books(
    site: Site, gateway: Rig, tmp_path: Path
) -> None:
    certs, books = site.certs, tmp_path / "books.db"
    toml = tmp_path / "headend.toml"
    toml.write_text(
        f'[headend]\nentity = "esco1"\nbooks = "{books}"\n[[broker]]\nurl = "{site.url}"\n'
        f'ca = "{certs}/ca.pem"\ncert = "{certs}/esco1.pem"\nkey = "{certs}/esco1.key"\n'
        f'[signing]\ncert = "{certs}/esco1.sign.pem"\nkey = "{certs}/esco1.sign.key"\n'
        f'trust = ["{certs}/ca.pem"]\n'
    )
    collector = Process(
        "collector",
        portico("headend", "run", "-c", str(toml)),
        tmp_path / "collector.log",
        ready=lambda process: "connected" in process.said(),
    )
    await asyncio.to_thread(collector.start)
    try:
        told = await run(site, tmp_path, *shed())
        assert told.code == 0
        id_ = told.steps[0]["command"]
        where = ("status", id_, "--gateway", GATEWAY, "--books", str(books))
        known: list[str] = []
        async with asyncio.timeout(20):
            while known != told.states[1:]:
                found = await run(site, tmp_path, *where)
                known = found.states
        assert found.code == 0
    finally:
        await asyncio.to_thread(collector.stop)


async def test_a_no_at_the_box_ends_the_control_and_refuses_the_next(
    site: Site, gateway: Rig, tmp_path: Path
) -> None:
    sending = asyncio.create_task(run(site, tmp_path, *shed("100s")))
    await gateway.until_shed()
    box = ["--data-dir", str(tmp_path / "gw")]
    await asyncio.to_thread(
        subprocess.run, portico("optout", *box, "--device", DEVICE), check=True, capture_output=True
    )
    told = await sending
    assert (told.states[-1], gateway.shed()) == ("restored", False)
    assert "opted-out" in told.codes
    told = await run(site, tmp_path, *shed())
    assert (told.code, "opted-out" in told.codes) == (1, True)
    await asyncio.to_thread(
        subprocess.run, portico("optout", *box, "--clear"), check=True, capture_output=True
    )
    assert (await run(site, tmp_path, *shed("1s"))).code == 0


async def test_who_leaves_early_leaves_the_control_to_its_end(
    site: Site, gateway: Rig, tmp_path: Path
) -> None:
    arguments = [*shed("4s"), "--as", "esco1/hub/op-17", "--key", "k1.key", *site.connection("esco1")]
    process = await asyncio.create_subprocess_exec(
        *portico("command", *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    )
    await gateway.until_shed()
    process.send_signal(signal.SIGINT)
    out, err = await process.communicate()
    assert (process.returncode, b"it goes on without us" in out, err) == (1, True, b"")
    await gateway.until_told("restored")
    assert gateway.shed() is False
