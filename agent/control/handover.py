"""One control takes a point over from others: they stand still, and either all of it happens or nothing.

    claim -> every holder stands still -> one transaction: they are superseded, the new one is dispatched
                                       -> or nothing was written: they go on as if nobody had asked

Until that transaction the holder is who puts the device back; from it on the new control is.  At no instant
is it nobody, wherever the agent ends.  A holder that is ended meanwhile (a cancellation, the customer's no)
takes its consent back.  Not here: what is written (`agent.control.course`).
"""

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

from agent.control.life import Control, State
from core.errors import PorticoError

PATIENCE_S: Final = 30.0
"""How long a control that takes over waits for those before it."""


class TakenBack(PorticoError):
    """A holder did not stand still, or no longer does: it has to end for a reason of its own."""


class Claim:
    """What one control asks of one holder."""

    def __init__(self) -> None:
        self.ready = False
        """The holder stands still, or is over."""
        self.changed = asyncio.Event()
        self.turn = asyncio.Event()
        """The holder has to look: there is a verdict, or it has to end."""
        self.closing = False
        """The transaction is under way: consent cannot be taken back."""
        self.verdict: asyncio.Future[Control | None] = asyncio.get_running_loop().create_future()
        """The holder as it is afterwards; None when it goes on."""

    def stands(self, ready: bool) -> None:
        """Say whether the holder stands still."""
        self.ready = ready
        self.changed.set()

    def settle(self, after: Control | None) -> None:
        """Tell the holder what became of it."""
        if not self.verdict.done():
            self.verdict.set_result(after)
        self.turn.set()


class Holder(Protocol):
    """A control that may have to give way."""

    @property
    def control(self) -> Control:
        """As it is now."""

    def claim(self, claim: Claim) -> bool:
        """Take a claim; False when another one waits."""


class Handover:
    """The claims of one control on all that hold its point."""

    def __init__(self, holders: Sequence[Holder]) -> None:
        self._claims = [(holder, Claim()) for holder in holders]

    async def agreed(self) -> bool:
        """Ask all, and wait until every one stands still; False when that takes too long."""
        if not all(holder.claim(claim) for holder, claim in self._claims):
            return False
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not self._all_ready:
                    for _, claim in self._claims:
                        if not claim.ready:
                            claim.changed.clear()
                            await claim.changed.wait()
        except TimeoutError:
            return False
        return True

    @property
    def _all_ready(self) -> bool:
        return all(claim.ready for _, claim in self._claims)

    def close(self) -> list[tuple[Control, State]] | None:
        """Return the steps of the holders for the transaction, which must follow; None: one took back."""
        if not self._all_ready:
            return None
        for _, claim in self._claims:
            claim.closing = True
        return [
            (one.control, State.SUPERSEDED if one.control.started else State.CANCELLED)
            for one, _ in self._claims
            if not one.control.ended
        ]

    def done(self, after: Sequence[Control]) -> None:
        """Tell the holders that the transaction was made; ``after`` is how each is now."""
        found = {one.key: one for one in after}
        for holder, claim in self._claims:
            claim.settle(found.get(holder.control.key))

    def give_up(self) -> None:
        """Let whoever still stands still go on."""
        for _, claim in self._claims:
            claim.settle(None)
