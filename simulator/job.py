"""What passes between the process of a plant and its workers, besides requests of the control socket.

Relies on msgspec. Not here: either end.
"""

import msgspec

from simulator.run import Running


class Job(msgspec.Struct):
    """What a worker gets to do."""

    scenario: msgspec.Raw
    log_dir: str
    types: list[str]
    host: str


class Failed(msgspec.Struct, tag="failed"):
    """What a worker says in place of being ready."""

    sentence: str
    faults: tuple[str, ...] = ()
    configuration: bool = False


class Ready(msgspec.Struct, tag="ready"):
    """What a worker says when its lines are open."""

    running: Running
