"""Lines about what a head-end says: confirmations and questions, what it takes and what it refuses.

Each bad message has an epoch of its own, so that a confirmation of any of it is known for what it is. Pure
functions over :class:`HeadendEvidence`. Not here: what is in the books (`headend_book_lines`).
"""

from collections.abc import Callable
from typing import Final

from cli.conformance.headend_evidence import Answer, HeadendEvidence, Sent
from cli.conformance.lines import Found, Result, failed, judged, passed, untested
from core.ids import books_born_ms
from core.ranges import RangeSet
from core.topics import Lane

LATE_S: Final = 5.0
"""So much later than wished a confirmation may come on a busy machine."""


def comes_up(seen: HeadendEvidence) -> Found:
    """The first message is confirmed."""
    first = seen.labelled("hello")
    if not first:
        return untested("the program was not started")
    answer = seen.confirmed(first[0])
    if answer is None:
        return failed(f"{first[0]} was not confirmed", [f"{len(seen.heard)} answers came"])
    return passed(str(answer))


def signed(seen: HeadendEvidence) -> Found:
    """Confirmations and questions are signed by the entity's collector key."""
    faults = [f"{one}: {one.signature_fault}" for one in seen.heard if one.signature_fault]
    return judged(faults, len(seen.heard), "answers", "answers have no signature that holds")


def decodes(seen: HeadendEvidence) -> Found:
    """They decode strictly."""
    faults = [f"{one}: {one.form_fault}" for one in seen.heard if one.form_fault]
    return judged(faults, len(seen.heard), "answers", "answers are none of version 1")


def published(seen: HeadendEvidence) -> Found:
    """QoS 1, never retained, content in the payload alone, on topics of the grammar."""
    faults = []
    for one in seen.heard:
        if not one.gateway:
            faults.append(f"{one}: no topic for answers of {seen.entity}")
        if one.retained:
            faults.append(f"{one} was published retained")
        if one.qos != 1:
            faults.append(f"{one} was published with QoS {one.qos}")
        if one.unused:
            faults.append(f"{one} has {', '.join(one.unused)}")
    return judged(faults, len(seen.heard), "answers", "answers are not published as the table says")


def introduces(seen: HeadendEvidence) -> Found:
    """The first confirmation after a gateway introduced itself brings the certificate."""
    faults = []
    answered = 0
    for sent in seen.labelled("hello", "new-epoch"):
        answer = next(
            (a for a in seen.confirmations if a.number >= sent.mark.heard and a.gateway == sent.gateway), None
        )
        if answer is None or answer.told is None:
            continue
        answered += 1
        if not answer.told.cert:
            faults.append(f"{answer} after {sent} brings no certificate")
    return judged(faults, answered, "answered introductions", "introductions were not answered by one")


def ascends(seen: HeadendEvidence) -> Found:
    """n ascends for a gateway, over lives, confirmations and questions together."""
    last: dict[tuple[str, str], int] = {}
    faults = []
    later = 0
    for one in seen.heard:
        told = one.told
        if told is None or not one.good:
            continue
        key = (one.gateway, told.books)
        later += key in last
        if told.n <= last.get(key, 0):
            faults.append(f"{one} comes after n {last[key]}")
        last[key] = max(told.n, last.get(key, 0))
    return judged(faults, later, "later answers", "answers have an n that was there before")


def same_books(seen: HeadendEvidence) -> Found:
    """The id of the books stays over a kill and an orderly end."""
    end = seen.marks["restored"].heard if "restored" in seen.marks else 1 << 60
    ids = dict.fromkeys(
        one.told.books for one in seen.heard if one.told is not None and one.good and one.number < end
    )
    begun = [life.begun.heard for life in seen.lives]
    answering = {
        sum(1 for at in begun if at <= one.number) for one in seen.heard if one.good and one.number < end
    }
    if len(answering) < 2 and len(ids) < 2:
        return untested("no answers came in more than one life")
    if len(ids) > 1:
        return failed("the books have another id without a reason", ids)
    return passed(f"{next(iter(ids))} over {len(answering)} lives")


# --- what is confirmed


def all_confirmed(seen: HeadendEvidence) -> Found:
    """Every good message is confirmed in the end."""
    faults = []
    number = 0
    for one in seen.sent:
        if one.good:
            number += 1
            if seen.confirmed(one) is None:
                faults.append(f"{one} ({one.label}) was not confirmed")
    return judged(faults, number, "messages", "messages that fit were not confirmed")


