"""Lines about what a head-end books, as its own command shows it: whole, once, exact, and nothing else.

Without such a command these lines are not tested. Pure functions over :class:`HeadendEvidence`.
"""

from collections import Counter
from typing import Final

from cli.conformance.headend_evidence import GOOD_CODE, HeadendEvidence, Look, Reading
from cli.conformance.lines import Found, failed, judged, untested
from cli.conformance.scripted_gateway import Wanted

LAST: Final = "at the end"
AFTER_KILL: Final = "after the kill"
AFTER_CONFLICT: Final = "after other content"


def each_once(seen: HeadendEvidence) -> Found:
    """Each reading that was confirmed is there, and once."""
    faults: list[str] = []
    number = 0
    for name, look in seen.looks.items():
        if look.fault:
            return failed(f"the books cannot be read: {look.fault}")
        there = Counter(one.identity for one in look.readings)
        for wanted in seen.wanted.get(name, ()) if name != AFTER_KILL else ():
            number += 1
            many = there[_identity(wanted)]
            if many != 1:
                faults.append(f"{_words(wanted)} is there {many} times {name}")
    return judged(faults, number, "readings", "readings are not there once")


def outlives_kill(seen: HeadendEvidence) -> Found:
    """What was confirmed before a kill is there after it."""
    look = seen.looks.get(AFTER_KILL)
    if look is None:
        return untested("the books were not looked at after a kill")
    if look.fault:
        return failed(f"the books cannot be read: {look.fault}")
    there = {one.identity for one in look.readings}
    wanted = seen.wanted.get(AFTER_KILL, ())
    faults = [f"{_words(one)} was confirmed and is gone" for one in wanted if _identity(one) not in there]
    return judged(faults, len(wanted), "readings", "readings were confirmed, and a kill -9 took them")


def exact(seen: HeadendEvidence) -> Found:
    """Values are those that were sent, as exact decimals."""
    faults = []
    number = 0
    for wanted, reading in _pairs(seen):
        number += 1
        if not reading.shows(wanted):
            faults.append(f"{_words(wanted)} is {reading.value!r}, {wanted.value} was sent")
    return judged(faults, number, "values", "values are not what was sent")


def reasons_kept(seen: HeadendEvidence) -> Found:
    """Reasons are kept; with one a reading is not good."""
    faults = []
    number = 0
    for wanted, reading in _pairs(seen):
        number += 1
        if sorted(reading.reasons) != sorted(wanted.reasons):
            faults.append(
                f"{_words(wanted)} has reasons {list(reading.reasons)}, {list(wanted.reasons)} were sent"
            )
        if bool(wanted.reasons) is (reading.quality == GOOD_CODE):
            faults.append(
                f"{_words(wanted)} with reasons {list(wanted.reasons)} has quality {reading.quality}"
            )
    return judged(faults, number, "readings", "readings have other reasons or quality than was sent")


def nothing_refused(seen: HeadendEvidence) -> Found:
    """No reading of a refused message is there."""
    look = _last(seen)
    if look.fault or not look.readings:
        return untested("the books show no readings at all")
    good: set[tuple[str, str]] = {(one.gateway, one.epoch) for one in seen.sent if one.good}
    bad = {(one.gateway, one.epoch): one for one in seen.sent if not one.good}
    only_bad = bad.keys() - good
    faults = [
        f"{_of(reading)} is of {bad[reading.gateway, reading.epoch]}"
        for reading in look.readings
        if (reading.gateway, reading.epoch) in only_bad
    ]
    return judged(faults, len(only_bad), "refused messages", "readings of refused messages are in the books")


def first_stays(seen: HeadendEvidence) -> Found:
    """What came first under an identity is what is shown."""
    look = seen.looks.get(AFTER_CONFLICT)
    if look is None or look.fault:
        return untested("the books were not looked at after other content came")
    if not look.readings:
        return untested("the books show no readings at all")
    there = {one.identity: one for one in look.readings}
    faults = []
    wanted = seen.wanted.get(AFTER_CONFLICT, ())
    for one in wanted:
        found = there.get(_identity(one))
        if found is None or not found.shows(one):
            faults.append(f"{_words(one)} is {found.value if found else None!r}, {one.value} was there first")
    return judged(faults, len(wanted), "readings", "readings were overwritten")


def _last(seen: HeadendEvidence) -> Look:
    return seen.looks.get(LAST, Look(LAST))


def _pairs(seen: HeadendEvidence) -> list[tuple[Wanted, Reading]]:
    there = {one.identity: one for one in _last(seen).readings}
    return [(one, there[_identity(one)]) for one in seen.wanted.get(LAST, ()) if _identity(one) in there]


def _identity(wanted: Wanted) -> tuple[str, str, int, int]:
    return wanted.gateway, wanted.epoch, wanted.seq, wanted.index


def _words(wanted: Wanted) -> str:
    return f"{wanted.gateway} {wanted.epoch}/{wanted.seq} value {wanted.index}"


def _of(reading: Reading) -> str:
    return f"{reading.gateway} {reading.epoch}/{reading.seq} value {reading.index}"
