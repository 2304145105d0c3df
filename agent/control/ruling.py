"""What is decided of a command: the facts of the moment, put to `policies.decide`.

A device is asked only where its answer could change the decision: that would wait twice for its turn on the
line before anything is written.  Relies on `agent.control.gather` for facts.  Not here: what follows from a
decision (`agent.control.taker`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from agent.control import gather
from agent.control.actuator import Actuator, Shown
from agent.control.contacts import Contacts
from agent.control.courses import Courses
from agent.control.desk import Desk
from agent.control.inforce import InForce
from agent.control.life import Control
from policies.assignment import OptOut
from policies.command import Command
from policies.decide import decide
from policies.decision import Decision, Finding, Plan
from policies.envelope import Opened
from policies.facts import UNKNOWN, Contact, Period, Unknown, Used
from policies.rulebook import Rulebook

STRENGTH: Final = {"none": 0, "watchdog": 1, "timer": 2}
"""Of a device's own hold: the policy may count on less than there is, never on more."""


@dataclass(frozen=True, slots=True)
class Present:
    """What the device shows before a decision."""

    shown: Shown | None
    locked: bool | None


class Ruling:
    """Decides the commands of one gateway."""

    def __init__(
        self,
        gateway: str,
        in_force: InForce,
        desk: Desk,
        actuators: Mapping[tuple[str, str], Actuator],
        courses: Courses,
        opt_outs: Callable[[], tuple[OptOut, ...]],
        contacts: Contacts,
    ) -> None:
        self._gateway = gateway
        self._in_force = in_force
        self._desk = desk
        self._actuators = actuators
        self._courses = courses
        self._opt_outs = opt_outs
        self._contacts = contacts
        self._since_ms = desk.clock.now_ms()
        self._others: set[tuple[str, str]] = set()
        """Points that are of another type than was signed, and told."""

    async def present(self, command: Command) -> Present:
        """Return what the device shows, by asking it."""
        actuator = self._actuators.get((command.device, command.point))
        if actuator is None:
            return Present(None, False)
        lane = self._desk.lanes[actuator.line]
        return Present(await actuator.present(lane), await actuator.locked(lane))

    def unseen(self, command: Command) -> Present:
        """Return what is known of the device without asking it.

        Where that suffices for an answer nothing is asked: it would wait twice for its turn on the line
        before anything is written.
        """
        actuator = self._actuators.get((command.device, command.point))
        return Present(None, False if actuator is None or actuator.lock is None else None)

    def of(
        self,
        opened: Opened,
        received_ms: int,
        present: Present,
        controls: Sequence[Control],
        used: Mapping[Period, Used | Unknown],
    ) -> Decision:
        """Return what is decided of a command, with these controls beside it and these budgets used."""
        book, command = self._in_force.rulebook, opened.command
        if book is None:
            return Decision("no-policy")
        place, shown = (command.device, command.point), present.shown
        actuator = self._actuators.get(place)
        other = None if actuator is None else other_type(book, actuator)
        self._tell(place, other)
        if other is not None:
            return Decision(other.code, (other,))
        return decide(
            command,
            book,
            gather.facts(
                self._gateway,
                self._desk.clock,
                self._in_force,
                opened.keys,
                received_ms=received_ms,
                others=[one for one in controls if (one.device, one.point) == place],
                opt_outs=self._opt_outs(),
                used=used,
                contact=self._contact(command.issuer.entity),
                type_limits=UNKNOWN if actuator is None else actuator.limits,
                present=UNKNOWN if shown is None or shown.value is None else shown.value,
                unchanged_since_ms=self._desk.changed.get(place, self._since_ms),
                locked_out=UNKNOWN if present.locked is None else present.locked,
            ),
        )

    def _tell(self, place: tuple[str, str], other: Finding | None) -> None:
        """Raise or clear the alarm that something else is installed than was signed."""
        if other is not None and place not in self._others:
            self._others.add(place)
            self._desk.alarm("other-type", True, other.why, place[0])
        elif other is None and place in self._others:
            self._others.remove(place)
            self._desk.alarm("other-type", False, f"{place[0]} is of the type that was signed", place[0])

    def _contact(self, entity: str) -> Contact:
        return Contact.FRESH if self._contacts.knows(entity) else Contact.LOST

    def silent_too_long(self, plan: Plan, entity: str) -> bool:
        """Tell whether a control would be put back at once, because nothing fresh was heard of its entity."""
        ends = plan.duration_s > 0 and plan.on_comm_loss == "restore"
        return ends and self._contacts.silent_s(entity) > plan.comm_loss_after_s

    def of_cancel(self, opened: Opened, received_ms: int) -> Decision:
        """Return what is decided of a cancellation, which needs no fresh policy."""
        command, book = opened.command, self._in_force.rulebook
        if book is None:
            return Decision("no-policy")
        return decide(
            command,
            book,
            gather.facts(
                self._gateway,
                self._desk.clock,
                self._in_force,
                opened.keys,
                received_ms=received_ms,
                others=[course.control for course in self._courses.at(command.device, command.point)],
                opt_outs=(),
                used={},
                contact=Contact.FRESH,
                type_limits=UNKNOWN,
                present=UNKNOWN,
                unchanged_since_ms=UNKNOWN,
                locked_out=False,
            ),
        )


def other_type(book: Rulebook, actuator: Actuator) -> Finding | None:
    """Return why what was signed is not of the device that is installed; None where it is.

    The profile would speak of another device then: its default, its hold and its limits are worth nothing.
    """
    device = book.devices.get(actuator.device)
    if device is None:
        return None
    if device.type != actuator.type:
        said = (
            f"the assignment has {device.id} as {device.type}, gateway.toml as {actuator.type}: find out "
            "which is installed, and correct the other"
        )
        return Finding("other-type", said)
    profile = book.limits(device, actuator.point.name)
    if profile is None or STRENGTH[profile.hold] <= STRENGTH[actuator.hold]:
        return None
    said = (
        f"the policy has hold {profile.hold} for {actuator.point.name} of {device.type}, the type "
        f"installed here {actuator.hold}: correct the policy, or the file of the type"
    )
    return Finding("other-type", said)


def default_of(book: Rulebook | None, actuator: Actuator) -> Decimal:
    """Return the value of a point without control: as signed, or of its type where nothing is signed."""
    device = None if book is None else book.devices.get(actuator.device)
    if book is None or device is None or other_type(book, actuator) is not None:
        return actuator.default
    profile = book.limits(device, actuator.point.name)
    known = profile is not None and actuator.rests_at(profile.default)
    return profile.default if profile is not None and known else actuator.default


def codes_of(decision: Decision) -> tuple[str, ...]:
    """Return the codes that a refusal is answered with."""
    return decision.codes or (decision.code,)


def audited(command: Command, decision: Decision, versions: Mapping[str, int | str]) -> dict[str, object]:
    """Return what the audit keeps of a decision."""
    issuer = command.issuer
    return {
        "command": command.id,
        "entity": issuer.entity,
        "application": issuer.application,
        "individual": issuer.individual,
        "device": command.device,
        "point": command.point,
        "verb": command.verb.value,
        "value": None if command.value is None else str(command.value),
        "purpose": command.purpose,
        "emergency": command.emergency,
        "allowed": decision.allowed,
        "code": decision.code,
        "codes": list(decision.codes),
        "grant": None if decision.plan is None else decision.plan.grant,
        "bypassed": [] if decision.plan is None else list(decision.plan.bypassed),
        "versions": dict(versions),
    }
