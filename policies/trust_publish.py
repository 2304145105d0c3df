"""`portico policy publish | verify`: put in force what is signed, and look at it as a gateway does.

Not here: sending by MQTT (`headend.policysend`); what sends is given.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from policies.trust.agreement import agreement
from policies.trust.bounds import LONGEST_BUNDLE, LONGEST_ROOT, ROOT, SNAPSHOT, TIMESTAMP
from policies.trust.bundle import unpack
from policies.trust.files import write_whole
from policies.trust.instants import instant_text
from policies.trust.publishing import (
    Publication,
    assignments_to_renew,
    publish,
    verify_files,
    write_publication,
)
from policies.trust.repository import Repository
from policies.trust_kept import root_beside
from policies.trust_options import AsJson, bytes_of, key_pairs, keys_here, now_ms
from policies.trust_told import Told, all_standings, grants_told, next_steps, running_out

app = typer.Typer()
Send = Callable[[Publication], str]
"""Sends a publication somewhere; returns the end of a sentence about it."""


def publish_to(
    base: Path, to: Path | None, key: Sequence[Path], pass_phrase_file: Path | None, send: Send, as_json: bool
) -> None:
    """Put in force what is signed, write it to a folder, and send it."""
    repository = Repository(base)
    pairs = key_pairs(key or keys_here(base, _online(repository)), pass_phrase_file)
    made = publish(repository, pairs, now_ms())
    folder = to or base / "out"
    put_out(repository, made, folder)
    said = send(made)
    put = f"In force now: {', '.join(made.promoted)}. " if made.promoted else ""
    standings = all_standings(repository)
    Told(
        f"{put}Published version {made.versions.policy} of the policy, snapshot {made.versions.snapshot}, "
        f"timestamp {made.versions.timestamp}, {len(made.assignments)} assignments, to {folder}{said}.",
        (
            *next_steps(repository, base),
            *running_out(standings, base, now_ms()),
            *_late(assignments_to_renew(repository, now_ms()), base),
            f"again tomorrow, so that gateways know it is the newest: portico policy publish {base}",
        ),
        made.waiting,
        {
            "promoted": list(made.promoted),
            "policy": made.versions.policy,
            "snapshot": made.versions.snapshot,
            "timestamp": made.versions.timestamp,
            "assignments": sorted(made.assignments),
            "folder": str(folder),
        },
    ).show(as_json)


def _late(gateways: Sequence[str], base: Path) -> tuple[str, ...]:
    if not gateways:
        return ()
    some = ", ".join(gateways[:10]) + (f" and {len(gateways) - 10} more" if len(gateways) > 10 else "")
    return (f"void, or running out: the assignments of {some}: portico policy assign {base} --again",)


def _online(repository: Repository) -> set[str]:
    """Return the keys that sign snapshot and timestamp, now or after a change that waits."""
    roots = [repository.latest_root(), *(found.signed for found in [repository.root()] if found is not None)]
    return {keyid for root in roots for role in (SNAPSHOT, TIMESTAMP) for keyid in root.roles[role].keyids}


def put_out(repository: Repository, made: Publication, folder: Path) -> None:
    write_publication(made, folder)
    newest = repository.versions(ROOT)[-1]
    write_whole(repository.base / "root.json", repository.raw(ROOT, newest))


@app.command("verify", epilog="Example: portico policy verify policy/out/bundle.zip --root root.json")
def verify(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A bundle.zip, or the folder of the policy.")],
    root: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The root to begin from; the folder's without it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Verify a published policy as a gateway does, and say who agreed to what."""
    bundle = path / "out" / "bundle.zip" if path.is_dir() else path
    built_in = root or (path / "root.json" if path.is_dir() else root_beside(bundle))
    verified = verify_files(unpack(bytes_of(bundle, LONGEST_BUNDLE)), bytes_of(built_in, LONGEST_ROOT))
    facts = agreement(verified)
    late = [role for role, at in verified.expires_ms.items() if at <= now_ms()]
    grants = grants_told(facts)
    waiting = [f"{one.grant} waits for {', '.join(one.waits_for)}" for one in grants if one.waits_for]
    Told(
        f"{bundle} holds: version {verified.version} of the policy of {facts.utility}, {len(grants)} grants, "
        f"signed at {instant_text(verified.issued_ms)}"
        + (f"; run out: {', '.join(late)}." if late else "; all in date."),
        tuple(waiting),
        more={
            "versions": dict(verified.versions),
            "expires": {role: instant_text(at) for role, at in verified.expires_ms.items()},
            "expired": late,
            "grants": [asdict(one) for one in grants],
        },
        grants=grants,
    ).show(as_json)
