"""The gateway agent as a program of its own: what `portico agent run` becomes.

``python -m agent CONFIG LEVEL``; not for typing.  Loads, says what is wrong with the configuration and the
certificates, and serves.
"""

import logging
import sys
from pathlib import Path

from agent.config import load_config, types_of, warnings
from agent.identity import identity_faults, identity_warnings
from agent.linelink import port_warnings
from agent.serving import run
from core.outcome import leave


def main(config: Path, level: str) -> None:
    """Run a gateway until SIGTERM; leaves with its exit code."""
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    log = logging.getLogger("agent")
    loaded = load_config(config)
    told = (*warnings(loaded, types_of(loaded.gateway)), *port_warnings(loaded), *identity_warnings(loaded))
    for warning in told:
        log.warning("%s", warning)
    for fault in identity_faults(loaded):
        # An expired certificate must not stop a meter from being read: rows wait in the store.
        log.error("identity: %s", fault)
    log.info("gateway %s: starting", loaded.gateway.id)
    sys.exit(run(loaded, lambda: log.info("ready")))


if __name__ == "__main__":
    leave(lambda: main(Path(sys.argv[1]), sys.argv[2]))
