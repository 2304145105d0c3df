"""What heals by itself is told aloud only when it has not healed in time."""

import pytest

from headend.healing import HEAL_S, HEALS, REMEMBERED, Healing
from headend.intake import Refusal


@pytest.mark.parametrize("reason", sorted(HEALS))
def test_first_refusals_of_a_new_gateway_are_quiet_until_it_had_its_time(reason: Refusal) -> None:
    healing = Healing()
    assert healing.quiet("gw-1", reason, "first", 0.0)
    assert healing.quiet("gw-1", reason, "second", HEAL_S - 1)
    assert healing.overdue(HEAL_S - 1) == []
    (sentence,) = healing.overdue(HEAL_S)
    assert f"messages of gw-1 are refused for 60 s ({reason.value}: second)" in sentence
    assert healing.overdue(HEAL_S + 1) == []
    assert not healing.quiet("gw-1", reason, "third", HEAL_S + 2)


def test_what_healed_is_never_told_and_begins_anew() -> None:
    healing = Healing()
    healing.quiet("gw-1", Refusal.UNKNOWN_KEY, "", 0.0)
    healing.quiet("gw-1", Refusal.MANIFEST_MISSING, "no manifest", 1.0)
    healing.taken("gw-1", with_manifest=False)
    (sentence,) = healing.overdue(HEAL_S + 1)
    assert "no manifest" in sentence
    healing.taken("gw-1", with_manifest=True)
    assert healing.quiet("gw-1", Refusal.MANIFEST_MISSING, "", HEAL_S + 2)
    assert healing.overdue(2 * HEAL_S) == []


def test_what_does_not_heal_by_itself_is_never_quiet() -> None:
    assert not any(Healing().quiet("gw-1", reason, "", 0.0) for reason in set(Refusal) - HEALS)


def test_made_up_names_are_bounded() -> None:
    healing = Healing()
    for number in range(REMEMBERED + 5):
        healing.quiet(f"gw-{number}", Refusal.UNKNOWN_KEY, "", 0.0)
    assert len(healing.overdue(HEAL_S)) == REMEMBERED
