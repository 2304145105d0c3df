"""Budgets of a grant: how often and how long altogether a day, a week, a season, for each device.

A control counts whole in every period that it touches, with the longest that it can last, so that what was
reserved is never less than what comes.  What is spent lies in the gateway's control file and comes as facts;
a decision says what to reserve there first.  Days are those of the policy's time zone, weeks begin on Monday.
"""

from datetime import date, timedelta
from typing import Final

from policies.decision import Finding, Reservation
from policies.facts import UNKNOWN, Period, Used
from policies.forms import duration_text
from policies.question import Extent, Question
from policies.rulebook import Row
from policies.when import Span, dates, season_start

_UNUSED: Final = Used(0, 0)


def budget_finding(q: Question, row: Row, extent: Extent | None) -> Finding | None:
    """Return what a control's budgets lack, None when each has room."""
    if not row.has_budget:
        return None
    if extent is None:
        return Finding("budget", "when the control would be, is not known", unknown=True)
    periods = _periods(q, row, extent)
    if periods is None:
        return Finding("budget", "part of it lies outside of the season that its budget is for")
    known, unknown = q.facts.used, None
    for period, most, most_s in periods:
        used = UNKNOWN if known is UNKNOWN else known.get(period, _UNUSED)
        if used is UNKNOWN:
            unknown = unknown or Finding(
                "budget", f"what is used of {_named(period)} is not known", unknown=True
            )
        elif most is not None and used.controls + 1 > most:
            return Finding("budget", f"{_named(period)} allows {most}, {used.controls} of it used")
        elif most_s is not None and used.seconds + extent.longest_s > most_s:
            used_text = duration_text(max(0, used.seconds))
            return Finding(
                "budget", f"{_named(period)} allows {duration_text(most_s)}, {used_text} of it used"
            )
    return unknown


def _named(period: Period) -> str:
    return f"the {period.unit} from {period.first}"


def reservations(q: Question, row: Row, extent: Extent) -> tuple[Reservation, ...]:
    """Return what has to be written down before anything is done."""
    periods = _periods(q, row, extent) or ()
    return tuple(Reservation(period, 1, extent.longest_s) for period, _, _ in periods)


def _periods(q: Question, row: Row, extent: Extent) -> list[tuple[Period, int | None, int | None]] | None:
    """Return the periods that a control touches with their most; None when one is not of the season."""
    budget, grant, device = row.grant.budget, row.grant.id, q.command.device
    found: list[tuple[Period, int | None, int | None]] = []
    count_day, total_day_s = budget.count_day, budget.total_day_s
    count_week, total_week_s = budget.count_week, budget.total_week_s
    season_from: date | None = None
    for day, as_text, monday in _days(q, extent.span):
        if count_day is not None or total_day_s is not None:
            found.append((Period(grant, device, "day", as_text), count_day, total_day_s))
        if monday is not None and (count_week is not None or total_week_s is not None):
            found.append((Period(grant, device, "week", monday), count_week, total_week_s))
        if budget.season is not None:
            first = season_start(budget.season, day)
            if first is None:
                return None
            if first != season_from:
                season_from = first
                period = Period(grant, device, "season", str(first))
                found.append((period, budget.count_season, budget.total_season_s))
    return found


def _days(q: Question, span: Span) -> tuple[tuple[date, str, str | None], ...]:
    """Return the local dates that a span touches: text, and on the first of each week that of its Monday."""
    days = q.days_of.get(span)
    if days is None:
        listed: list[tuple[date, str, str | None]] = []
        for day in dates(span, q.zone):
            begins_week = not listed or day.weekday() == 0
            monday = str(day - timedelta(days=day.weekday())) if begins_week else None
            listed.append((day, str(day), monday))
        days = q.days_of[span] = tuple(listed)
    return days
