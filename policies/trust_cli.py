"""`portico policy init | keygen | add-entity | grant | assign | sign | publish | verify | rotate | status`.

For people who have never heard of TUF: each command does one thing, says it in a sentence, and what comes
next.  Relies on `policies.trust` for the acts, on `policies.trust_told` for the words, and on `cli.main` to
turn errors into a sentence and an exit code.

Not here: printing and explaining policies (`policies.cli`), and sending by MQTT (`headend.policycli`).
"""

from pathlib import Path
from typing import Annotated, Final

import typer

from core.errors import ConfigError
from policies import trust_consents, trust_publish
from policies.trust.agreement import named_grants
from policies.trust.bounds import (
    ASSIGNMENT_KEYS_PATH,
    POLICY_PATH,
    ROOT,
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    TOP_ROLES,
    entity_fault,
)
from policies.trust.ceremony import (
    FirstKeys,
    add_entity,
    assign,
    begin,
    name_applications,
    present_assignment,
    put_part,
    renew,
    rotate,
    rotate_assignment,
    set_roster,
)
from policies.trust.contents import Table, part_name, read_part
from policies.trust.dsse import keys_in
from policies.trust.files import write_whole
from policies.trust.instants import instant_text
from policies.trust.keys import Algorithm, KeyPair, generate, write
from policies.trust.publishing import assignments_in, publish
from policies.trust.repository import Repository, holders
from policies.trust_options import (
    AsJson,
    Base,
    Keys,
    PassPhrase,
    Public,
    bytes_of,
    key_pairs,
    keys_here,
    now_ms,
    phrase_in,
    public_keys,
)
from policies.trust_publish import put_out
from policies.trust_told import README, Told, all_standings, next_steps, running_out

app = typer.Typer(no_args_is_help=True, help="Keep a policy: keys, signatures, publication.")

for _part in (trust_consents.app, trust_publish.app):
    app.add_typer(_part)

FIRST: Final = {
    "root-1": Algorithm.ED25519,
    "root-2": Algorithm.P256,
    "root-3": Algorithm.ED25519,
    "targets-1": Algorithm.P256,
    "targets-2": Algorithm.ED25519,
    "targets-3": Algorithm.P256,
    SNAPSHOT: Algorithm.ED25519,
    TIMESTAMP: Algorithm.ED25519,
    "assignment": Algorithm.ED25519,
}
"""Two kinds among those that stand in for each other: a weakness of one kind alone breaks no threshold."""


@app.command("init", epilog="Example: portico policy init policy --utility dso.example --zone Europe/Berlin")
def init(
    base: Base,
    utility: Annotated[str, typer.Option(help="Id of the utility whose policy it is.")],
    zone: Annotated[str, typer.Option(help="Time zone of windows and budgets.")] = "UTC",
    root: Annotated[
        list[Path] | None,
        typer.Option(metavar="PUB", help="Public root keys made elsewhere; 2 of them sign."),
    ] = None,
    targets: Annotated[
        list[Path] | None, typer.Option(metavar="PUB", help="Public policy keys made elsewhere; 2 sign.")
    ] = None,
    pass_phrase_file: PassPhrase = None,
    as_json: AsJson = False,
) -> None:
    """Begin a policy: keys for all parts, an empty policy, signed and ready to publish."""
    phrase = phrase_in(pass_phrase_file)
    if (base / "source").exists():
        raise ConfigError(f"{base} holds a policy already: nothing was changed")
    given = {ROOT: public_keys(root), TARGETS: public_keys(targets)}
    for role, keys in given.items():
        if len(keys) == 1:
            raise ConfigError(f"one {role} key is not enough: two people sign together, give two or more")
    names = [name for name in FIRST if not given.get(name.partition("-")[0])]
    made = {name: generate(name, FIRST[name]) for name in names}
    for one in made.values():
        write(base / "keys", one, phrase)

    def of(role: str) -> list[KeyPair]:
        return [pair for name, pair in made.items() if name.partition("-")[0] == role]

    first = FirstKeys(
        given[ROOT] or [one.public for one in of(ROOT)],
        given[TARGETS] or [one.public for one in of(TARGETS)],
        made[SNAPSHOT].public,
        made[TIMESTAMP].public,
        made["assignment"].public,
    )
    repository = begin(base, utility, zone, first, now_ms())
    for one in made.values():
        repository.sign(one)
    write_whole(base / "README.txt", README.format(utility=utility, base=base).encode())
    more: dict[str, object] = {"keys": sorted(made)}
    if all(one.complete for one in all_standings(repository)):
        put_out(repository, publish(repository, made.values(), now_ms()), base / "out")
    Told(
        f"The policy of {utility} is begun in {base}. Which key belongs to whom stands in {base}/README.txt: "
        "two of three root keys and two of three targets keys sign together, so no single person and no "
        "single theft changes anything.",
        (
            *next_steps(repository, base),
            f"add who takes part: portico policy add-entity {base} esco1 --kind esco",
            f"put in the rows: portico policy grant {base} FILE.toml",
        ),
        all_standings(repository),
        more,
    ).show(as_json)


