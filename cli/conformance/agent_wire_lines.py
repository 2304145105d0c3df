"""Lines about an agent's messages as such: signatures, forms, topics, states, epochs, sequences.

Pure functions over :class:`AgentEvidence`. Not here: values and ticks (`agent_field_lines`), what comes back
from a collector (`agent_return_lines`).
"""

from collections.abc import Iterator
from itertools import pairwise

import msgspec

from cli.conformance.agent_evidence import AgentEvidence, header, space_of
from cli.conformance.lines import Found, failed, judged, passed, untested
from cli.conformance.opened import Heard, Kind
from core.codec import MAX_SEALED, row_fault
from core.manifest import manifest_fault
from core.records import Alarm, Extension, ManifestRecord, Outcome, Start
from core.topics import Lane

_encode = msgspec.json.Encoder(order="sorted").encode


def comes_up(seen: AgentEvidence) -> Found:
    """The first start record and rows of every device."""
    if not seen.lives:
        return untested("the program was not started")
    found = seen.start_of(0)
    if found is None:
        return failed(
            f"no start record of this life came in {seen.ready_s:g} s",
            [f"{len(seen.heard)} messages came, {len(seen.streams)} of them of the stream and readable"],
        )
    devices = {one.group.device for one in seen.rows}
    lacking = sorted(seen.counts.keys() - devices)
    if lacking:
        return failed(f"no row of {', '.join(lacking)} came")
    return passed(f"{found[0]}, rows of {len(devices)} devices")


def signed(seen: AgentEvidence) -> Found:
    """Every message of the gateway has a signature that holds."""
    own = [one for one in seen.heard if one.kind is not Kind.OTHER]
    faults = [f"{one}: {one.signature_fault}" for one in own if one.signature_fault]
    return judged(faults, len(own), "messages", "messages have no signature that holds")


def decodes(seen: AgentEvidence) -> Found:
    """Every signed message is one of version 1, of this gateway, within the limits."""
    faults = []
    own = [one for one in seen.heard if one.kind is not Kind.OTHER and not one.signature_fault]
    for one in own:
        if one.form_fault:
            faults.append(f"{one}: {one.form_fault}")
            continue
        named = one.stream or one.state or one.manifest
        if named is not None and named.gateway != seen.gateway:
            faults.append(f"{one} names gateway {named.gateway}")
        if one.size > MAX_SEALED:
            faults.append(f"{one} has {one.size} bytes")
    return judged(faults, len(own), "messages", "messages are none of version 1")


def topics(seen: AgentEvidence) -> Found:
    """Topics are those of the grammar, and each record is on a lane of its space."""
    faults = [f"{one.topic} is none that a gateway writes to" for one in seen.heard if one.kind is Kind.OTHER]
    for one in seen.streams:
        control = space_of(one) is Lane.CONTROL
        stream = header(one)
        if control and stream.rows:
            faults.append(f"{one} has rows on lane control")
        for record in stream.records:
            if not isinstance(record, Extension) and isinstance(record, Alarm | Outcome) is not control:
                faults.append(f"{one}: a record {type(record).__name__.lower()} is not for this lane")
    return judged(faults, len(seen.heard), "messages", "messages or records are in the wrong place")


def published(seen: AgentEvidence) -> Found:
    """QoS 1, retained where the table says so, content in the payload alone."""
    faults = []
    own = [one for one in seen.heard if one.kind is not Kind.OTHER]
    for one in own:
        if one.qos != 1:
            faults.append(f"{one} was published with QoS {one.qos}")
        if one.retained is not (one.kind is not Kind.STREAM):
            faults.append(f"{one} was published {'' if one.retained else 'not '}retained")
        if one.unused:
            faults.append(f"{one} has {', '.join(one.unused)}")
    return judged(faults, len(own), "messages", "messages are not published as the table says")


