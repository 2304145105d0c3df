"""A second judge, written from docs/policy.md alone, slow on purpose: what `decide()` is held against.

It shares nothing with the judge but the nouns.  Time is walked through minute by minute: every edge that the
differential test makes lies on a whole minute.  A condition answers True, False or None, which is unknown.
"""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple
from zoneinfo import ZoneInfo

from policies.assignment import Assignment
from policies.command import Command
from policies.facts import Facts, Freshness, Unknown
from policies.grant import Grant, Window
from policies.policy import Policy
from policies.roster import Roster

MINUTE = 60_000


class Verdict(NamedTuple):
    """What the oracle says."""

    allowed: bool
    winner: str | None
    general: frozenset[str]
    grants: dict[str, frozenset[str]]
    """Codes of what is not met, by grant; every grant that permits something."""


class Oracle:
    """One question."""

    def __init__(
        self,
        command: Command,
        policy: Policy,
        rosters: list[Roster],
        assignment: Assignment | None,
        facts: Facts,
    ) -> None:
        self.c, self.p, self.f, self.a = command, policy, facts, assignment
        self.rosters = {one.roster.entity: one for one in rosters}
        self.utility = policy.policy.utility
        self.zone = ZoneInfo(policy.policy.zone)
        self.now = None if isinstance(facts.time, Unknown) else facts.time.now_ms
        self.came = None if isinstance(facts.received_ms, Unknown) else facts.received_ms
        self.planned = command.start_ms if command.start_ms is not None else self.came
        self.lasts = command.verb.value in ("shed", "switch", "limit")
        self.device = None
        for device in assignment.devices if assignment else ():
            if device.id == command.device:
                self.device = device
        self.profile = None
        if self.device is not None:
            fitting = [
                one
                for one in policy.limits
                if one.type == self.device.type
                and one.point == command.point
                and one.kind in (self.device.kind, None)
            ]
            narrow = [one for one in fitting if one.kind is not None]
            for one in narrow or fitting:
                if command.verb.value in one.verbs:
                    self.profile = one

    # --- the whole control ---

    def minimum_s(self) -> int:
        if self.c.verb.value not in ("shed", "switch") or self.c.value is None or self.profile is None:
            return 0
        on = self.c.value == 1
        times = [self.profile.min_on_s if on else self.profile.min_off_s]
        if not isinstance(self.f.type_limits, Unknown):
            times.append(self.f.type_limits.min_on_s if on else self.f.type_limits.min_off_s)
        return max(times)

    def whole(self, start_s: int = 0, end_s: int = 0) -> tuple[int, int] | None:
        if self.planned is None or self.now is None:
            return None
        begin = max(self.planned, self.now)
        if self.c.verb.value == "set-clock":
            return begin, begin + start_s * 1000 + 1
        by_plan = self.planned + (start_s + (self.c.duration_s or 0) + end_s) * 1000
        by_device = begin + (start_s + self.minimum_s() + end_s) * 1000
        return begin, max(by_plan, by_device, begin + 1)

    def longest_s(self, grant: Grant) -> int:
        if self.c.verb.value == "set-clock":
            return 0
        return max(self.c.duration_s or 0, self.minimum_s()) + grant.randomise.end_s

    def instants(self, whole: tuple[int, int]) -> list[int]:
        begin, end = whole
        first = begin - begin % MINUTE + MINUTE
        return [begin, *range(first, end, MINUTE)]

    def in_window(self, window: Window, instant: int) -> bool | None:
        zone = ZoneInfo(window.zone) if window.zone else self.zone
        wall = datetime.fromtimestamp(instant / 1000, UTC).astimezone(zone)
        minute = wall.hour * 60 + wall.minute
        days: list[date] = []
        if window.start_min < window.end_min:
            if window.start_min <= minute < window.end_min:
                days.append(wall.date())
        else:
            if minute >= window.start_min:
                days.append(wall.date())
            if minute < window.end_min:
                days.append(wall.date() - timedelta(days=1))
        answers = [self.on_day(window, day) for day in days]
        return True if True in answers else None if None in answers else False

    def on_day(self, window: Window, day: date) -> bool | None:
        if window.season is not None and not self.in_season(window.season, day):
            return False
        name = ["mo", "tu", "we", "th", "fr", "sa", "su"][day.weekday()]
        if window.calendar is None:
            return name in window.days
        calendar = next(one for one in self.p.calendars if one.id == window.calendar)
        if (name in window.days) == ("holiday" in window.days):
            return name in window.days
        if not calendar.first <= day <= calendar.last:
            return None
        return "holiday" in window.days if day in calendar.holidays else name in window.days

    def in_season(self, season: tuple[int, int], day: date) -> bool:
        first, last = season
        today = day.month * 100 + day.day
        if first <= last:
            return first <= today <= last
        return today >= first or today <= last

    # --- whatever a grant says ---

    def general(self) -> set[str]:
        c, f = self.c, self.f
        found: set[str] = set()
        if c.gateway != f.gateway:
            found.add("wrong-gateway")
        if not self.complete():
            found.add("incomplete")
        if f.freshness is Freshness.NO_POLICY:
            found.add("no-policy")
        elif f.freshness not in (Freshness.FRESH, Freshness.STALE):
            found.add("policy-expired")
        tolerance = self.p.policy.clock_tolerance_s * 1000
        if (
            isinstance(f.time, Unknown)
            or f.time.state.value not in ("synchronised", "holdover")
            or f.time.error_ms > tolerance
        ):
            found.add("clock-unsure")
        if self.came is None or self.came > c.expires_ms:
            found.add("command-expired")
        if self.came is not None and c.issued_ms > self.came + tolerance:
            found.add("issued-ahead")
        if (
            self.came is None
            or self.now is None
            or self.planned is None
            or self.came > self.planned + tolerance
            or (c.duration_s is not None and self.planned + c.duration_s * 1000 <= self.now)
        ):
            found.add("too-late")
        found |= self.issuer() | self.site()
        whole = self.whole()
        if any(self.denies(one, whole) for one in self.p.grants if one.shall_not):
            found.add("denied")
        return found

    def complete(self) -> bool:
        c = self.c
        if self.lasts:
            if c.value is None or c.duration_s is None:
                return False
            if c.verb.value != "limit" and c.value not in (Decimal(0), Decimal(1)):
                return False
        elif c.value is not None or c.duration_s is not None:
            return False
        return (
            (c.cancels is not None) == (c.verb.value == "cancel")
            and (c.emergency or not c.cosigners)
            and c.issued_ms < c.expires_ms
        )

    def roles_include(self, roles: tuple[str, ...]) -> bool:
        wanted = {"set-clock": {"engineer"}, "cancel": {"engineer", "operator"}}
        return bool(set(roles) & wanted.get(self.c.verb.value, {"operator"}))

    def issuer(self) -> set[str]:
        who = self.c.issuer
        found = set()
        entity = [one for one in self.p.entities if one.id == who.entity]
        if not entity:
            found.add("unknown-entity")
        elif who.application not in [one.id for one in entity[0].applications]:
            found.add("unknown-application")
        roster = self.rosters.get(who.entity)
        people = [one for one in (roster.individuals if roster else ()) if one.id == who.individual]
        if not people:
            return found | {"unknown-individual"}
        if not self.roles_include(people[0].roles):
            found.add("role")
        if not self.signing(who.individual, None):
            found.add("not-signed")
        return found

    def signing(self, individual: str, whole: tuple[int, int] | None) -> bool:
        """Whether a key that signed is the individual's, for the application, and over the whole control."""
        roster = self.rosters.get(self.c.issuer.entity)
        if roster is None or isinstance(self.f.keys, Unknown):
            return False
        for key in roster.keys:
            roles = [one.roles for one in roster.individuals if one.id == key.individual]
            if (
                key.id in self.f.keys
                and key.individual == individual
                and self.c.issuer.application in key.applications
                and roles
            ):
                if whole is None:
                    return True
                begin, end = whole
                since = key.valid.from_ms if key.valid.from_ms is not None else 0
                until = key.valid.until_ms
                if (
                    self.roles_include(roles[0])
                    and roster.roster.issued_ms <= begin
                    and end <= roster.roster.expires_ms
                    and since <= begin
                    and (until is None or end <= until)
                ):
                    return True
        return False

    def site(self) -> set[str]:
        found: set[str] = set()
        if self.a is None:
            return {"no-assignment"}
        head, whole = self.a.assignment, self.whole()
        if (
            head.gateway != self.f.gateway
            or head.policy_version > self.p.policy.version
            or whole is None
            or whole[0] < head.issued_ms
            or whole[1] > head.expires_ms
        ):
            found.add("no-assignment")
        if self.device is None:
            return found | {"unknown-device"}
        if self.profile is None:
            found.add("no-profile")
        elif self.lasts:
            found |= self.bears()
        if self.f.locked_out is not False:
            found.add("locked-out")
        return found

    def bears(self) -> set[str]:
        found: set[str] = set()
        c, profile, of_type = self.c, self.profile, self.f.type_limits
        assert profile is not None
        if isinstance(of_type, Unknown) or (
            c.value is not None
            and not (profile.min <= c.value <= profile.max and of_type.min <= c.value <= of_type.max)
        ):
            found.add("value-range")
        essential = profile.essential or (not isinstance(of_type, Unknown) and of_type.essential)
        if essential and profile.hold == "none":
            found.add("essential")
        if c.verb.value == "limit" or c.value is None or isinstance(of_type, Unknown):
            return found
        on = max(profile.min_on_s, of_type.min_on_s)
        off = max(profile.min_off_s, of_type.min_off_s)
        if on == off == 0 or self.f.present == c.value:
            return found
        since = self.f.unchanged_since_ms
        if (
            isinstance(self.f.present, Unknown)
            or isinstance(since, Unknown)
            or self.planned is None
            or self.now is None
        ):
            return found | {"too-soon"}
        needed = on if self.f.present != 0 else off
        if max(self.planned, self.now) - since < needed * 1000:
            found.add("too-soon")
        return found

    def denies(self, row: Grant, whole: tuple[int, int] | None) -> bool:
        c, to = self.c, row.to
        if row.entity not in ("*", c.issuer.entity) or c.verb.value not in (row.shall_not or ()):
            return False
        said = [
            row.by.applications is None or c.issuer.application in row.by.applications,
            row.by.individuals is None or c.issuer.individual in row.by.individuals,
            row.purpose is None or c.purpose is None or c.purpose in row.purpose,
            to.devices is None or c.device in to.devices,
            to.points is None or c.point in to.points,
            to.gateways is None or c.gateway in to.gateways,
            to.groups is None or self.a is None or bool(set(to.groups) & set(self.a.assignment.groups)),
            to.kinds is None or self.device is None or self.device.kind in to.kinds,
        ]
        if c.value is not None:
            limits = row.limits
            said += [
                limits.min is None or c.value >= limits.min,
                limits.max is None or c.value <= limits.max,
                limits.values is None or c.value in limits.values,
            ]
        if not all(said):
            return False
        if whole is None:
            return True
        if to.owners is not None:
            owners = self.owners(whole)
            if owners is not None and not any(set(names) & set(to.owners) for names, _, _ in owners):
                return False
        begin, end = whole
        if row.valid.from_ms is not None and row.valid.from_ms >= end:
            return False
        if row.valid.until_ms is not None and row.valid.until_ms <= begin:
            return False
        return not row.windows or any(
            self.in_window(window, instant) is not False
            for window in row.windows
            for instant in self.instants(whole)
        )

    def owners(self, whole: tuple[int, int]) -> list[tuple[tuple[str, ...], int, int]] | None:
        """Return who owns the device in which part of a control, None where somebody is missing."""
        if self.device is None:
            return None
        begin, end = whole
        parts = []
        for term in self.device.ownership:
            since = max(begin, term.valid.from_ms if term.valid.from_ms is not None else 0)
            until = min(end, term.valid.until_ms if term.valid.until_ms is not None else end)
            if since < until:
                parts.append((term.owners, since, until))
        return parts if sum(until - since for _, since, until in parts) == end - begin else None

    # --- one grant alone ---

    def grant(self, row: Grant) -> set[str]:
        c, f, to = self.c, self.f, row.to
        whole = self.whole(row.randomise.start_s, row.randomise.end_s)
        found: set[str] = set()
        if (
            row.entity != c.issuer.entity
            or (row.by.applications is not None and c.issuer.application not in row.by.applications)
            or (row.by.individuals is not None and c.issuer.individual not in row.by.individuals)
        ):
            found.add("actor")
        if c.verb.value not in (row.may or row.shall or ()):
            found.add("verb")
        owned = self.owners(whole) if whole else None
        if (
            (to.kinds is not None and (self.device is None or self.device.kind not in to.kinds))
            or (to.devices is not None and c.device not in to.devices)
            or (to.points is not None and c.point not in to.points)
            or (to.gateways is not None and c.gateway not in to.gateways)
            or (
                to.groups is not None and not set(to.groups) & set(self.a.assignment.groups if self.a else ())
            )
            or (
                to.owners is not None
                and (owned is None or not all(set(names) <= set(to.owners) for names, _, _ in owned))
            )
        ):
            found.add("target")
        if found:
            return found
        selection = next((one for one in (self.a.selections if self.a else ()) if one.grant == row.id), None)
        if any(self.denies(one, whole) for one in self.p.grants if one.shall_not):
            found.add("denied")
        if (
            selection is None
            or (selection.devices is not None and c.device not in selection.devices)
            or (selection.points is not None and c.point not in selection.points)
        ):
            found.add("not-assigned")
        signed = None if isinstance(f.signed, Unknown) else f.signed.get(row.id)
        if (
            signed is None
            or isinstance(signed, Unknown)
            or signed.revision != row.revision
            or signed.utility is not True
            or (row.entity != self.utility and signed.entity is not True)
        ):
            found.add("not-agreed")
        if not self.consented(row, owned):
            found.add("no-consent")
        for valid in (row.valid, selection.valid if selection else None):
            if valid is not None and (
                whole is None
                or (valid.from_ms is not None and whole[0] < valid.from_ms)
                or (valid.until_ms is not None and whole[1] > valid.until_ms)
            ):
                found.add("grant-ended")
        if whole is None:
            found.add("grant-ended")
        if whole is None or not self.signing(c.issuer.individual, whole):
            found.add("roster-ended")
        if row.purpose is not None and c.purpose not in row.purpose:
            found.add("purpose")
        if c.value is not None:
            lows = [row.limits.min, selection.min if selection else None]
            highs = [row.limits.max, selection.max if selection else None]
            if (
                any(low is not None and c.value < low for low in lows)
                or any(high is not None and c.value > high for high in highs)
                or (row.limits.values is not None and c.value not in row.limits.values)
            ):
                found.add("limit")
            if row.limits.step is not None and (
                isinstance(f.present, Unknown) or abs(c.value - f.present) > row.limits.step
            ):
                found.add("step")
        longest = self.longest_s(row)
        if self.lasts and c.duration_s is not None and not self.length_fits(row, selection, whole, longest):
            found.add("duration")
        bare = self.lasts and self.profile is not None and self.profile.hold == "none"
        most = row.latching_max_s if row.latching else None
        if bare and (most is None or whole is None or longest > most):
            found.add("latching")
        if row.windows and (
            whole is None
            or not all(
                any(self.in_window(window, instant) is True for window in row.windows)
                for instant in self.instants(whole)
            )
        ):
            found.add("window")
        if not self.budgeted(row, whole, longest):
            found.add("budget")
        ahead = None if self.planned is None or self.came is None else max(0, self.planned - self.came)
        if ahead is None or not row.lead.min_s * 1000 <= ahead <= row.lead.max_s * 1000:
            found.add("lead-time")
        if row.opt_out != "none" and not self.not_opted_out(row, whole):
            found.add("opted-out")
        if not self.free(row, whole):
            found.add("busy")
        if self.lasts and row.on_comm_loss == "restore" and getattr(f.contact, "value", "") != "fresh":
            found.add("no-contact")
        if f.freshness is not Freshness.FRESH and not (
            f.freshness is Freshness.STALE
            and c.verb.value != "set-clock"
            and (row.priority.level <= 63 or c.emergency)
        ):
            found.add("policy-stale")
        if self.lasts and row.restore == "previous" and isinstance(f.present, Unknown):
            found.add("restore-unknown")
        return self.after_emergency(row, whole, longest, found)

    def length_fits(self, row: Grant, selection: object, whole: tuple[int, int] | None, longest: int) -> bool:
        asked = self.c.duration_s or 0
        if row.duration is None or asked < row.duration.min_s or whole is None:
            return False
        most = getattr(selection, "max_s", None)
        return longest <= row.duration.max_s and (most is None or longest <= most)

    def consented(self, row: Grant, owned: list[tuple[tuple[str, ...], int, int]] | None) -> bool:
        if owned is None or self.a is None:
            return False
        for names, since, until in owned:
            for name in names:
                if name in (self.utility, row.entity):
                    continue
                if not any(
                    one.grant == row.id
                    and one.revision == row.revision
                    and one.owner == name
                    and (one.valid.from_ms is None or one.valid.from_ms <= since)
                    and (one.valid.until_ms is None or one.valid.until_ms >= until)
                    for one in self.a.consents
                ):
                    return False
        return True

    def budgeted(self, row: Grant, whole: tuple[int, int] | None, longest: int) -> bool:
        budget = row.budget
        asks = {
            "day": (budget.count_day, budget.total_day_s),
            "week": (budget.count_week, budget.total_week_s),
            "season": (budget.count_season, budget.total_season_s),
        }
        asks = {unit: most for unit, most in asks.items() if most != (None, None)}
        if not asks:
            return True
        if whole is None or isinstance(self.f.used, Unknown):
            return False
        for instant in [*self.instants(whole), whole[1] - 1]:
            day = datetime.fromtimestamp(instant / 1000, UTC).astimezone(self.zone).date()
            for unit, (count, total) in asks.items():
                first = day
                if unit == "week":
                    while first.weekday() != 0:
                        first -= timedelta(days=1)
                if unit == "season":
                    assert budget.season is not None
                    if not self.in_season(budget.season, day):
                        return False
                    while self.in_season(budget.season, first - timedelta(days=1)):
                        first -= timedelta(days=1)
                used = self.f.used.get((row.id, self.c.device, unit, first.isoformat()), (0, 0))  # type: ignore[call-overload]
                if isinstance(used, Unknown):
                    return False
                if count is not None and used[0] + 1 > count:
                    return False
                if total is not None and used[1] + longest > total:
                    return False
        return True

    def not_opted_out(self, row: Grant, whole: tuple[int, int] | None) -> bool:
        if whole is None or isinstance(self.f.opt_outs, Unknown):
            return False
        for one in (*self.f.opt_outs, *(self.a.opt_outs if self.a else ())):
            if (
                one.device in (None, self.c.device)
                and one.entity in (None, row.entity)
                and one.grant in (None, row.id)
                and (one.valid.from_ms is None or one.valid.from_ms < whole[1])
                and (one.valid.until_ms is None or one.valid.until_ms > whole[0])
            ):
                return False
        return True

    def free(self, row: Grant, whole: tuple[int, int] | None) -> bool:
        if isinstance(self.f.running, Unknown):
            return False
        for other in self.f.running:
            if other.command == self.c.id:
                continue
            if whole is None:
                return False
            overlaps = other.begin_ms < whole[1] and whole[0] < other.end_ms
            gives_way = other.preemptible == "always" or (
                other.preemptible == "before_start" and not other.started
            )
            taken = row.priority.preempts and row.priority.level < other.level and gives_way
            if overlaps and other.entity != self.c.issuer.entity and not taken:
                return False
        return True

    def after_emergency(
        self, row: Grant, whole: tuple[int, int] | None, longest: int, found: set[str]
    ) -> set[str]:
        clause = row.emergency
        if not self.c.emergency:
            return found | {"emergency-only"} if clause is not None and clause.required else found
        if clause is None:
            return found | {"no-emergency"}
        refused = set()
        if whole is None or longest > clause.max_s:
            refused.add("no-emergency")
        people = {self.c.issuer.individual, *self.c.cosigners}
        if whole is None or sum(self.signing(one, whole) for one in people) < clause.signatures:
            refused.add("two-signatures")
        return found | refused if refused else found - set(clause.may_bypass)

    def verdict(self) -> Verdict:
        general = self.general()
        rows = [row for row in self.p.grants if not row.shall_not]
        grants = {row.id: frozenset(self.grant(row)) for row in rows}
        satisfied = [row for row in rows if not grants[row.id]] if not general else []

        def place(row: Grant) -> tuple[int, int, str]:
            to = row.to
            named = 8 * bool(to.devices) + 4 * bool(to.points) + 2 * bool(to.gateways)
            return row.priority.level, -(named + bool(to.kinds or to.groups)), row.id

        winner = min(satisfied, key=place).id if satisfied else None
        return Verdict(winner is not None, winner, frozenset(general), grants)

    def cancel(self) -> frozenset[str]:
        """Return the codes of what a cancellation does not meet."""
        found = self.issuer()
        if self.c.gateway != self.f.gateway:
            found.add("wrong-gateway")
        if not self.complete():
            found.add("incomplete")
        entity = self.c.issuer.entity
        owner = False
        if self.device is not None and self.now is not None:
            owned = self.owners((self.now, self.now + 1))
            owner = owned is not None and entity in owned[0][0]
        running = () if isinstance(self.f.running, Unknown) else self.f.running
        theirs = any(one.command == self.c.cancels and one.entity == entity for one in running)
        if entity != self.utility and not owner and not theirs:
            found.add("not-yours")
        return frozenset(found)
