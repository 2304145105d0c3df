"""What is judged of the demo's commands: everything that does not hold is found, by name."""

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from cli.demo_evidence import EXPECTED, Move, Refusal, Seen, Step, decide, moves

ONE, ZERO = Decimal(1), Decimal(0)
SHED = (
    Step(1000, "accepted", (), None, 9000),
    Step(1100, "dispatched", (), None, None),
    Step(1200, "confirmed", (), ONE, None),
    Step(9000, "restoring", ("ended",), None, None),
    Step(9100, "restored", (), ZERO, None),
    Step(9900, "restored", ("replayed", "ended"), None, None),
)
WELL = Seen(
    shed=SHED,
    refused={
        Refusal.OTHER_ENTITY: (Step(2000, "refused", ("no-grant",), None, None),),
        Refusal.WINDOW: (Step(2000, "refused", ("window",), None, None),),
        Refusal.FORGED: (),
        Refusal.OPT_OUT: (Step(9990, "refused", ("opted-out",), None, None),),
    },
    counted=("bad-signature",),
    moves=(Move(1150, ONE, "write"), Move(8150, ZERO, "hold")),
)


def entry(kind: str, ms: int, device: str, point: str) -> dict[str, object]:
    return {"kind": kind, "ms": ms, "device": device, "point": point, "value": 1.0, "cause": "write"}


def without(state: str) -> Seen:
    return replace(WELL, shed=tuple(one for one in SHED if one.state != state))


def test_what_is_well_has_no_fault_and_every_code() -> None:
    verdict = decide(WELL)
    assert verdict.faults == ()
    assert verdict.as_dict() == {
        "executed": True,
        "read_back": True,
        "restored": True,
        "refused": {
            "other_entity": ["no-grant"],
            "window": ["window"],
            "replay": ["replayed", "ended"],
            "forged": ["bad-signature"],
            "opt_out": ["opted-out"],
        },
    }


def test_what_the_gateway_says_is_no_proof_that_the_plant_obeyed() -> None:
    verdict = decide(replace(WELL, moves=()))
    assert (verdict.executed, verdict.read_back, verdict.restored) == (False, True, False)
    assert verdict.faults


def test_what_the_plant_did_is_no_proof_that_the_gateway_read_it_back() -> None:
    verdict = decide(without("confirmed"))
    assert (verdict.executed, verdict.read_back, verdict.restored) == (True, False, True)
    assert verdict.faults


def test_a_feedback_with_another_value_reads_nothing_back() -> None:
    told = tuple(replace(one, value=ZERO) if one.state == "confirmed" else one for one in SHED)
    assert not decide(replace(WELL, shed=told)).read_back


@pytest.mark.parametrize(
    "after",
    [
        (Move(1150, ONE, "write"),),
        (Move(1150, ONE, "write"), Move(8150, ZERO, "hold"), Move(9950, ONE, "write")),
    ],
    ids=["never", "not for good"],
)
def test_a_relay_that_does_not_stay_at_its_default_is_not_restored(after: tuple[Move, ...]) -> None:
    verdict = decide(replace(WELL, moves=after))
    assert not verdict.restored
    assert verdict.faults


def test_a_replay_that_moved_the_relay_again_is_found() -> None:
    again = (*WELL.moves, Move(9950, ONE, "write"), Move(9980, ZERO, "write"))
    verdict = decide(replace(WELL, moves=again))
    assert not verdict.executed
    assert any("2 times" in fault for fault in verdict.faults)


@pytest.mark.parametrize("at_ms", [500, 9500], ids=["before it was accepted", "after its end"])
def test_a_relay_that_moved_at_another_time_did_not_obey_this_command(at_ms: int) -> None:
    moved = (Move(at_ms, ONE, "write"), Move(9990, ZERO, "write"))
    assert not decide(replace(WELL, moves=moved)).executed


@pytest.mark.parametrize("which", [Refusal.OTHER_ENTITY, Refusal.WINDOW, Refusal.OPT_OUT])
def test_a_refusal_that_is_not_there_or_for_another_reason_is_a_fault(which: Refusal) -> None:
    for told in ((), (Step(2000, "refused", ("no-policy",), None, None),)):
        verdict = decide(replace(WELL, refused={**WELL.refused, which: told}))
        assert any(f"{which.value} was to be refused with {EXPECTED[which]}" in one for one in verdict.faults)


@pytest.mark.parametrize("which", [Refusal.OTHER_ENTITY, Refusal.WINDOW, Refusal.OPT_OUT])
def test_what_was_refused_and_done_all_the_same_is_a_fault(which: Refusal) -> None:
    done = (*WELL.refused[which], Step(3000, "accepted", (), None, 4000))
    verdict = decide(replace(WELL, refused={**WELL.refused, which: done}))
    assert any("became accepted" in fault for fault in verdict.faults)


def test_what_was_forged_has_no_answer_and_is_counted() -> None:
    assert any("forged" in one for one in decide(replace(WELL, counted=())).faults)
    answered = {**WELL.refused, Refusal.FORGED: (Step(2000, "refused", ("bad-signature",), None, None),)}
    assert "what was forged had an answer" in decide(replace(WELL, refused=answered)).faults


def test_a_replay_that_nobody_answered_is_a_fault() -> None:
    assert any("replay" in one for one in decide(replace(WELL, shed=SHED[:-1])).faults)


def test_an_answer_to_a_message_that_came_twice_while_it_ran_is_not_that_to_the_replay() -> None:
    early = (*SHED[:3], Step(2000, "confirmed", ("replayed",), None, None), *SHED[3:-1])
    assert decide(replace(WELL, shed=early)).refused[Refusal.REPLAY] == ()


def test_moves_are_those_of_the_relay_and_of_no_hold_register(tmp_path: Path) -> None:
    log = tmp_path / "plant.jsonl"
    written = [
        entry("write", 1, "heater-relay", "LoadShed/hold"),
        entry("write", 2, "heater-relay", "LoadShed"),
        entry("effect", 2, "heater-relay", "LoadShed"),
        entry("write", 3, "other", "LoadShed"),
    ]
    log.write_text("\n".join(map(json.dumps, written)).replace(": ", ":") + '\n{"kind":"write","ms":4')
    assert moves(log, "heater-relay") == [Move(2, ONE, "write")]