def in_time(seen: HeadendEvidence) -> Found:
    """Within the seconds that the gateway asked for."""
    faults = []
    number = 0
    for one in seen.labelled("in-order", "patient"):
        answer = seen.confirmed(one)
        if answer is None:
            continue
        number += 1
        took_s = (answer.at_ms - one.mark.at_ms) / 1000
        if took_s > one.within_s + LATE_S:
            faults.append(f"{one}: {took_s:.1f} s, it asked for {one.within_s} s")
    return judged(faults, number, "messages", "messages were confirmed too late")


def never_invents(seen: HeadendEvidence) -> Found:
    """Nothing is confirmed in epochs of which nothing was sent."""
    known = {(one.gateway, one.epoch) for one in seen.sent}
    faults = [
        f"{one}: epoch {epoch}"
        for one in seen.confirmations
        for epoch in {**one.held(Lane.LIVE), **one.held(Lane.CONTROL)}
        if (one.gateway, epoch) not in known
    ]
    return judged(
        faults, len(seen.confirmations), "confirmations", "epochs were confirmed that were never sent"
    )


def no_holes(seen: HeadendEvidence) -> Found:
    """Sequences that no message covered are not confirmed."""
    known = {(one.gateway, one.epoch) for one in seen.sent}
    faults = []
    for answer, epoch, space, (first, last) in seen.overclaims():
        bad = RangeSet()
        for one in seen.sent[: answer.sent]:
            if not one.good and (one.gateway, one.epoch) == (answer.gateway, epoch):
                bad.add(one.first, one.last)
        # What a bad message covers is its own line's affair, and an epoch that nobody sent that of another.
        holes = bad.missing(first, last) if (answer.gateway, epoch) in known else []
        faults += [f"{answer}: {space.value} {a}..{b} of {epoch}, which nothing covered" for a, b in holes]
    return judged(
        faults, len(seen.confirmations), "confirmations", "ranges were confirmed that nothing covered"
    )


def confirmed_again(seen: HeadendEvidence) -> Found:
    """A message that is known is confirmed again."""
    return _each_confirmed(seen, "duplicate")


def out_of_order(seen: HeadendEvidence) -> Found:
    """Messages in any order, with coverages that overlap, are confirmed."""
    return _each_confirmed(seen, "later", "filling", "overlapping")


def own_spaces(seen: HeadendEvidence) -> Found:
    """Control sequences are confirmed as such, and not as data."""
    return _each_confirmed(seen, "control")


def own_epochs(seen: HeadendEvidence) -> Found:
    """Each epoch has sequences of its own."""
    return _each_confirmed(seen, "new-epoch")


def empty_coverage(seen: HeadendEvidence) -> Found:
    """Coverage without rows is confirmed."""
    return _each_confirmed(seen, "empty")


def growth(seen: HeadendEvidence) -> Found:
    """Records of type x, members x and unknown reasons are taken."""
    return _each_confirmed(seen, "growth")


def own_manifest_bytes(seen: HeadendEvidence) -> Found:
    """A manifest whose members stand in another order is known by its own bytes."""
    return _each_confirmed(seen, "reordered")


def _each_confirmed(seen: HeadendEvidence, *labels: str) -> Found:
    sent = seen.labelled(*labels)
    faults = [
        f"{one} was not confirmed in {seen.answer_s:g} s" for one in sent if seen.confirmed(one) is None
    ]
    return judged(faults, len(sent), "messages", "messages were not confirmed")


# --- what is refused


def refuses(*labels: str) -> Callable[[HeadendEvidence], Found]:
    def judge(seen: HeadendEvidence) -> Found:
        bad = [one for one in seen.sent if not one.good and one.label in labels]
        faults = []
        for one in bad:
            for answer in seen.confirmations:
                if _claims(seen, answer, one):
                    faults.append(f"{answer} confirms {one}")
                    break
        # It was heard and left alone only when something that came after it was confirmed.
        heard = max((one.number for one in seen.sent if one.good and seen.confirmed(one)), default=-1)
        passed_over = [one for one in bad if one.number < heard]
        return judged(
            faults, len(passed_over), "such messages before a confirmed one", "such messages were confirmed"
        )

    return judge


def _claims(seen: HeadendEvidence, answer: Answer, bad: Sent) -> bool:
    """Tell whether an answer confirms something of a bad message that no good one had covered by then."""
    if answer.gateway != bad.gateway:
        return False
    for space in (Lane.LIVE, Lane.CONTROL):
        good = seen.covered_by_good(bad.gateway, bad.epoch, space, answer.sent)
        held = RangeSet(answer.held(space).get(bad.epoch, ()))
        if any(good.missing(first, last) for first, last in held.overlap(bad.first, bad.last)):
            return True
    return False


