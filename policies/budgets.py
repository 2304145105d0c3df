"""Budgets of a grant: how often and how long altogether a day, a week, a season, for each device.

A control counts whole in every period that it touches, with the longest that it can last, so that what was
reserved is never less than what comes.  What is spent lies in the gateway's control file and comes as facts;
a decision says what to reserve there first.  Days are those of the policy's time zone, weeks begin on Monday.
"""

from datetime import date, timedelta

from policies.decision import Finding, Reservation
from policies.facts import UNKNOWN, Period, Used
from policies.forms import duration_text
from policies.question import Extent, Question
from policies.rulebook import Row
from policies.when import Span, dates, season_start


def budget_finding(q: Question, row: Row, extent: Extent | None) -> Finding | None:
    """Return what a control's budgets lack, None when each has room."""
    if not row.has_budget:
        return None
    if extent is None:
        return Finding("budget", "when the control would be, is not known", unknown=True)
    periods = _periods(q, row, extent)
    if periods is None:
        return Finding("budget", "part of it lies outside of the season that its budget is for")
    unknown = None
    for period, most, most_s in periods:
        used = UNKNOWN if q.facts.used is UNKNOWN else q.facts.used.get(period, Used(0, 0))
        which = f"the {period.unit} from {period.first}"
        if used is UNKNOWN:
            unknown = unknown or Finding("budget", f"what is used of {which} is not known", unknown=True)
        elif most is not None and used.controls + 1 > most:
            return Finding("budget", f"{which} allows {most}, {used.controls} of it used")
        elif most_s is not None and used.seconds + extent.longest_s > most_s:
            used_text = duration_text(max(0, used.seconds))
            return Finding("budget", f"{which} allows {duration_text(most_s)}, {used_text} of it used")
    return unknown


def reservations(q: Question, row: Row, extent: Extent) -> tuple[Reservation, ...]:
    """Return what has to be written down before anything is done."""
    return tuple(Reservation(period, 1, extent.longest_s) for period, _, _ in _periods(q, row, extent) or ())


def _periods(q: Question, row: Row, extent: Extent) -> list[tuple[Period, int | None, int | None]] | None:
    """Return the periods that a control touches with their most; None when one is not of the season."""
    budget, grant, device = row.grant.budget, row.grant.id, q.command.device
    found: dict[Period, tuple[int | None, int | None]] = {}
    daily = budget.count_day is not None or budget.total_day_s is not None
    weekly = budget.count_week is not None or budget.total_week_s is not None
    for day, as_text, monday in _days(q, extent.span):
        if daily:
            found[Period(grant, device, "day", as_text)] = (budget.count_day, budget.total_day_s)
        if weekly:
            found[Period(grant, device, "week", monday)] = (budget.count_week, budget.total_week_s)
        if budget.season is not None:
            first = season_start(budget.season, day)
            if first is None:
                return None
            most = (budget.count_season, budget.total_season_s)
            found[Period(grant, device, "season", str(first))] = most
    return [(period, *most) for period, most in found.items()]


def _days(q: Question, span: Span) -> tuple[tuple[date, str, str], ...]:
    """Return the local dates that a span touches, each with its text and that of the Monday before."""
    days = q.days_of.get(span)
    if days is None:
        days = q.days_of[span] = tuple(
            (day, str(day), str(day - timedelta(days=day.weekday()))) for day in dates(span, q.zone)
        )
    return days
