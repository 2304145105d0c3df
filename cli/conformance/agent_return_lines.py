"""Lines about what an agent does with confirmations and questions, outages and its own ends.

What a gateway took it says itself: the header of each message names the last confirmation or question
(*books*, *n*). Each of ours has a number of its own, also the bad ones, so that one that should count for
nothing is known when it did. Pure functions over :class:`AgentEvidence`.
"""

from typing import Final

from cli.conformance.agent_evidence import AgentEvidence, Hole, Told, header
from cli.conformance.lines import Found, failed, judged, passed, untested
from core.ranges import RangeSet
from core.records import Alarm, Gap, Row
from core.topics import Lane

GOOD: Final = "good"
LEFT_TICKS: Final = 1
"""Ticks of an outage that may be missing: the devices are polled meanwhile."""


def _named(seen: AgentEvidence, told: Told) -> list[str]:
    """Return the messages that name a confirmation or question as the last one taken."""
    return [
        f"{one} names {told.books} n {told.n}: {told.words}"
        for one in seen.streams
        if one.number >= told.mark.heard and (header(one).books, header(one).n) == (told.books, told.n)
    ]


def takes_confirmations(seen: AgentEvidence) -> Found:
    """The header names the last confirmation taken, and within a life n never falls."""
    sent = {(one.books, one.n) for one in seen.told}
    if not any(one.kind == GOOD for one in seen.told):
        return untested("no confirmation was sent")
    faults = []
    taken = 0
    bounds = [life.begun.heard for life in seen.lives]
    last: tuple[int, str, int] = (-1, "", 0)
    for one in seen.streams:
        stream = header(one)
        life = sum(1 for bound in bounds if bound <= one.number)
        if not stream.books:
            continue
        taken += 1
        if (stream.books, stream.n) not in sent:
            faults.append(f"{one} names {stream.books} n {stream.n}, which was never sent")
        if (
            last[0] == life
            and last[1] == stream.books
            and stream.n < last[2]
            and not _older(seen, one.number)
        ):
            faults.append(f"{one} names n {stream.n} after n {last[2]}")
        last = (life, stream.books, max(stream.n, last[2] if last[1] == stream.books else 0))
    if not faults and not taken:
        return failed("no message names a confirmation: none was taken")
    return judged(faults, taken, "messages that name a confirmation", "messages name a wrong one")


def _older(seen: AgentEvidence, number: int) -> bool:
    """Tell whether a message may have been written before a start of ours that is already over."""
    return any(
        life.ended is not None and life.ended.heard - 3 <= number <= life.ended.heard for life in seen.lives
    )


def _no_effect(seen: AgentEvidence, kinds: tuple[str, ...]) -> Found:
    told = [one for one in seen.told if one.kind in kinds]
    faults = [named for one in told for named in _named(seen, one)]
    if not faults and not any(_named(seen, one) for one in seen.told if one.kind == GOOD):
        return untested("no good confirmation was taken, so nothing can be said of bad ones")
    # What came before a message of the gateway could show in it; what came after its last one shows nothing.
    last = max((one.number for one in seen.streams), default=-1)
    heeded = [one for one in told if one.acknowledged and one.mark.heard <= last]
    return judged(faults, len(heeded), "such messages", "effects of a message that must have none")


def unknown_key(seen: AgentEvidence) -> Found:
    """A confirmation by a key without a certificate is not taken, and the certificate is asked for."""
    told = [one for one in seen.told if one.kind == "bare" and one.acknowledged]
    if not told:
        return untested("no confirmation was sent without its certificate")
    faults = [named for one in told for named in _named(seen, one)]
    if faults:
        return failed("a confirmation was taken whose key nobody vouched for", faults)
    wanted = [one for one in seen.streams if one.number >= told[0].mark.heard and "cert" in header(one).want]
    if not wanted:
        return failed(f"no message asked for the certificate in {seen.resend_s:g} s")
    return passed(f"{wanted[0]} asks for it")


def bad_signature(seen: AgentEvidence) -> Found:
    """A confirmation with a signature that does not hold, or of another entity's key, changes nothing."""
    return _no_effect(seen, ("bad-signature", "other-key", "own-key"))


def moved(seen: AgentEvidence) -> Found:
    """A confirmation for another gateway changes nothing on this one's topic."""
    return _no_effect(seen, ("moved",))


def malformed(seen: AgentEvidence) -> Found:
    """A signed confirmation that is none of version 1 changes nothing."""
    return _no_effect(seen, ("version-2", "unknown-member", "garbage"))


def retained(seen: AgentEvidence) -> Found:
    """A retained confirmation or question is ignored."""
    return _no_effect(seen, ("retained",))


