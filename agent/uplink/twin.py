"""Noticing a second box with this gateway's id: a slip of the installer, or a copied box."""

import logging
from collections.abc import Callable

from agent.store.store import Store
from core.codec import decode_state, unseal
from core.errors import WireError

log = logging.getLogger(__name__)


class TwinWatch:
    """Listens to the gateway's own state: an epoch that is not of our store is of another box."""

    def __init__(self, topic: str, store: Store, on_alarm: Callable[[str, bool, str], None]) -> None:
        self._topic = topic
        self._store = store
        self._on_alarm = on_alarm

    def up(self, session_present: bool) -> None:
        """Nothing to do."""

    def down(self) -> None:
        """Nothing to do."""

    def heard(self, topic: str, payload: bytes, retained: bool) -> None:
        """Judge a state that claims to be ours.

        Whoever may write to the topic has a certificate of this gateway, so it is not verified
        further: all that comes of it is an alarm.
        """
        if topic != self._topic:
            return
        try:
            state = decode_state(unseal(topic, payload, lambda *_: None))
        except WireError:
            return
        own = {known.epoch for known in self._store.data.file.epochs}
        if state.online and state.epoch not in own:
            text = (
                f"another box says that it is {state.gateway} (epoch {state.epoch}): two gateways with one "
                "id, or a copied box; find it, and give each its own id and certificate"
            )
            log.error("%s", text)
            self._on_alarm("identity-in-use", True, text)