def brings_certificate(seen: AgentEvidence) -> Found:
    """The certificate of the signing key is in messages with a start record."""
    with_start = [one for one in seen.streams if any(isinstance(r, Start) for r in header(one).records)]
    faults = [f"{one} has a start record and no certificate" for one in with_start if not one.brings_cert]
    return judged(faults, len(with_start), "messages with a start record", "bring no certificate")


def manifest_names(seen: AgentEvidence) -> Found:
    """A manifest is named by the hash of its bytes and contradicts nothing."""
    faults = []
    number = 0
    for one in seen.streams:
        for claimed, true in one.named:
            number += 1
            if claimed != true:
                faults.append(f"{one}: the manifest is called {claimed}, its bytes are {true}")
        for record in header(one).records:
            if isinstance(record, ManifestRecord):
                fault = manifest_fault(record.manifest)
                if record.manifest.gateway != seen.gateway:
                    fault = f"it is of gateway {record.manifest.gateway}"
                others = [g.group for g in record.manifest.groups if seen.entity not in g.entities()]
                if others:
                    fault = f"group {others[0]} never belongs to {seen.entity}"
                if fault:
                    faults.append(f"{one}: {fault}")
    return judged(faults, number, "manifest records", "manifests are not what they are called, or not usable")


def manifest_first(seen: AgentEvidence) -> Found:
    """The manifest of a row is the last one before it in its epoch."""
    told: dict[str, list[tuple[int, str]]] = {}
    for (epoch, _, seq), (_, record) in seen.records.items():
        if isinstance(record, ManifestRecord):
            told.setdefault(epoch, []).append((seq, record.hash))
    faults = []
    number = 0
    for one in seen.streams:
        stream = header(one)
        for row in stream.rows:
            number += 1
            before = [entry for entry in told.get(stream.epoch, []) if entry[0] < row.seq]
            if not before:
                faults.append(f"{one}: sequence {row.seq} has no manifest before it")
            elif max(before)[1] != stream.manifest:
                faults.append(
                    f"{one}: sequence {row.seq} is of {max(before)[1]}, the header names {stream.manifest}"
                )
    return judged(faults, number, "rows", "rows come without their manifest before them")


def rows_fit(seen: AgentEvidence) -> Found:
    """A row fits its group, and the entity owns it at its tick."""
    faults = []
    number = 0
    for one in seen.streams:
        stream = header(one)
        manifest = seen.manifests.get(stream.manifest)
        if manifest is None:
            continue
        groups = manifest.group_by_number()
        for row in stream.rows:
            number += 1
            group = groups.get(row.group)
            fault = "its group is not in the manifest" if group is None else row_fault(row, group)
            if fault is not None:
                faults.append(f"{one}: sequence {row.seq}: {fault}")
    return judged(faults, number, "rows", "rows do not fit their group")


def manifest_copy(seen: AgentEvidence) -> Found:
    """The retained copy is a manifest of the stream."""
    copies = [one for one in seen.heard if one.kind is Kind.MANIFEST and one.good]
    faults = [
        f"{one} is no manifest of the stream"
        for one in copies
        if one.manifest is not None and not one.names & seen.manifests.keys()
    ]
    if not copies:
        return failed("no copy of the manifest came on its topic")
    return judged(
        faults, len(copies), "copies of a manifest", "copies are of no manifest that the stream knows"
    )


# --- state


def says_online(seen: AgentEvidence) -> Found:
    """While it runs the state says so, with the epoch of the stream; a life without a start shows none."""
    faults = []
    judged_lives = 0
    for number, life in enumerate(seen.lives):
        start = seen.start_of(number)
        if start is None:
            continue
        judged_lives += 1
        end = life.ended.heard if life.ended is not None else len(seen.heard)
        said = [one for one in seen.states if life.begun.heard <= one.number < end]
        if not any(
            one.state is not None and one.state.online and one.state.epoch == start[1] for one in said
        ):
            faults.append(f"life {number + 1}: no state says that it is on line with epoch {start[1]}")
    return judged(faults, judged_lives, "lives", "lives were without a state that says on line")


