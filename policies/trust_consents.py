"""`portico policy consent-key | consent`: owners who have no role of their own agree to a grant.

Relies on `policies.trust.agreement` for what a consent is.
"""

from pathlib import Path
from typing import Annotated

import typer

from core.errors import ConfigError
from policies.trust.agreement import OWNERS, Consent, Validity, named_grants, seal_consent
from policies.trust.bounds import POLICY_PATH
from policies.trust.ceremony import consent_keys, set_consent_keys, with_owners
from policies.trust.files import write_whole
from policies.trust.instants import instant_text
from policies.trust.keys import read_public
from policies.trust.repository import Repository
from policies.trust_options import AsJson, Base, PassPhrase, key_pairs, now_ms
from policies.trust_told import Told, all_standings, next_steps

app = typer.Typer()


@app.command(
    "consent-key", epilog="Example: portico policy consent-key policy portal.pub --owner 'customer-*'"
)
def consent_key(
    base: Base,
    public: Annotated[Path, typer.Argument(metavar="PUB", help="Public key of an owner, or of a portal.")],
    owner: Annotated[list[str], typer.Option(help="For whom it signs; * at the end stands for all such.")],
    as_json: AsJson = False,
) -> None:
    """Let a key sign the consents of owners who have no role of their own."""
    repository = Repository(base)
    fresh = with_owners(read_public(public), owner, OWNERS)
    known = consent_keys(repository)
    set_consent_keys(repository, [*(k for k in known.values() if k.keyid != fresh.keyid), fresh], now_ms())
    Told(
        f"{public.stem} may sign consents of {', '.join(owner)} once the policy office has signed.",
        next_steps(repository, base),
        all_standings(repository),
    ).show(as_json)


@app.command(
    "consent",
    epilog="Example: portico policy consent policy gw-0001 customer-17 --grant esco1-water-heaters "
    '--evidence "form 117" --key portal.key -o consent-17.json',
)
def consent(
    base: Base,
    gateway: Annotated[str, typer.Argument(help="At which gateway.")],
    owner: Annotated[str, typer.Argument(help="Who consents.")],
    grant_ids: Annotated[list[str], typer.Option("--grant", help="To which grant; may be repeated.")],
    evidence: Annotated[str, typer.Option(help="What shows it, as the assignment names it.")],
    key: Annotated[Path, typer.Option(metavar="FILE", help="The owner's key, or that of its portal.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the signed consent is written.")],
    begin_at: Annotated[
        str | None, typer.Option("--from", help="2026-12-01T00:00:00Z; without: at once.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="2027-12-01T00:00:00Z; without: until withdrawn.")] = None,
    pass_phrase_file: PassPhrase = None,
    as_json: AsJson = False,
) -> None:
    """Sign that an owner agrees to the present wording of some grants at one gateway."""
    document = Repository(base).document(POLICY_PATH) or b""
    known = {named.id: named for named, _ in named_grants(document)}
    for one in grant_ids:
        if one not in known:
            raise ConfigError(f"there is no grant {one} in the policy")
    validity = Validity(begin_at, until)
    validity.bounds()
    grants = [known[one] for one in grant_ids]
    record = Consent(1, owner, gateway, grants, evidence, instant_text(now_ms()), validity)
    (pair,) = key_pairs([key], pass_phrase_file)
    write_whole(output, seal_consent(record, pair.signer))
    Told(
        f"{output} says that {owner} agrees to {', '.join(grant_ids)} at {gateway}.",
        (f"portico policy assign {base} {gateway} FILE --consent {output}",),
        more={"file": str(output)},
    ).show(as_json)
