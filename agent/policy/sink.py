"""What the policy's keeper tells: the control file, the audit, the alarms, and whoever hears the state."""

from collections.abc import Callable
from typing import Final

from agent.policy.note import KEY
from agent.store.store import Store


class StoreSink:
    """Passes it on to the parts of a running gateway."""

    def __init__(
        self,
        store: Store,
        on_alarm: Callable[[str, bool, str], None],
        now_ms: Callable[[], int],
        on_change: Callable[[], None],
    ) -> None:
        self._store: Final = store
        self._on_alarm: Final = on_alarm
        self._now_ms: Final = now_ms
        self._on_change: Final = on_change

    def remember(self, note: str) -> None:
        """Keep what must outlast the policy's folder."""
        self._store.control.writer.call(lambda file: file.set_meta(KEY, note))

    def audit(self, kind: str, body: dict[str, object]) -> None:
        """Tell it in the audit."""
        self._store.audit(kind, body, self._now_ms())

    def alarm(self, code: str, raised: bool, text: str) -> None:
        """Raise or clear an alarm."""
        self._on_alarm(code, raised, text)

    def changed(self) -> None:
        """Tell everybody who hears the state what is held now."""
        self._on_change()
