"""The torture: rounds of misfortune on one gateway whose data go on, judged from outside after each.

    python -m tests.torture [--rounds N] [--seed S] [--only KIND[,KIND]] [--json]

A plant, a gateway with two routes, mosquitto and two collectors run as processes (`cli.stand`). A round
plays one or two of the kinds of `tests.support.torture.misfortunes`, in an order that the seed gives; ten
rounds play every kind. Then peace is made, the books are given some seconds, and the judge looks.

What must hold after every round, whatever was played in it and before:

1.  *Nothing lost.* Every reading that was ever seen durable in the store is in the books of every entity
    that owns it. The store is looked at after each kill and before each change from outside. One
    exception: rows that stood in a store in whose place an older copy was put, and that had not left by
    then. Nobody can send them any more; they lie in a Gap (3) and are counted as `taken`.
2.  *Once, unchanged, in order.* No row stands twice in some books, by identity, by tick or by the count
    of a counter device; none differs from what the store held; no identity came with other content; rows
    of a group are in order, save where the gateway tells of its clock. After an older copy of the store
    this holds too: a new life never uses an identity of the life that was taken back.
3.  *Every tick is a row or in a Gap*, in the stores and in the books of each entity: between two rows
    that follow each other in the gateway's own order lie exactly the ticks of the Gaps told between them
    (`tests.support.torture.strict`), also after a clock that jumped: ticks lived twice are rows lived
    twice, a jump ahead is one Gap. A Gap never lies over a row, save over rows that were taken with a
    store.
4.  *Every poll that a counter device answered is in the books*, or there is a Gap tick of its group for
    it between its neighbours. A row that says why it has no value counts as well: an answer may come too
    late for its poll. Only the polls after the last row are not asked for while the gateway runs; after
    the orderly end of the last round there may be one under way.
5.  *A kill takes no more than was measured*: with flushes of a second, the newest committed row is at
    most the bound older than the kill that the agent had published before it.
6.  *Nobody ends by itself*, and each kind must have bitten: a full disk is full only when the store
    stopped growing.

By kind, what cannot be saved and so must be told: kills, frozen parts and full disks take polls that were
not committed (Gap); a broker without memory, small queues and older books take nothing; an older store
takes what was not delivered (Gap, `taken`); a clock takes nothing but the ticks that never were (Gap);
before the certificates' time the link may be down, and everything arrives when the clock is right again.

Progress goes to stdout, one line a round. The last line is JSON with `rounds, committed, lost,
duplicates, unreported_gaps, ok` and more. Exit code 0 only when everything held, 1 when not, 2 where it
cannot run. A kind for which the machine lacks something is left out, and the run says so. After a failure
the directory stays.

Not here: power cuts (`tests.powercut`), a quota and damaged files (tests of the store).
"""

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cli.evidence import BooksSeen, PlantSeen, read_plant
from cli.judge import Verdict, decide
from core.errors import ConfigError, PorticoError
from tests.support.torture import strict
from tests.support.torture.ground import ENTITIES, GATEWAY, Ground
from tests.support.torture.misfortunes import KINDS, Kind, NoBite

RUNNING: Final = 1_000
"""Counts after a counter's last row that are not asked for while the gateway runs."""
FOR_ALL: Final = 10
"""Rounds in which every kind comes, when there are so many."""
WORDS_SHOWN: Final = 12


