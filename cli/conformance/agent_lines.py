"""The lines of an agent's conformance report: ids, sentences, where each is derived from, and who judges.

An id never changes its meaning; a line that is withdrawn leaves a hole. docs/conformance.md has the same
table, and a test keeps both equal.
"""

from typing import Final

from cli.conformance import agent_field_lines as field
from cli.conformance import agent_return_lines as back
from cli.conformance import agent_wire_lines as wire
from cli.conformance.agent_evidence import AgentEvidence
from cli.conformance.lines import Line

FAULTS: Final = "device faults"
HOLES: Final = "bad confirmations"
BOOKS: Final = "new books"
ASK: Final = "questions"
OUTAGE: Final = "outage of the broker"
TWIN: Final = "second box"
STOP: Final = "orderly end"
KILL: Final = "kill -9"
STEPS: Final = (FAULTS, HOLES, BOOKS, ASK, OUTAGE, TWIN, STOP, KILL)
"""Parts of the scenario beside the start and normal polling, in the order in which they are played."""

LIVES: Final = frozenset({STOP, KILL})

AgentLine = Line[AgentEvidence]


def _line(id_: str, sentence: str, source: str, judge: object, *steps: str) -> AgentLine:
    return Line(id_, sentence, source, judge, frozenset(steps))  # type: ignore[arg-type]