def earlier_books(seen: AgentEvidence) -> Found:
    """A confirmation of earlier books, or a lower n again, is ignored."""
    found = _no_effect(seen, ("earlier-books",))
    faults = []
    for told in (one for one in seen.told if one.kind == "replayed"):
        later = [
            header(one).n
            for one in seen.streams
            if one.number < told.mark.heard and header(one).books == told.books
        ]
        if later and max(later) > told.n:
            faults += _named(seen, told)
    return failed("an earlier confirmation was taken again", faults) if faults else found


def forged_claims(seen: AgentEvidence) -> Found:
    """What only bad confirmations claimed is sent again."""
    holes = [one for one in seen.holes if one.name == "forged"]
    faults = [
        f"sequences {one.first}..{one.last} of {one.epoch}" for one in holes if not _came_again(seen, one)
    ]
    if faults and any(not _came_again(seen, one) for one in seen.holes if one.name == "unconfirmed"):
        return untested(
            "nothing that is not confirmed is sent again, so nothing can be said of bad confirmations"
        )
    return judged(faults, len(holes), "ranges", "ranges that a bad confirmation claimed were not sent again")


def sends_again(seen: AgentEvidence) -> Found:
    """What is not confirmed is sent again, whatever the broker acknowledged."""
    holes = [one for one in seen.holes if one.name == "unconfirmed"]
    faults = [
        f"sequences {one.first}..{one.last} of {one.epoch} were not sent again in {seen.resend_s:g} s"
        for one in holes
        if not _came_again(seen, one)
    ]
    return judged(faults, len(holes), "ranges", "ranges without a confirmation were not sent again")


def grows(seen: AgentEvidence) -> Found:
    """A confirmation with a member `x` is taken as if it were not there."""
    told = [one for one in seen.told if one.kind == "growing" and one.acknowledged]
    faults = [f"n {one.n} is not named by any message" for one in told if not _named(seen, one)]
    return judged(faults, len(told), "confirmations with a member x", "were not taken")


def later_books(seen: AgentEvidence) -> Found:
    """Later books void what was confirmed: all that the gateway still has comes again."""
    if "new-books" not in seen.marks:
        return untested("the books were not made anew")
    mark = seen.marks["new-books"]
    faults = []
    number = 0
    again = seen.coverage(since=mark.heard)
    for epoch, ranges in seen.coverage(until=mark.heard).items():
        there = again.get(epoch, RangeSet())
        there.update(seen.given_up(epoch))
        for first, last in ranges:
            number += last - first + 1
            faults += [f"sequences {a}..{b} of epoch {epoch}" for a, b in there.missing(first, last)]
    return judged(faults, number, "sequences that were confirmed before", "ranges were not sent again")


def answers_ranges(seen: AgentEvidence) -> Found:
    """Sequences that are asked for come again, on lane backlog."""
    if "asked" not in seen.marks:
        return untested("nothing was asked for")
    since = seen.marks["asked"].heard
    faults = []
    for epoch, (first, last) in seen.asked.items():
        there = RangeSet()
        for one in seen.streams:
            backlog = one.where is not None and one.where.lane is Lane.BACKLOG
            if backlog and one.number >= since and header(one).epoch == epoch:
                there.add(header(one).first, header(one).last)
        there.update(seen.given_up(epoch))
        faults += [f"sequences {a}..{b} of epoch {epoch}" for a, b in there.missing(first, last)]
    return judged(faults, len(seen.asked), "ranges", "ranges were asked for and did not come on lane backlog")


def answers_manifests(seen: AgentEvidence) -> Found:
    """A manifest that is asked for by name comes in a next message."""
    if "asked" not in seen.marks or not seen.asked_manifest:
        return untested("no manifest was asked for")
    for one in seen.after("asked"):
        if seen.asked_manifest in one.names:
            return passed(f"{one} brings it")
    return failed(f"manifest {seen.asked_manifest} was asked for and did not come in {seen.resend_s:g} s")


def answers_certificate(seen: AgentEvidence) -> Found:
    """The certificate comes when it is asked for."""
    if "asked" not in seen.marks:
        return untested("no certificate was asked for")
    for one in seen.after("asked"):
        if one.brings_cert:
            return passed(f"{one} brings it")
    return failed(f"the certificate was asked for and did not come in {seen.resend_s:g} s")


# --- outages and ends


