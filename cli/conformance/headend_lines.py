"""The lines of a head-end's conformance report: ids, sentences, where each is derived from, and who judges.

An id never changes its meaning; a line that is withdrawn leaves a hole. docs/conformance.md has the same
table, and a test keeps both equal.
"""

from collections.abc import Callable
from typing import Final

from cli.conformance import headend_answer_lines as say
from cli.conformance import headend_book_lines as books
from cli.conformance.headend_evidence import HeadendEvidence
from cli.conformance.lines import Found, Line

ORDER: Final = "order"
BAD: Final = "bad messages"
MISSING: Final = "missing manifests and certificates"
EPOCHS: Final = "epochs, lanes and growth"
CONFLICT: Final = "other content"
OUTAGE: Final = "outage of the broker"
KILL: Final = "kill -9"
STOP: Final = "orderly end"
RESTORED: Final = "books that went back"
STEPS: Final = (ORDER, BAD, MISSING, EPOCHS, CONFLICT, OUTAGE, KILL, STOP, RESTORED)
"""Parts of the scenario after the first message, in the order in which they are played."""
BOOKS: Final = "a look into the books"
"""Not a part of the scenario: it needs a command that shows readings."""

HeadendLine = Line[HeadendEvidence]


def _line(
    id_: str, sentence: str, source: str, judge: Callable[[HeadendEvidence], Found], *steps: str
) -> HeadendLine:
    return Line(id_, sentence, source, judge, frozenset(steps))