AGENT_LINES: Final[tuple[AgentLine, ...]] = (
    _line("A-01", "It comes up, and rows of every device arrive.", "start", wire.comes_up),
    _line(
        "A-02",
        "Every message is signed by the gateway's key for the topic it is on.",
        "The sealed message",
        wire.signed,
    ),
    _line(
        "A-03",
        "Every message decodes strictly as version 1, of this gateway, within the limits.",
        "Limits, Growth",
        wire.decodes,
    ),
    _line(
        "A-04",
        "Topics are those of the grammar, and each record is on a lane of its space.",
        "Transport",
        wire.topics,
    ),
    _line(
        "A-05",
        "QoS 1, content in the payload alone; states and manifests are retained, streams not.",
        "Transport",
        wire.published,
    ),
    _line(
        "A-06",
        "A message with a start record brings the certificate of the signing key.",
        "Whose signature",
        wire.brings_certificate,
    ),
    _line(
        "A-07",
        "A manifest is named by the hash of its bytes, is usable, and holds nothing of others.",
        "manifest",
        wire.manifest_names,
    ),
    _line(
        "A-08",
        "A manifest travels before the first row that needs it, and the header of a row names it.",
        "manifest",
        wire.manifest_first,
    ),
    _line("A-09", "A row fits its group: values, offsets, kinds, a tick on the grid.", "row", wire.rows_fit),
    _line(
        "A-10",
        "The retained copy of the manifest is one of the stream.",
        "State and manifest copy",
        wire.manifest_copy,
    ),
    _line(
        "A-11",
        "While it runs its retained state says on line, with the epoch of the stream.",
        "State and manifest copy",
        wire.says_online,
    ),
    _line(
        "A-12",
        "After a kill -9 the retained state says off line: the will, of the same instance.",
        "State and manifest copy",
        wire.will,
        KILL,
    ),
    _line(
        "A-13",
        "After an orderly end the retained state says off line.",
        "State and manifest copy",
        wire.farewell,
        STOP,
    ),
    _line(
        "A-14",
        "SIGTERM ends it in order, with exit code 0, and it never ends by itself.",
        "docs/conformance.md",
        wire.ends_in_order,
    ),
    _line("A-20", "Each start has an epoch of its own.", "Stream messages", wire.new_epochs, *LIVES),
    _line(
        "A-21",
        "Each start has an instance of its own in the state.",
        "State and manifest copy",
        wire.new_instances,
        *LIVES,
    ),
    _line(
        "A-22",
        "Sequence 1 of an epoch is the start record, and says how the epoch before ended.",
        "start",
        wire.start_records,
    ),
    _line(
        "A-23",
        "A start record names the epoch before, with a last sequence not below what was sent of it.",
        "start",
        wire.names_before,
        *LIVES,
    ),
    _line(
        "A-24",
        "The coverage of each epoch is whole from 1 on, save what is said to be gone.",
        "Coverage",
        wire.no_holes,
    ),
    _line(
        "A-25",
        "What comes again under an identity is what came before.",
        "Coverage",
        wire.one_content,
        BOOKS,
    ),
    _line(
        "A-26",
        "Rows of a group have ascending ticks in the order of their sequences, none twice.",
        "Order",
        wire.in_order,
    ),
    _line(
        "A-30",
        "Every tick between the first and the last row of a group is a row or in a Gap, over all lives.",
        "gap",
        field.every_tick,
    ),
    _line(
        "A-31",
        "Offsets are the time from the tick to the answer, and no answer is after the message that tells it.",
        "row",
        field.on_grid,
    ),
    _line("A-32", "A value is in the row of the tick at which the device gave it.", "row", field.of_its_tick),
    _line(
        "A-33",
        "One answer of a device is in one row: an old value never gets a new tick.",
        "row",
        field.each_once,
    ),
    _line("A-34", "A value is one that the device gave.", "row", field.given),
    _line(
        "A-35",
        "An answer that comes after its time is not taken for the next one.",
        "quality.md",
        field.late_answer,
        FAULTS,
    ),
    _line(
        "A-36",
        "Garbage, half frames, another unit's and an earlier answer give no value.",
        "quality.md",
        field.garbled_answer,
        FAULTS,
    ),
    _line(
        "A-37",
        "Of a silent device there is no value, but a reason, or a Gap.",
        "row, gap",
        field.silent,
        FAULTS,
    ),
    _line("A-38", "Of a device that refuses there is no value, but a reason.", "row", field.refused, FAULTS),
    _line(
        "A-39",
        "What has no value has a reason, and what has a value no reason that means none.",
        "row",
        field.reasons_fit,
    ),
    _line(
        "A-40",
        "A device that is well misses at most one tick in a row while others fail.",
        "docs/architecture.md",
        field.neighbours,
        FAULTS,
    ),
    _line("A-41", "After a fault a device has values again.", "docs/architecture.md", field.recovers, FAULTS),
    _line(
        "A-42",
        "Values are exact to the last digit: tenths, integers beyond 2^53, floats, text.",
        "row",
        field.exact,
    ),
    _line("A-43", "Units are SI symbols, and counters are told as cumulative.", "manifest", field.units),
    _line(
        "A-50",
        "It takes confirmations, names the last one in its headers, and none twice or backwards.",
        "Confirmation",
        back.takes_confirmations,
    ),
    _line(
        "A-51",
        "It takes no confirmation by a key that it does not know, and asks for the certificate.",
        "Whose signature",
        back.unknown_key,
    ),
    _line(
        "A-52",
        "A confirmation with a false signature, or by a key that is not the entity's, changes nothing.",
        "Confirmation",
        back.bad_signature,
        HOLES,
    ),
    _line(
        "A-53",
        "A confirmation that was made for another gateway changes nothing.",
        "The sealed message",
        back.moved,
        HOLES,
    ),
    _line(
        "A-54",
        "A signed confirmation that is none of version 1 changes nothing.",
        "Growth",
        back.malformed,
        HOLES,
    ),
    _line("A-55", "A retained confirmation or question is ignored.", "Confirmation", back.retained),
    _line(
        "A-56",
        "A confirmation of earlier books, or an earlier one again, is ignored.",
        "Confirmation",
        back.earlier_books,
        HOLES,
    ),
    _line(
        "A-57",
        "What is not confirmed is sent again, whatever the broker acknowledged.",
        "Flow control and resending",
        back.sends_again,
        HOLES,
    ),
    _line(
        "A-58",
        "What only bad confirmations claimed is sent again.",
        "Confirmation",
        back.forged_claims,
        HOLES,
    ),
    _line(
        "A-59", "A confirmation with a member x counts as if it were not there.", "Growth", back.grows, HOLES
    ),
    _line(
        "A-60",
        "Later books void what was confirmed: all that it still has is sent again.",
        "Confirmation",
        back.later_books,
        BOOKS,
    ),
    _line(
        "A-61",
        "Sequences that are asked for come again, on lane backlog.",
        "Question",
        back.answers_ranges,
        ASK,
    ),
    _line(
        "A-62",
        "A manifest that is asked for by name comes in the member manifests.",
        "Question",
        back.answers_manifests,
        ASK,
    ),
    _line("A-63", "The certificate comes when it is asked for.", "Question", back.answers_certificate, ASK),
    _line(
        "A-70",
        "What is polled while the broker is away arrives when it is back.",
        "Flow control and resending",
        back.outage,
        OUTAGE,
    ),
    _line(
        "A-71",
        "After an outage of the broker the state is told again.",
        "State and manifest copy",
        back.online_again,
        OUTAGE,
    ),
    _line(
        "A-72",
        "A state of a second box with its id is no reason to stop.",
        "State and manifest copy",
        back.twin,
        TWIN,
    ),
    _line(
        "A-73",
        "What was sent and not confirmed at a kill -9 comes again, under its own epoch.",
        "In one minute",
        back.after_kill,
        KILL,
    ),
    _line(
        "A-74",
        "The ticks between two lives lie in a Gap that says how the first one ended.",
        "gap",
        back.gap_of_ends,
        *LIVES,
    ),
)