def takes_good_after_bad(seen: HeadendEvidence) -> Found:
    """The right message after a refused one is taken."""
    return _each_confirmed(seen, "again")


# --- what is missing


def asks_manifest(seen: HeadendEvidence) -> Found:
    """A message without its manifest is left unconfirmed, and the manifest is asked for by name."""
    found = refuses("no-manifest")(seen)
    if found.result is Result.FAILED:
        return found
    faults = []
    for gateway, name in seen.asked_for.items():
        if not any(
            one.gateway == gateway and one.ask is not None and name in one.ask.manifests for one in seen.asks
        ):
            faults.append(f"manifest {name} of {gateway} was not asked for in {seen.answer_s:g} s")
    if not faults and found.result is not Result.PASSED:
        return found
    return judged(faults, len(seen.asked_for), "manifests were asked for", "manifests were not asked for")


def takes_manifest(seen: HeadendEvidence) -> Found:
    """With the manifest in the member `manifests` the message is confirmed."""
    return _each_confirmed(seen, "manifest-brought")


def asks_certificate(seen: HeadendEvidence) -> Found:
    """A message by an unknown key is left unconfirmed, and the certificate is asked for."""
    found = refuses("no-cert")(seen)
    if found.result is Result.FAILED:
        return found
    faults = []
    strangers = {one.gateway for one in seen.labelled("no-cert")}
    for gateway in sorted(strangers):
        if not any(
            one.gateway == gateway and one.ask is not None and "cert" in one.ask.want for one in seen.asks
        ):
            faults.append(f"the certificate of {gateway} was not asked for in {seen.answer_s:g} s")
    if not faults and found.result is not Result.PASSED:
        return found
    return judged(faults, len(strangers), "certificates were asked for", "certificates were not asked for")


def takes_certificate(seen: HeadendEvidence) -> Found:
    """With the certificate the message is confirmed."""
    return _each_confirmed(seen, "cert-brought")


def gives_certificate(seen: HeadendEvidence) -> Found:
    """Its own certificate comes in the next answer when a gateway wants it."""
    wanting = seen.labelled("wants-cert")
    faults = []
    for one in wanting:
        later = [a for a in seen.heard if a.number >= one.mark.heard and a.gateway == one.gateway and a.good]
        if not any(a.told is not None and a.told.cert for a in later):
            faults.append(f"{one} wants the certificate, and {len(later)} answers brought none")
    return judged(faults, len(wanting), "wishes", "wishes were not met")


# --- lives


def goes_on_after_kill(seen: HeadendEvidence) -> Found:
    """What was not confirmed before a kill -9 is confirmed when it comes again."""
    return _each_confirmed(seen, "after-kill")


def goes_on_after_outage(seen: HeadendEvidence) -> Found:
    """After an outage of the broker it goes on."""
    return _each_confirmed(seen, "after-outage")


def goes_on_after_stop(seen: HeadendEvidence) -> Found:
    """After an orderly end it goes on."""
    return _each_confirmed(seen, "after-stop")


def ends_in_order(seen: HeadendEvidence) -> Found:
    """SIGTERM ends it, with exit code 0."""
    ended = [(n, life) for n, life in enumerate(seen.lives, 1) if life.how == "stop"]
    faults = [f"life {n}: exit code {life.exit_code}" for n, life in ended if life.exit_code != 0]
    died = [
        f"life {n} ended by itself, exit code {life.exit_code}: {life.words}"
        for n, life in enumerate(seen.lives, 1)
        if life.ended and not life.how
    ]
    return judged(died + faults, len(ended), "orderly ends", "ends were not in order")


def renews_books(seen: HeadendEvidence) -> Found:
    """A gateway that names an n that these books never gave, or later books, proves that they went back."""
    faults = []
    for label, named in seen.named_books.items():
        sent = seen.labelled(label)
        if not sent:
            continue
        later = [
            one
            for one in seen.heard
            if one.number >= sent[0].mark.heard and one.told is not None and one.good
        ]
        if not any(
            one.told is not None and books_born_ms(one.told.books) > books_born_ms(named) for one in later
        ):
            faults.append(f"{sent[0]} names {named}, and {len(later)} answers have no later id")
    return judged(faults, len(seen.named_books), "proofs", "proofs led to no new id of the books")