@dataclass(slots=True)
class Findings:
    """What was found so far; the last look counts, faults stay."""

    seed: int
    rounds: int = 0
    seconds: float = 0.0
    verdict: Verdict | None = None
    strict: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    played: Counter[str] = field(default_factory=Counter)
    left_out: dict[str, str] = field(default_factory=dict)
    settle_max_s: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether everything held, and there was something to hold."""
        seen = self.verdict
        return seen is not None and seen.committed > 0 and seen.counts_answered > 0 and not self.faults

    def as_dict(self) -> dict[str, object]:
        """Return it as plain values, for the last line."""
        seen = self.verdict
        unreported = max(seen.unreported_gaps if seen else 0, self.strict[strict.UNREPORTED])
        return {
            "rounds": self.rounds,
            "committed": seen.committed if seen else 0,
            # A gateway here has no reason to say that it lost anything by itself.
            "lost": seen.lost + seen.gone if seen else 0,
            "duplicates": seen.duplicates if seen else 0,
            "unreported_gaps": unreported,
            "ok": self.ok,
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "kinds": dict(sorted(self.played.items())),
            "left_out": self.left_out,
            "counts_answered": seen.counts_answered if seen else 0,
            "counts_unproved": self.strict[strict.UNPROVED],
            "gap_ticks": seen.gaps if seen else 0,
            "taken": seen.taken if seen else 0,
            "redelivered": seen.redelivered if seen else 0,
            "conflicts": seen.conflicts if seen else 0,
            "changed": seen.changed if seen else 0,
            "disordered_rows": seen.disordered_rows if seen else 0,
            "settle_max_s": round(self.settle_max_s, 1),
            "faults": self.faults[:WORDS_SHOWN],
        }


def deal(rounds: int, kinds: Sequence[Kind], rng: random.Random) -> list[list[Kind]]:
    """Return one or two kinds for each round; none comes again before all came, which ten rounds allow."""
    share = min(rounds, FOR_ALL)
    doubles = min(max(0, len(kinds) - share), share)
    sizes = [1 + (number % share < doubles) for number in range(rounds)]
    rng.shuffle(sizes)
    hands: list[list[Kind]] = []
    deck: list[Kind] = []
    for size in sizes:
        hand: list[Kind] = []
        while len(hand) < min(size, len(kinds)):
            if not deck:
                deck = list(kinds)
                rng.shuffle(deck)
            hand.append(deck.pop())
        hands.append(hand)
    return hands


def look(ground: Ground, findings: Findings, in_flight: int) -> list[str]:
    """Judge what the stores, the books and the plant's log hold now; return what does not hold."""
    books = ground.books()
    plant = read_plant(ground.stand.plant_log)
    for one in books:
        # What was confirmed may have left a full store between two looks; that it was sent shows it.
        for row in one.rows:
            ground.evidence.rows.setdefault(row.id, row)
    verdict = decide(ground.evidence, books, plant, in_flight=in_flight)
    findings.verdict = verdict
    findings.strict = Counter()
    words = [fault for fault in verdict.faults if not _judged_here(fault)]
    if verdict.gone:
        words.append(f"{verdict.gone} readings are gone by the gateway's own word")
    for fault in _strict(ground, books, plant, in_flight):
        findings.strict[fault.kind] += fault.many
        words.append(f"{fault.kind}: {fault.words}")
    words += ground.unexpected
    ground.unexpected.clear()
    return words


def _judged_here(fault: str) -> bool:
    # The strict walk knows rows that say why they have no value, and holes that a year's Gap would hide.
    return "answered polls are unproved" in fault


def _strict(ground: Ground, books: list[BooksSeen], plant: PlantSeen, in_flight: int) -> list[strict.Fault]:
    seen = ground.evidence
    told = strict.Told(
        {GATEWAY: seen.epochs(GATEWAY)}, frozenset(seen.steps), seen.starts, frozenset(seen.taken)
    )
    found = list(strict.faults(seen.rows.values(), seen.gaps.values(), told, {}))
    for one in books:
        rows = {row.id: row for row in one.rows}
        gaps = {gap.id: gap for gap in one.told.gaps}
        found += strict.faults(rows.values(), gaps.values(), told, plant.counts, in_flight)
    return found


def play(ground: Ground, kinds: Sequence[Kind], findings: Findings) -> list[str]:
    """Play one round, make peace, and judge."""
    words: list[str] = []
    for kind in kinds:
        ground.note(f"--- {kind.name}")
        try:
            kind.play(ground)
        except NoBite as error:
            words.append(f"{kind.name} did not bite: {error}")
        except PorticoError as error:
            words.append(f"{kind.name}: {error}")
        findings.played[kind.name] += 1
    ground.note("--- peace")
    ground.make_peace()
    findings.settle_max_s = max(findings.settle_max_s, ground.settle())
    return words + look(ground, findings, RUNNING)