def _offline_after(seen: AgentEvidence, how: str) -> Iterator[tuple[int, Heard | None]]:
    for number, life in enumerate(seen.lives):
        if life.how != how or life.ended is None:
            continue
        later = seen.lives[number + 1].begun.heard if number + 1 < len(seen.lives) else len(seen.heard)
        said = [one for one in seen.states if life.begun.heard <= one.number < later]
        yield number, said[-1] if said else None


def will(seen: AgentEvidence) -> Found:
    """After kill -9 the broker publishes the will: the same state, not on line."""
    faults = []
    number = 0
    for life, last in _offline_after(seen, "kill"):
        number += 1
        if last is None or last.state is None or last.state.online:
            faults.append(
                f"life {life + 1} was killed, and the last state "
                + (f"says on line: {last}" if last is not None else "is none at all")
            )
            continue
        own = {one.state.instance for one in seen.states if one.state is not None and one.state.online}
        if last.state.instance not in own:
            faults.append(f"{last}: the will names another instance than the state")
    return judged(faults, number, "kills", "kills left no will")


def farewell(seen: AgentEvidence) -> Found:
    """After an orderly end the retained state is off line."""
    faults = []
    number = 0
    for life, last in _offline_after(seen, "stop"):
        if last is None:
            continue  # it never said on line: that is another line's affair
        number += 1
        if last.state is None or last.state.online:
            faults.append(f"life {life + 1} ended in order, and the retained state still says on line")
    return judged(faults, number, "orderly ends", "orderly ends left a state that says on line")


def ends_in_order(seen: AgentEvidence) -> Found:
    """SIGTERM ends it, with exit code 0."""
    ended = [(n, life) for n, life in enumerate(seen.lives) if life.how == "stop"]
    faults = [
        f"life {n + 1} {'did not end' if life.exit_code is None else f'ended with {life.exit_code}'}"
        for n, life in ended
        if life.exit_code != 0
    ]
    died = [
        f"life {n} ended by itself, exit code {life.exit_code}: {life.words}"
        for n, life in enumerate(seen.lives, 1)
        if life.ended and not life.how
    ]
    return judged(died + faults, len(ended), "orderly ends", "ends were not in order")


# --- epochs and sequences


def new_epochs(seen: AgentEvidence) -> Found:
    """Each life has an epoch and an instance of its own."""
    found = [(number, seen.start_of(number)) for number in range(len(seen.lives))]
    epochs = [start[1] for _, start in found if start is not None]
    faults = [f"life {number + 1} has no start record" for number, start in found if start is None]
    faults += [
        f"epoch {one} is that of {epochs.count(one)} lives" for one in set(epochs) if epochs.count(one) > 1
    ]
    return judged(faults, len(epochs) if len(epochs) > 1 else 0, "lives", "lives have no epoch of their own")


def new_instances(seen: AgentEvidence) -> Found:
    """The instance of the state is new at each start."""
    by_life: list[set[str]] = []
    for life in seen.lives:
        end = life.ended.heard if life.ended is not None else len(seen.heard)
        said = [
            one.state for one in seen.states if life.begun.heard <= one.number < end and one.state is not None
        ]
        twin = seen.marks["twin"].at_ms if "twin" in seen.marks else -1
        by_life.append({one.instance for one in said if one.online and one.at != twin})
    faults = [f"life {n + 1} has no instance" for n, one in enumerate(by_life) if not one - {""}]
    for n, one in enumerate(by_life[1:], 1):
        if one & by_life[n - 1]:
            faults.append(f"life {n + 1} has the instance of the life before")
    return judged(
        faults, len(by_life) if len(by_life) > 1 else 0, "lives", "lives have no instance of their own"
    )


ENDED = {"": "first", "stop": "stop", "kill": "crash"}


