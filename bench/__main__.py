"""`python -m bench`: how fast, how large, how soon; `make bench ARGS="--json"`.

Runs the parts one after the other and writes RESULTS.md; the last line of stdout is one JSON object. The
household runs beside them, because its minutes cannot be hurried. All that a run starts is ended by its
own process id, whatever happens. Not here: what is measured and how (the modules beside this one).
"""

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from bench import machine, report
from bench.backlog import measure_backlog, prepare
from bench.chain import ROOT, ChainPlan, Site
from bench.command import READINGS, measure_commands
from bench.controlreport import ControlResults
from bench.fieldreport import FieldResults
from bench.fleet import measure_fleets
from bench.household import CONFIRMED_MINUTES, Households
from bench.plans import measure_plans
from bench.requests import measure_requests
from bench.rulings import ENTITIES, ROWS, measure_decisions, measure_refresh
from bench.serialline import measure as measure_serial
from bench.serialline import told as told_line
from bench.starts import STARTS, measure_starts
from bench.steady import MORE_DEVICES, Setting, rounds, search
from core.errors import PorticoError

PARTS = (
    *("rates", "highest", "start", "backlog", "household", "serial", "plans", "requests", "fleet"),
    *("decisions", "command", "refresh"),
)
FULL_READINGS = 5_000_000
SHORT_S = 5.0
"""With shorter windows the policy that is taken has a tenth of the entities and grants."""
RESULTS = ROOT / "bench" / "RESULTS.md"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what was asked for; return the exit code."""
    options = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, _ended)
    begun = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - begun:5.0f} s] {text}", file=sys.stderr, flush=True)

    parent = options.directory or ROOT / "var"
    parent.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="bench-", dir=parent))
    try:
        results = _measured(options, directory, say)
        described = machine.described(directory)
    except PorticoError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("ended before it was done", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    if options.results is not None:
        command = _command(options)
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        report.write(
            options.results,
            report.markdown(results, described, now, command, (options.load, machine.load())),
        )
        say(f"written: {options.results.name}")
    _print(results, options.as_json)
    return 0


def _command(options: argparse.Namespace) -> str:
    """Return how the run was asked for, without any path of this machine."""
    parts = [] if set(options.only) == set(PARTS) else ["--only", *options.only]
    parts += ["--quick"] if options.quick else []
    parts += [f"--seconds {options.seconds:g}"] if options.seconds else []
    parts += [f"--rounds {options.rounds}"] if options.rounds else []
    return " ".join(["python -m bench", *parts])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure speed and size of the whole chain, and write bench/RESULTS.md.",
        epilog='Example: make bench ARGS="--json", or for a look: make bench ARGS="--quick --only rates"',
    )
    parser.add_argument("--json", dest="as_json", action="store_true", help="print nothing but the last line")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART",
                        help=f"of {', '.join(PARTS)}")  # fmt: skip
    parser.add_argument(
        "--quick", action="store_true", help="one short round, smaller backlog; no result file"
    )
    parser.add_argument("--seconds", type=float, help="length of a window (30, quick: 10)")
    parser.add_argument("--rounds", type=int, help="interleaved rounds (3, quick: 1)")
    parser.add_argument(
        "--every-ms", type=int, default=None, help="only one rate: 50 devices so often, counter"
    )
    parser.add_argument("--results", type=Path, help="where to write the results (bench/RESULTS.md)")
    parser.add_argument("--directory", type=Path, help="a directory on the disk to measure (var)")
    parser.set_defaults(load=machine.load())
    return parser


def _measured(options: argparse.Namespace, directory: Path, say: Callable[[str], None]) -> report.Results:
    quick: bool = options.quick
    seconds: float = options.seconds or (10.0 if quick else 30.0)
    number: int = options.rounds or (1 if quick else 3)
    if options.results is None and not quick and set(options.only) == set(PARTS) and not options.every_ms:
        options.results = RESULTS
    results = report.Results()
    site = Site(directory)
    if options.every_ms:
        results.slow = Setting("one rate", ChainPlan(options.every_ms), seconds)
        rounds(site, [results.slow], number, say)
        return results
    with ExitStack() as stack:
        households = None
        if "household" in options.only:
            households = stack.enter_context(Households(directory / "household"))
        if "rates" in options.only:
            results.slow = Setting("2,500/s, counter", ChainPlan(1000), seconds)
            results.fast = Setting("250,000/s, counter", ChainPlan(10), seconds)
            results.both = Setting("250,000/s, counter and collector", ChainPlan(10, collector=True), seconds)
            rounds(site, [results.slow, results.fast, results.both], number, say)
        if "highest" in options.only:
            steps = MORE_DEVICES[1:] if "rates" in options.only else MORE_DEVICES
            step_s = seconds / 3 if not quick else 5.0
            results.highest = search(site, "highest, counter", steps, False, step_s, seconds, say)
            results.highest_books = search(site, "highest, collector", steps, True, step_s, seconds, say)
        readings = FULL_READINGS // 5 if quick else FULL_READINGS
        if "start" in options.only:
            results.starts = measure_starts(site, None, 3 if quick else STARTS, "start", say)
        if "backlog" in options.only:
            stores = prepare(site, readings, say)
            if "start" in options.only:
                results.starts_full = measure_starts(
                    site, stores.slow, 3 if quick else STARTS, "start with a backlog", say
                )
            results.backlog = measure_backlog(site, stores, readings, number, 5.0 if quick else 8.0, say)
        _measure_field(options.only, results.field, site, seconds, number, say)
        _measure_control(options.only, results.control, site, seconds, number, say)
        if households is not None:
            households.wait_minutes(1 if quick else CONFIRMED_MINUTES, say)
            results.households = households.results()
    return results


def _measure_field(
    only: Collection[str],
    results: FieldResults,
    site: Site,
    seconds: float,
    number: int,
    say: Callable[[str], None],
) -> None:
    """Measure what is asked for of the field; ``seconds`` are those of a window of a steady rate."""
    if "plans" in only:
        results.plans = measure_plans()
        say(f"plans: {len(results.plans)} device types")
    if "requests" in only:
        results.requests = measure_requests(site.fresh(), seconds / 30, number, say)
    if "fleet" in only:
        results.fleets = measure_fleets(site, seconds / 3, number, say)
    if "serial" in only:
        for one in measure_serial(seconds / 30, number):
            results.serial.append(one)
            say(f"serial: {told_line(one)}")


def _measure_control(
    only: Collection[str],
    results: ControlResults,
    site: Site,
    seconds: float,
    number: int,
    say: Callable[[str], None],
) -> None:
    """Measure what is asked for of control; with windows of 30 s 200 commands on the idle line."""
    share = min(seconds / 30, 1.0)
    if "decisions" in only:
        results.decisions = measure_decisions(max(100, round(5000 * share)), number, say)
    if "command" in only:
        idle, busy = max(3, round(200 * share)), max(3, round(100 * share))
        results.commands = measure_commands(site, idle, busy, READINGS, say)
    if "refresh" in only:
        entities, rows = (ENTITIES, ROWS) if seconds >= SHORT_S else (ENTITIES // 10, ROWS // 10)
        results.refresh = measure_refresh(entities, rows, 3 if share == 1 else 1, number, say)


def _print(results: report.Results, as_json: bool) -> None:
    if not as_json:
        for line in report.lines(results):
            value = "not measured" if line.value is None else f"{line.value:,.{line.digits}f} {line.unit}"
            aim = "" if line.aim is None else f"aim {'<=' if line.at_most else '>='} {line.aim:,g}"
            met = {True: "met", False: "MISSED", None: ""}[line.met]
            print(f"{line.key:34} {value:24} {aim:18} {met}")
    print(json.dumps(report.figures(results)))


def _ended(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