def finish(ground: Ground, findings: Findings) -> list[str]:
    """End the gateway in order, wait for its last rows, and judge once more, now to the last poll."""
    ground.note("--- the end")
    ground.stop_agent()
    ground.settle(running=False)
    return look(ground, findings, 1)


def torture(directory: Path, rounds: int, seed: int, only: Sequence[str] = (), say: bool = True) -> Findings:
    """Play so many rounds in a directory, to the first one after which something does not hold."""
    rng = random.Random(seed)
    begun = time.monotonic()
    findings = Findings(seed)
    ground = Ground(directory, rng)
    kinds = []
    for kind in KINDS:
        lacking = kind.lacks(ground.means)
        if only and kind.name not in only:
            continue
        if lacking:
            findings.left_out[kind.name] = lacking
        else:
            kinds.append(kind)
    with ground:
        for number, hand in enumerate(deal(rounds, kinds, rng), 1):
            at = time.monotonic()
            try:
                words = play(ground, hand, findings)
                if number == rounds and not words:
                    words = finish(ground, findings)
            except PorticoError as error:
                words = [str(error)]
            findings.rounds = number
            findings.faults += words
            findings.seconds = time.monotonic() - begun
            if say:
                _tell(number, rounds, hand, time.monotonic() - at, findings)
            if words:
                break
        (directory / "story.txt").write_text("\n".join([*ground.said, *findings.faults]) + "\n")
    return findings


def _tell(number: int, rounds: int, hand: Sequence[Kind], seconds: float, findings: Findings) -> None:
    seen = findings.as_dict()
    names = " + ".join(kind.name for kind in hand)
    held = "held" if not findings.faults else "DID NOT HOLD"
    print(
        f"round {number}/{rounds} {names}: {seconds:.0f} s, committed {seen['committed']}, "
        f"lost {seen['lost']}, duplicates {seen['duplicates']}, unreported {seen['unreported_gaps']}, "
        f"taken {seen['taken']}: {held}",
        flush=True,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it from a command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.torture", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--rounds", type=int, default=10, help="rounds (default 10)")
    parser.add_argument("--seed", type=int, default=None, help="order and instants; default: by chance")
    parser.add_argument("--only", default="", help=f"kinds, by comma: {', '.join(k.name for k in KINDS)}")
    parser.add_argument(
        "--json", action="store_true", help="nothing but JSON on the last line (always there)"
    )
    options = parser.parse_args(arguments)
    only = [name for name in options.only.split(",") if name]
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    unknown = set(only) - {kind.name for kind in KINDS}
    if unknown:
        parser.error(f"there is no kind {min(unknown)}")
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 31)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that everything is taken down on the way out
    print(f"seed {seed}, entities {', '.join(ENTITIES)}, gateway {GATEWAY}", flush=True)
    directory = Path(tempfile.mkdtemp(prefix="portico-torture-"))
    try:
        findings = torture(directory, options.rounds, seed, only)
    except ConfigError as error:
        shutil.rmtree(directory, ignore_errors=True)
        print(json.dumps({"ok": None, "reason": str(error)}) if options.json else error)
        return 2
    for name, reason in findings.left_out.items():
        print(f"left out: {name}: {reason}")
    for fault in findings.faults[:WORDS_SHOWN]:
        print(f"fault: {fault}")
    if findings.ok:
        shutil.rmtree(directory, ignore_errors=True)
    else:
        again = f"--rounds {options.rounds} --seed {seed}" + (f" --only {options.only}" if only else "")
        print(f"kept: {directory} (story.txt tells what was done)")
        print(f"again: python -m tests.torture {again}")
    print(json.dumps(findings.as_dict()))
    return 0 if findings.ok else 1


if __name__ == "__main__":
    sys.exit(main())