def start_records(seen: AgentEvidence) -> Found:
    """Sequence 1 is the start record, and says how the life before ended."""
    faults = []
    number = 0
    for life in range(len(seen.lives)):
        found = seen.start_of(life)
        if found is None:
            faults.append(f"life {life + 1} has no start record")
            continue
        number += 1
        heard, _, start = found
        before = seen.lives[life - 1].how if life else ""
        if start.seq != 1:
            faults.append(f"{heard}: the start record has sequence {start.seq}")
        if start.ended != ENDED[before]:
            faults.append(
                f"{heard}: says the epoch before ended by {start.ended!r}, it was {ENDED[before]!r}"
            )
    return judged(faults, number, "start records", "starts are not told as they were")


def names_before(seen: AgentEvidence) -> Found:
    """A start record names the epoch before with its last sequence."""
    faults = []
    number = 0
    for life in range(1, len(seen.lives)):
        found, earlier = seen.start_of(life), seen.start_of(life - 1)
        if found is None or earlier is None:
            continue
        number += 1
        heard, _, start = found
        named = next((one for one in start.before if one.epoch == earlier[1]), None)
        if named is None:
            faults.append(f"{heard}: does not name epoch {earlier[1]} of the life before")
            continue
        for lane, last in ((Lane.LIVE, named.last), (Lane.CONTROL, named.control_last)):
            held = list(seen.coverage(lane).get(earlier[1], ()))
            if held and held[-1][1] > last:
                faults.append(
                    f"{heard}: says {earlier[1]} ended at {last} ({lane.value}), {held[-1][1]} was heard"
                )
    return judged(faults, number, "later start records", "start records do not close the epoch before")


def no_holes(seen: AgentEvidence) -> Found:
    """Coverage is whole from 1 to the last sequence of each epoch."""
    ends: dict[tuple[str, Lane], int] = {}
    for _, _, start in seen.starts:
        for before in start.before:
            if before.epoch in seen.coverage():
                ends[before.epoch, Lane.LIVE] = before.last
                ends[before.epoch, Lane.CONTROL] = before.control_last
    faults = []
    number = 0
    for lane in (Lane.LIVE, Lane.CONTROL):
        for epoch, held in seen.coverage(lane).items():
            number += 1
            last = max(ends.get((epoch, lane), 0), max(end for _, end in held))
            whole = held.copy()
            if lane is Lane.LIVE:
                whole.update(seen.given_up(epoch))
            name = "data" if lane is Lane.LIVE else "control"
            faults += [f"{name} sequences {a}..{b} of epoch {epoch}" for a, b in whole.missing(1, last)]
    return judged(faults, number, "sequences of epochs", "ranges never came and were not given up")


def one_content(seen: AgentEvidence) -> Found:
    """What comes again is what came before."""
    there: dict[tuple[str, Lane, int], tuple[bytes, Heard]] = {}
    faults = []
    again = 0
    for one in seen.streams:
        stream = header(one)
        content: dict[int, bytes] = {row.seq: _encode([stream.manifest, row]) for row in stream.rows}
        content |= {record.seq: _encode(record) for record in stream.records}
        for seq in range(stream.first, stream.last + 1):
            key = (stream.epoch, space_of(one), seq)
            body = content.get(seq, b"")
            before = there.setdefault(key, (body, one))
            if before[1] is not one:
                again += 1
                if before[0] != body:
                    faults.append(f"sequence {seq} of {one} is not what it was in {before[1]}")
    if faults:
        return failed(f"{len(faults)} identities came with other content", faults)
    if not there:
        return untested("no sequences came")
    if not again:
        return untested("no sequence came twice")
    return passed(f"{len(there)} identities, {again} arrivals again")


def in_order(seen: AgentEvidence) -> Found:
    """Rows of a group have ascending ticks in the order of their sequences, and none twice."""
    by_group: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for one in seen.rows:
        by_group.setdefault((one.epoch, one.key), []).append((one.row.seq, one.row.tick))
    faults = []
    for (epoch, key), pairs in by_group.items():
        pairs.sort()
        for (_, earlier), (seq, tick) in pairwise(pairs):
            if tick <= earlier:
                faults.append(f"{key}: sequence {seq} of epoch {epoch} has tick {tick} after tick {earlier}")
    return judged(faults, len(seen.rows), "rows", "rows are not in the order of their ticks")
