"""`portico policy`, put together: reading and explaining, keeping and signing, publishing.

Each part is its package's own; they meet here because publishing needs the network, which policies
do not know.
"""

import typer

from headend import policycli
from policies import cli as reading
from policies import trust_cli as keeping

app = typer.Typer(
    no_args_is_help=True, help="Print, check and explain policies; keep, sign and publish them."
)
for _part in (reading.app, keeping.app, policycli.app):
    app.add_typer(_part)