HEADEND_LINES: Final[tuple[HeadendLine, ...]] = (
    _line(
        "H-01",
        "It comes up, and confirms a first message with start, manifest and rows.",
        "start",
        say.comes_up,
    ),
    _line(
        "H-02",
        "Every confirmation and question is signed by the entity's collector key for the topic it is on.",
        "Whose signature",
        say.signed,
    ),
    _line(
        "H-03",
        "Every confirmation and question decodes strictly as version 1.",
        "Confirmation, Question",
        say.decodes,
    ),
    _line(
        "H-04",
        "They have QoS 1, are never retained, and have their content in the payload alone.",
        "Transport",
        say.published,
    ),
    _line(
        "H-05",
        "The first confirmation after a gateway brought its certificate brings the collector's.",
        "Whose signature",
        say.introduces,
    ),
    _line(
        "H-06",
        "n ascends for a gateway, over lives, confirmations and questions together.",
        "Confirmation; A collector 8",
        say.ascends,
        ORDER,
    ),
    _line(
        "H-07",
        "The id of the books stays over kill -9 and an orderly end.",
        "A collector 9",
        say.same_books,
        KILL,
        STOP,
    ),
    _line("H-10", "Every message that fits is confirmed in the end.", "A collector 5", say.all_confirmed),
    _line(
        "H-11",
        "A confirmation comes within the seconds that the gateway asked for.",
        "A collector 5",
        say.in_time,
        ORDER,
    ),
    _line(
        "H-12",
        "Nothing is confirmed of epochs of which nothing was sent.",
        "A collector 13",
        say.never_invents,
    ),
    _line(
        "H-13",
        "Sequences that no message covered are not confirmed.",
        "Coverage; Confirmation",
        say.no_holes,
        ORDER,
    ),
    _line(
        "H-14",
        "A message that is known already is confirmed again.",
        "A collector 5",
        say.confirmed_again,
        ORDER,
    ),
    _line(
        "H-15",
        "Messages in any order, and with coverages that overlap, are confirmed.",
        "Order; Coverage",
        say.out_of_order,
        ORDER,
    ),
    _line(
        "H-16",
        "Control sequences are confirmed as control, in a space of their own.",
        "Identity",
        say.own_spaces,
        EPOCHS,
    ),
    _line(
        "H-17",
        "Each epoch has sequences of its own, and each is confirmed.",
        "Identity",
        say.own_epochs,
        EPOCHS,
    ),
    _line(
        "H-18",
        "A message that covers and holds nothing is confirmed.",
        "Coverage",
        say.empty_coverage,
        EPOCHS,
    ),
    _line(
        "H-19",
        "Records of type x, members x and reasons that it does not know are taken and confirmed.",
        "A collector 10",
        say.growth,
        EPOCHS,
    ),
    _line(
        "H-20",
        "A message whose signature does not hold is not confirmed.",
        "A collector 1",
        say.refuses("bad-signature"),
        BAD,
    ),
    _line(
        "H-21",
        "A message by a key that is not the gateway's for streams is not confirmed.",
        "Whose signature",
        say.refuses("other-key"),
        BAD,
    ),
    _line(
        "H-22",
        "A message that was made for another topic is not confirmed.",
        "The sealed message",
        say.refuses("moved"),
        BAD,
    ),
    _line(
        "H-23",
        "A message whose header names another gateway than its topic is not confirmed.",
        "A collector 2",
        say.refuses("other-header"),
        BAD,
    ),
    _line(
        "H-24",
        "A message by a key whose certificate is over is not confirmed, whatever instant it names.",
        "A collector 14",
        say.refuses("expired"),
        BAD,
    ),
    _line(
        "H-25",
        "A message of version 2, or with members that version 1 does not know, is not confirmed.",
        "Growth",
        say.refuses("version-2", "unknown-member"),
        BAD,
    ),
    _line(
        "H-26",
        "What is no message, no JSON, or too large when it is decompressed, is not confirmed.",
        "Limits",
        say.refuses("undecodable", "bomb"),
        BAD,
    ),
    _line(
        "H-27",
        "A message with one row or record that does not fit is not confirmed, whole as it is.",
        "A collector 2, 3",
        say.refuses("bad-row"),
        BAD,
    ),
    _line(
        "H-28",
        "A message with a row of a tick at which the entity did not own the data is not confirmed.",
        "A collector 2",
        say.refuses("not-owned"),
        BAD,
    ),
    _line(
        "H-29",
        "Rows on lane control and alarms on lane live are not confirmed.",
        "Transport",
        say.refuses("wrong-lane"),
        BAD,
    ),
    _line(
        "H-30",
        "A manifest that is not what its name says is not confirmed.",
        "manifest",
        say.refuses("bad-manifest"),
        BAD,
    ),
    _line(
        "H-31",
        "The right message after a refused one is taken.",
        "A collector 15",
        say.takes_good_after_bad,
        BAD,
    ),
    _line(
        "H-32",
        "A manifest is known by the hash of its bytes, in whatever order its members stand.",
        "manifest",
        say.own_manifest_bytes,
        MISSING,
    ),
    _line(
        "H-40",
        "A message without its manifest is left unconfirmed, and the manifest asked for by name.",
        "A collector 7",
        say.asks_manifest,
        MISSING,
    ),
    _line(
        "H-41",
        "With the manifest in the member manifests it is confirmed.",
        "Question",
        say.takes_manifest,
        MISSING,
    ),
    _line(
        "H-42",
        "A message by an unknown key is left unconfirmed, and the certificate is asked for.",
        "Whose signature",
        say.asks_certificate,
        MISSING,
    ),
    _line("H-43", "With the certificate it is confirmed.", "Whose signature", say.takes_certificate, MISSING),
    _line(
        "H-44",
        "Its own certificate comes when a gateway wants it.",
        "Whose signature",
        say.gives_certificate,
        MISSING,
    ),
    _line(
        "H-50",
        "What was not confirmed before a kill -9 is confirmed when it comes again.",
        "A collector 4",
        say.goes_on_after_kill,
        KILL,
    ),
    _line(
        "H-51",
        "After an outage of the broker it goes on by itself.",
        "docs/conformance.md",
        say.goes_on_after_outage,
        OUTAGE,
    ),
    _line(
        "H-52",
        "SIGTERM ends it in order, with exit code 0, and it never ends by itself.",
        "docs/conformance.md",
        say.ends_in_order,
    ),
    _line(
        "H-53",
        "After an orderly end and a new start it goes on.",
        "docs/conformance.md",
        say.goes_on_after_stop,
        STOP,
    ),
    _line(
        "H-54",
        "Books that are proved to have gone back take a new id, later than the one named.",
        "A collector 9",
        say.renews_books,
        RESTORED,
    ),
    _line(
        "H-60",
        "Each reading of a confirmed message is in the books, and once.",
        "A collector 3, 5, 6",
        books.each_once,
        BOOKS,
    ),
    _line("H-61", "Values in the books are exact to the last digit.", "row", books.exact, BOOKS),
    _line(
        "H-62",
        "Reasons are kept, also those it does not know, and a reading with one is not good.",
        "A collector 10",
        books.reasons_kept,
        BOOKS,
        EPOCHS,
    ),
    _line(
        "H-63",
        "Nothing of a message that was refused is in the books.",
        "A collector 3",
        books.nothing_refused,
        BOOKS,
        BAD,
    ),
    _line(
        "H-64",
        "The same identity with other content does not overwrite what was there.",
        "A collector 6",
        books.first_stays,
        BOOKS,
        CONFLICT,
    ),
    _line(
        "H-65",
        "Readings that were confirmed before a kill -9 are in the books after it.",
        "A collector 4, 5",
        books.outlives_kill,
        BOOKS,
        KILL,
    ),
)