@app.command("keygen", epilog="Example: portico policy keygen root-1 --folder /media/stick")
def keygen(
    name: Annotated[str, typer.Argument(help="Whose key it is, such as root-1 or esco1-2.")],
    folder: Annotated[Path, typer.Option(help="Where NAME.key and NAME.pub are written.")] = Path(),
    algorithm: Annotated[Algorithm, typer.Option(help="What it signs with.")] = Algorithm.ED25519,
    pass_phrase_file: PassPhrase = None,
    as_json: AsJson = False,
) -> None:
    """Make a key where its holder keeps it; only the .pub file is handed out."""
    secret, public = write(folder, generate(name, algorithm), phrase_in(pass_phrase_file))
    guarded = "" if pass_phrase_file else " It is not encrypted: whoever copies the file has the key."
    Told(
        f"{secret} is the secret half and stays with its holder.{guarded}",
        (f"hand out {public}, and nothing else",),
        more={"key": str(secret), "public": str(public)},
    ).show(as_json)


@app.command(
    "add-entity",
    epilog="Example: portico policy add-entity policy esco1 --kind esco --public esco1-1.pub "
    "--application dr-hub",
)
def add_entity_command(
    base: Base,
    entity: Annotated[str, typer.Argument(help="Id of the entity.")],
    kind: Annotated[str, typer.Option(help="What it is: esco, aggregator, utility, customer.")] = "entity",
    public: Public = None,
    application: Annotated[
        list[str] | None,
        typer.Option(help="A system of it that sends commands; may be repeated. A roster names them."),
    ] = None,
    threshold: Annotated[int, typer.Option(min=1, help="How many of its keys sign together.")] = 1,
    roster: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Its people and their keys, TOML; it signs them itself."),
    ] = None,
    pass_phrase_file: PassPhrase = None,
    as_json: AsJson = False,
) -> None:
    """Let an entity take part: it alone can sign who its people are, and what it agrees to."""
    repository = Repository(base)
    fault = entity_fault(entity)
    if fault is not None:
        raise ConfigError(f"the entity {entity!r} {fault}: choose another id")
    keys = public_keys(public)
    made = ""
    if entity not in repository.entities() or keys:
        if not keys:
            pair = generate(f"{entity}-1", Algorithm.P256)
            path, _ = write(base / "keys", pair, phrase_in(pass_phrase_file))
            keys = [pair.public]
            made = f" Its key {path} was made here: better is one that it makes itself, with keygen."
        add_entity(repository, entity, kind, keys, threshold, now_ms(), application or ())
    elif application:
        name_applications(repository, entity, kind, application, now_ms())
    if roster is not None:
        set_roster(repository, entity, read_part(roster), now_ms())
    Told(
        f"{entity} takes part once the policy office has signed, and acts once it has signed its own list."
        f"{made}",
        next_steps(repository, base),
        all_standings(repository),
    ).show(as_json)


