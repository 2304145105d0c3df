"""What `portico policy` tells those who keep a policy: in plain words, and as JSON for programs.

Not here: the acts themselves (`policies.trust_cli`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from policies.trust.agreement import Agreement
from policies.trust.bounds import ROOT, TARGETS
from policies.trust.instants import instant_text
from policies.trust.repository import Repository, Standing
from policies.trust.settings import warn_ms

WHOSE: Final[Mapping[str, str]] = {ROOT: "the root", TARGETS: "the policy"}

README: Final = """\
This folder holds the policy of {utility}: who may do what to whose devices, signed so that a gateway
believes nobody else. Three sorts of keys are in keys/; each file NAME.key is secret, NAME.pub is not.

root-1, root-2, root-3    Two of these three say which other keys count. They are needed when a key is
                          lost, stolen or changes hands, and every two years. Give each to another person,
                          take it off this machine (a stick in a safe), and do not keep two together.
targets-1, -2, -3         Two of these three sign each change of the policy. Give each to another person of
                          those who answer for the policy; it lies on that person's machine, or on a stick.
snapshot, timestamp       They stay on the machine that publishes. It runs "portico policy publish" daily.
                          Whoever steals them can hold changes back for two weeks, and change nothing.
assignment                It belongs to the enrolment service, which says for each gateway which grants
                          count there. It can narrow what the policy permits, and not widen it.

root.json goes onto every gateway when it is installed: [policy] root = "root.json" in gateway.toml.

A change of the policy, step by step:
  portico policy grant {base} FILE.toml        put rows into a draft
  portico policy sign {base} --key KEY         each holder in turn; it says who is still missing
  portico policy publish {base}                put it in force

Who signs on another machine gets a copy of this folder without keys/, signs there, and sends it back:
  portico policy sign {base} --from COPY

Folders: source/ what people wrote, draft/ what waits for signatures, metadata/ and targets/ what is in
force, assign/ the assignment of each gateway, out/ what gateways get.
"""


@dataclass(frozen=True, slots=True)
class Told:
    """What a command did, and what to do next."""

    did: str
    next: tuple[str, ...] = ()
    roles: tuple[Standing, ...] = ()
    more: Mapping[str, object] = field(default_factory=dict)
    grants: Sequence["GrantTold"] = ()

    def show(self, as_json: bool) -> None:
        """Print it."""
        if as_json:
            roles = [role_json(one) for one in self.roles]
            typer.echo(json.dumps({"did": self.did, "next": list(self.next), "roles": roles, **self.more}))
            return
        console = Console(highlight=False)
        if not console.is_terminal:  # what goes to a file or a pipe is not folded
            console = Console(highlight=False, width=max(console.width, 160))
        console.print(escape(self.did), soft_wrap=True)
        if self.roles:
            console.print(standing_table(self.roles))
        if self.grants:
            console.print(grants_table(self.grants))
        for one in self.next:
            console.print(f"[bold]Next:[/] {escape(one)}", soft_wrap=True)


def role_json(one: Standing) -> dict[str, object]:
    """Return how far a role is."""
    return {
        "role": one.role,
        "version": one.version,
        "draft": one.draft,
        "complete": one.complete,
        "missing": one.missing,
        "signed": list(one.signed),
        "may_sign": list(one.unsigned),
        "expires": instant_text(one.expires_ms),
    }


def standing_table(roles: Sequence[Standing]) -> Table:
    """Return who has signed what, and who could."""
    table = Table()
    for heading in ("what", "version", "until", "signed by", "still needed"):
        table.add_column(heading, overflow="fold")
    for one in roles:
        what = WHOSE.get(one.role, f"people of {one.role}")
        needed = "none: complete"
        if not one.complete:
            needed = f"{one.missing} of {', '.join(one.unsigned) or 'keys that nobody named'}"
        table.add_row(
            escape(what),
            f"{one.version}{' (draft)' if one.draft else ''}",
            instant_text(one.expires_ms)[:10],
            escape(", ".join(one.signed) or "nobody yet"),
            escape(needed),
        )
    return table


def all_standings(repository: Repository) -> tuple[Standing, ...]:
    """Return how far each role is, drafts as drafts."""
    roles = (ROOT, TARGETS, *repository.entities())
    return tuple(filter(None, (repository.standing(role) for role in roles)))


def next_steps(repository: Repository, base: Path) -> tuple[str, ...]:
    """Return what is to be done so that all drafts are in force."""
    drafts = tuple(filter(None, (repository.standing(role) for role in repository.drafts())))
    waiting = [one for one in drafts if not one.complete]
    steps = [
        f"{one.missing} more of {', '.join(one.unsigned)} signs {one.role}: "
        f"portico policy sign {base} --key {_key_of(base, one.unsigned[0])}"
        for one in waiting
        if one.unsigned
    ]
    if drafts:
        steps.append(f"{'then ' if waiting else ''}portico policy publish {base}")
    return tuple(steps)


def running_out(standings: Sequence[Standing], base: Path, now_ms: int) -> tuple[str, ...]:
    """Return what should be signed again soon."""
    return tuple(
        f"{one.role} ends on {instant_text(one.expires_ms)[:10]}: portico policy sign {base} "
        f"--renew {one.role} --key KEY"
        for one in standings
        if not one.draft and one.expires_ms - now_ms < warn_ms(one.role)
    )


@dataclass(frozen=True, slots=True)
class GrantTold:
    """A grant, and who has agreed to its wording."""

    grant: str
    revision: int
    entity: str
    sha256: str
    signed_by: tuple[str, ...]
    waits_for: tuple[str, ...]


def grants_table(grants: Sequence[GrantTold]) -> Table:
    """Return who has signed each grant, and who is missing."""
    table = Table()
    for heading in ("grant", "revision", "for", "signed by", "waits for"):
        table.add_column(heading, overflow="fold")
    for one in grants:
        table.add_row(
            escape(one.grant),
            str(one.revision),
            escape(one.entity),
            escape(", ".join(one.signed_by)),
            escape(", ".join(one.waits_for) or "nobody: complete"),
        )
    return table


def grants_told(facts: Agreement) -> tuple[GrantTold, ...]:
    """Return who agreed to which grant."""
    return tuple(
        GrantTold(
            grant=one.id,
            revision=one.revision,
            entity=one.entity,
            sha256=one.sha256,
            signed_by=tuple(sorted(one.parties)),
            waits_for=() if one.denies else tuple(sorted({one.entity} - one.parties)),
        )
        for one in facts.grants.values()
    )


def _key_of(base: Path, holder: str) -> str:
    path = base / "keys" / f"{holder}.key"
    return str(path) if path.exists() else f"{holder}.key"