def outage(seen: AgentEvidence) -> Found:
    """What is polled while the broker is away arrives later."""
    if "broker-back" not in seen.marks:
        return untested("the broker was not away")
    begin, end = seen.marks["broker-away"].at_ms, seen.marks["broker-back"].at_ms
    due = len(range(-(-begin // seen.every_ms) * seen.every_ms, end, seen.every_ms))
    polled = {
        one.row.tick
        for one, _, _ in seen.counted()
        if one.group.device == "steady" and begin <= one.row.tick < end
    }
    came = [one for one in seen.streams if one.number >= seen.marks["broker-back"].heard]
    if not came:
        return failed("no message came after the broker was back")
    if not polled or len(polled) < due - LEFT_TICKS:
        return failed(
            f"of {due} ticks while the broker was away {len(polled)} have a value of the steady device"
        )
    return passed(f"{len(polled)} of {due} ticks while the broker was away have a value")


def online_again(seen: AgentEvidence) -> Found:
    """After an outage of the broker the state is told again."""
    if "broker-back" not in seen.marks:
        return untested("the broker was not away")
    since = seen.marks["broker-back"].heard
    until = next(
        (life.ended.heard for life in seen.lives if life.ended and life.ended.heard > since), len(seen.heard)
    )
    for one in seen.states:
        if since <= one.number < until and one.state is not None and one.state.online:
            return passed(f"{one}")
    return failed("no state said on line after the broker was back")


def twin(seen: AgentEvidence) -> Found:
    """A second box with its id is no reason to stop."""
    if "twin" not in seen.marks:
        return untested("no second box was played")
    mark, over = seen.marks["twin"], seen.marks.get("twin-over")
    rows = [
        one for one in seen.rows if one.row.tick > mark.at_ms and (over is None or one.row.tick < over.at_ms)
    ]
    if not rows:
        return failed("no row came after a state of another box")
    alarms = [
        record.code
        for _, (heard, record) in seen.records.items()
        if isinstance(record, Alarm)
        and record.raised
        and record.at >= mark.at_ms - 1000
        and heard.number >= mark.heard
    ]
    return passed(f"{len(rows)} rows went on; alarms told: {', '.join(sorted(set(alarms))) or 'none'}")


def after_kill(seen: AgentEvidence) -> Found:
    """What was sent and not confirmed at a kill -9 comes again, under its own epoch."""
    killed = [one for one in seen.holes if one.name == "killed"]
    if not killed:
        return untested("the program was not killed")
    begun = next(
        (life.begun.heard for n, life in enumerate(seen.lives) if n and seen.lives[n - 1].how == "kill"), None
    )
    if begun is None:
        return failed("it did not start again after the kill")
    faults = []
    for hole in killed:
        gone = seen.given_up(hole.epoch)
        again = seen.coverage(since=begun).get(hole.epoch, RangeSet())
        if any(gone.overlap(hole.first, hole.last)):
            faults.append(f"sequences of {hole.first}..{hole.last} of {hole.epoch} are given up")
        faults += [f"sequences {a}..{b} of {hole.epoch}" for a, b in again.missing(hole.first, hole.last)]
        before, after = _rows_of(seen, hole, 0, begun), _rows_of(seen, hole, begun, 1 << 60)
        faults += [
            f"sequence {n} of {hole.epoch} came with other content"
            for n in before
            if after.get(n, before[n]) != before[n]
        ]
    return judged(faults, len(killed), "ranges", "ranges were sent, not confirmed, and lost by a kill -9")


def _rows_of(seen: AgentEvidence, hole: Hole, since: int, until: int) -> dict[int, Row]:
    """Return the rows of a range in messages from a number to before another."""
    return {
        row.seq: row
        for one in seen.streams
        if since <= one.number < until and header(one).epoch == hole.epoch
        for row in header(one).rows
        if hole.first <= row.seq <= hole.last
    }


def gap_of_ends(seen: AgentEvidence) -> Found:
    """The ticks between two lives lie in a Gap that says how the first ended."""
    wanted = {"stop": "stopped", "kill": "crashed"}
    faults = []
    number = 0
    for n, life in enumerate(seen.lives[:-1]):
        start = seen.start_of(n + 1)
        earlier = seen.start_of(n)
        if start is None or earlier is None or life.how not in wanted or life.ended is None:
            continue
        if start[1] == earlier[1]:
            continue  # no epoch of its own: its records cannot be told from those before
        number += 1
        said = {
            record.reason
            for (epoch, _, _), (_, record) in seen.records.items()
            if epoch == start[1]
            and isinstance(record, Gap)
            and record.ticks
            and record.first_tick <= start[2].at
        }
        if wanted[life.how] not in said:
            faults.append(
                f"life {n + 1} ended by {life.how}, the next says {', '.join(sorted(said)) or 'nothing'}"
            )
    return judged(faults, number, "pauses between lives", "pauses have no Gap that says why")


def _came_again(seen: AgentEvidence, hole: Hole) -> bool:
    """Tell whether a range was sent again by itself: later books let everything come again."""
    until = seen.marks["holes-over"].heard if "holes-over" in seen.marks else 1 << 60
    again = seen.coverage(since=hole.since.heard, until=until)
    return again.get(hole.epoch, RangeSet()).covers(hole.first, hole.last)