@app.command("grant", epilog="Example: portico policy grant policy esco1-water-heaters.toml")
def grant(
    base: Base,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Rows, and limits, calendars, entities if needed; TOML.")
    ],
    name: Annotated[str | None, typer.Option(help="Name of this part; the file's without it.")] = None,
    also: Annotated[
        list[str] | None,
        typer.Option(metavar="ENTITY", help="Must agree too, such as the devices' owner; may be repeated."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Put rows into the draft of the policy; a part of the same name is replaced."""
    repository = Repository(base)
    part = part_name(file, name)
    ids = put_part(repository, part, read_part(file), also or (), now_ms())
    Told(
        f"Part {part} with {len(ids)} grants is in the draft. A grant counts once the utility's two, the "
        "entity that it is for, and the device's owner have signed this very wording.",
        next_steps(repository, base),
        all_standings(repository),
        {"part": part, "grants": ids},
    ).show(as_json)


@app.command("assign", epilog="Example: portico policy assign policy gw-0001 gw-0001.toml")
def assign_command(
    base: Base,
    gateway: Annotated[
        str | None,
        typer.Argument(metavar="[GATEWAY]", help="Id of the gateway; with --again: all without it."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="Devices, owners, selected grants, opt-outs; TOML."),
    ] = None,
    consent: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="A signed consent; may be repeated.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="The same content, counted and dated anew.")] = False,
    key: Keys = None,
    pass_phrase_file: PassPhrase = None,
    as_json: AsJson = False,
) -> None:
    """Say which grants count at one gateway: it can only select and narrow."""
    repository = Repository(base)
    if (file is None) != again or (gateway is None and not again):
        raise ConfigError("give GATEWAY and a FILE with what is assigned, or --again for the same as before")
    listed = keys_in(repository.document(ASSIGNMENT_KEYS_PATH), "the assignment keys")
    found = key or keys_here(base, listed)
    if not found:
        raise ConfigError("the key for assignments is not in this folder: give it with --key")
    (pair,) = key_pairs(found[:1], pass_phrase_file)
    records = tuple(bytes_of(path) for path in consent or ())
    made = []
    for one in sorted(assignments_in(repository)) if gateway is None else [gateway]:
        document, before = (read_part(file), ()) if file is not None else _before(repository, one)
        made.append(assign(repository, one, document, pair, records or before, now_ms()))
    waits = (
        f", once version {made[0].policy_version} of the policy is in force" if repository.drafts() else ""
    )
    until = instant_text(min(one.expires_ms for one in made)) if made else ""
    Told(
        f"Assignment {made[0].sequence} of {made[0].gateway} is signed, good until {until}{waits}."
        if len(made) == 1
        else f"{len(made)} assignments are signed{f', good until {until}{waits}' if made else ''}.",
        (f"portico policy publish {base}",),
        more={
            "assignments": {one.gateway: one.sequence for one in made},
            "policy_version": repository.latest_targets().version,
        },
    ).show(as_json)


@app.command("sign", epilog="Example: portico policy sign policy --key /media/stick/targets-1.key")
def sign(
    base: Base,
    key: Keys = None,
    renewed: Annotated[
        list[str] | None,
        typer.Option("--renew", metavar="ROLE", help="Draft a next version of what only runs out."),
    ] = None,
    signed_elsewhere: Annotated[
        Path | None,
        typer.Option("--from", metavar="DIR", help="Take over what was signed in a copy of this folder."),
    ] = None,
    pass_phrase_file: PassPhrase = None,
    as_json: AsJson = False,
) -> None:
    """Sign every draft that waits for this key, and say who is still missing."""
    repository = Repository(base)
    taken = [] if signed_elsewhere is None else repository.take_signatures(signed_elsewhere)
    if renewed:
        known = (ROOT, TARGETS, *repository.entities())
        for role in renewed:
            if role not in known:
                raise ConfigError(f"{role} is nothing that is renewed by hand: {', '.join(known)} are")
        renew(repository, renewed, now_ms())
    changes = _changes(repository)
    done: dict[str, list[str]] = {}
    for pair in key_pairs(key or [], pass_phrase_file):
        done[pair.holder] = repository.sign(pair)
    said = [
        f"{holder} signed {' and '.join(roles)}."
        if roles
        else f"Nothing waits for {holder}: nothing was signed."
        for holder, roles in done.items()
    ]
    if signed_elsewhere is not None:
        said.append(
            f"Taken over from {signed_elsewhere}: signatures of {' and '.join(taken) or 'nothing new'}."
        )
    Told(
        " ".join([*said, f"The draft of the policy {changes}." if changes else ""]).strip()
        or "No key was given: this is how far it is.",
        next_steps(repository, base),
        all_standings(repository),
        {"signed": done, "taken_over": taken, "changes": changes},
    ).show(as_json)


@app.command("status", epilog="Example: portico policy status policy")
def status(base: Base, as_json: AsJson = False) -> None:
    """Tell what is in force, what waits for whom, and what runs out soon."""
    repository = Repository(base)
    standings = all_standings(repository)
    steps = (*next_steps(repository, base), *running_out(standings, base, now_ms()))
    changes = _changes(repository)
    Told(
        f"The draft of the policy {changes}." if changes else "The policy is as it was published.",
        steps,
        standings,
        {"changes": changes},
    ).show(as_json)


@app.command("rotate", epilog="Example: portico policy rotate policy targets --public a.pub --public b.pub")
def rotate_command(
    base: Base,
    role: Annotated[str, typer.Argument(help="root, targets, snapshot, timestamp or assignment.")],
    public: Public = None,
    threshold: Annotated[
        int | None, typer.Option(min=1, help="How many sign together; 2 for root and targets.")
    ] = None,
    pass_phrase_file: PassPhrase = None,
    as_json: AsJson = False,
) -> None:
    """Change the keys of a part: after a theft, or when somebody leaves."""
    repository = Repository(base)
    if role not in (*TOP_ROLES, "assignment"):
        raise ConfigError(f"{role} is no role of the root: {', '.join(TOP_ROLES)} and assignment are")
    together = role in (ROOT, TARGETS)
    keys = public_keys(public)
    made: list[KeyPair] = []
    if not keys:
        # One name a key for ever: the old one may still be needed, and is never written over.
        number = 1 + max(_versions_of_keys(base, role), default=0)
        names = [f"{role}-{number + one}" for one in range(3 if together else 1)]
        made = [
            generate(one, Algorithm.P256 if at % 2 else Algorithm.ED25519) for at, one in enumerate(names)
        ]
        for pair in made:
            write(base / "keys", pair, phrase_in(pass_phrase_file))
        keys = [pair.public for pair in made]
    if role == "assignment":
        rotate_assignment(repository, keys, now_ms())
        after = "what the old key signed is void then: portico policy assign --again for every gateway"
    else:
        rotate(repository, role, keys, threshold or (2 if together else 1), now_ms())
        after = "publish with the new keys"
    for pair in made:
        repository.sign(pair)
    Told(
        f"{role} is signed by {', '.join(holders({one.keyid: one for one in keys}))} once this is in force.",
        (*next_steps(repository, base), after),
        all_standings(repository),
        {"keys": [str(one.keyid) for one in keys]},
    ).show(as_json)


# --- inside


def _before(repository: Repository, gateway: str) -> tuple[Table, tuple[bytes, ...]]:
    """Return what was assigned before, and the consents that came with it."""
    found = present_assignment(repository, gateway)
    if found is None:
        raise ConfigError(f"{gateway} has no assignment yet: give a FILE with what is assigned")
    document, consents = found
    head = document.get("assignment")
    kept = {key: head[key] for key in ("groups",) if isinstance(head, dict) and key in head}
    return {**document, "assignment": kept}, consents


def _versions_of_keys(base: Path, role: str) -> list[int]:
    numbers = (path.stem.removeprefix(f"{role}-") for path in (base / "keys").glob(f"{role}*.key"))
    return [int(one) for one in numbers if one.isdigit()]


def _changes(repository: Repository) -> str:
    """Say which grants a draft adds, changes and takes away."""
    if repository.draft_targets() is None:
        return ""
    published = repository.targets()
    old: dict[str, str] = {}
    if published is not None and POLICY_PATH in published.signed.targets:
        before = repository.content(POLICY_PATH, published.signed.targets[POLICY_PATH])
        old = {named.id: named.sha256 for named, _ in named_grants(before)}
    drafted = repository.document(POLICY_PATH)
    new = {} if drafted is None else {named.id: named.sha256 for named, _ in named_grants(drafted)}
    parts = [
        ("adds", [one for one in new if one not in old]),
        ("changes", [one for one in new if one in old and old[one] != new[one]]),
        ("takes away", [one for one in old if one not in new]),
    ]
    told = [
        f"{verb} {', '.join(ids[:20])}{' and more' if len(ids) > 20 else ''}" for verb, ids in parts if ids
    ]
    return "; ".join(told) or "changes no grant"
