"""A conformance report for people, for programs and for a build server: a table, JSON, JUnit XML.

The XML is of the form that pytest writes and that build servers read: `testsuites/testsuite/testcase` with
`failure` and `skipped`. Not here: any judgement.
"""

import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.conformance.lines import Judged, Result
from core.errors import ConfigError

STYLES: Final = {Result.PASSED: "green", Result.FAILED: "bold red", Result.NOT_TESTED: "yellow"}
UNPRINTABLE: Final = {n: "\ufffd" for n in range(32) if chr(n) not in "\t\n\r"}
"""Characters that XML 1.0 does not know (§2.2)."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was found of one program."""

    part: str
    """`agent` or `headend`."""
    program: str
    """What was run."""
    lines: tuple[Judged, ...]
    seconds: float
    story: tuple[str, ...] = ()
    """What was done to it, and when."""
    kept: str = ""
    """Where everything lies, when it was kept."""

    @property
    def counts(self) -> Counter[Result]:
        """How many lines passed, failed, and were not tested."""
        return Counter(one.found.result for one in self.lines)

    @property
    def ok(self) -> bool:
        """Whether nothing failed, and something was tested."""
        return not self.counts[Result.FAILED] and self.counts[Result.PASSED] > 0

    @property
    def failed(self) -> list[str]:
        """The ids of what failed."""
        return [one.id for one in self.lines if one.found.result is Result.FAILED]


def table(report: Report) -> Table:
    """Return the report as a table."""
    shown = Table(title=f"Conformance of the {report.part}: {report.program}", title_justify="left", box=None)
    shown.add_column("line", no_wrap=True)
    shown.add_column("result", no_wrap=True)
    shown.add_column("what must hold, and what was seen")
    for one in report.lines:
        found = one.found
        words = Text(one.sentence)
        words.append(
            f"\n{found.reason}", style=STYLES[found.result] if found.result is not Result.PASSED else "dim"
        )
        for piece in found.evidence:
            words.append(f"\n  {piece}")
        shown.add_row(one.id, Text(str(found.result), STYLES[found.result]), words)
    return shown


def summary(report: Report) -> Text:
    """Return the last line: what was not tested is told as loudly as what failed."""
    counts = report.counts
    words = Text(f"{counts[Result.PASSED]} passed", STYLES[Result.PASSED])
    words.append(f", {counts[Result.FAILED]} failed", STYLES[Result.FAILED] if report.failed else "")
    open_lines = [one.id for one in report.lines if one.found.result is Result.NOT_TESTED]
    words.append(f", {len(open_lines)} NOT TESTED", STYLES[Result.NOT_TESTED] if open_lines else "")
    if open_lines:
        words.append(f" ({', '.join(open_lines)})", STYLES[Result.NOT_TESTED])
    words.append(f" in {report.seconds:.0f} s")
    return words


def show(report: Report, console: Console) -> None:
    """Print table and summary."""
    console.print(table(report))
    console.print(summary(report))


def document(report: Report) -> dict[str, object]:
    """Return the report as plain values, for one JSON document."""
    counts = report.counts
    return {
        "conformance": report.part,
        "program": report.program,
        "ok": report.ok,
        "passed": counts[Result.PASSED],
        "failed": counts[Result.FAILED],
        "not_tested": counts[Result.NOT_TESTED],
        "seconds": round(report.seconds, 1),
        "lines": [
            {
                "id": one.id,
                "result": str(one.found.result),
                "sentence": one.sentence,
                "reason": one.found.reason,
                "evidence": list(one.found.evidence),
                "source": one.source,
            }
            for one in report.lines
        ],
        "story": list(report.story),
    }


def junit(report: Report) -> bytes:
    """Return the report as JUnit XML."""
    counts = report.counts
    suite = ET.Element(
        "testsuite",
        name=f"portico conformance {report.part}",
        tests=str(len(report.lines)),
        failures=str(counts[Result.FAILED]),
        errors="0",
        skipped=str(counts[Result.NOT_TESTED]),
        time=f"{report.seconds:.1f}",
    )
    for one in report.lines:
        case = ET.SubElement(
            suite,
            "testcase",
            classname=f"conformance.{report.part}",
            name=f"{one.id} {one.sentence}",
            time="0",
        )
        found = one.found
        text = "\n".join([found.reason, *found.evidence, f"source: {one.source}"]).translate(UNPRINTABLE)
        match found.result:
            case Result.FAILED:
                ET.SubElement(case, "failure", message=found.reason.translate(UNPRINTABLE)).text = text
            case Result.NOT_TESTED:
                ET.SubElement(case, "skipped", message=found.reason.translate(UNPRINTABLE)).text = text
            case Result.PASSED:
                ET.SubElement(case, "system-out").text = text
    ET.SubElement(suite, "system-out").text = "\n".join(report.story).translate(UNPRINTABLE)
    root = ET.Element("testsuites", name="portico conformance")
    root.append(suite)
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True))


def write_junit(report: Report, path: Path) -> None:
    """Write the XML. Raises ConfigError when that is not possible."""
    try:
        path.write_bytes(junit(report))
    except OSError as error:
        raise ConfigError(f"the report cannot be written to {path}: {error.strerror}") from error
