"""What comes back from an entity: confirmations and questions, judged before they count.

A message counts when it is signed by the entity's collector, was not retained, and
is newer than all before: books ids order by the instant they were made, messages
of the same books by their number.  A replayed old one is without effect.
"""

import logging
from datetime import datetime
from typing import Final

from certs.signing import TrustedSigners
from core.codec import carried_certificate, decode_ask, decode_confirmation, unseal
from core.errors import TrustError, UnknownKey, WireError
from core.ids import books_born_ms
from core.records import Ask, Confirmation
from core.topics import ask_topic, confirm_topic

log = logging.getLogger(__name__)

LONGEST_BODY: Final = 1 << 20
"""Bytes; a confirmation of 32 epochs of 200 ranges takes about 150,000."""


class Hearing:
    """Judges what one entity's collectors say to one gateway."""

    def __init__(self, gateway: str, entity: str, trusted: TrustedSigners) -> None:
        self.entity = entity
        self.books = ""
        """Books id of the newest message taken."""
        self.n = 0
        """Its number."""
        self.ignored = 0
        """Messages that were forged, old or malformed."""
        self.want_cert = False
        """A message came by a key that is not known: the next one out asks for its certificate."""
        self._trusted = trusted
        self._confirm = confirm_topic(gateway, entity)
        self._ask = ask_topic(gateway, entity)

    def concerns(self, topic: str) -> bool:
        """Tell whether a topic is one of ours."""
        return topic in (self._confirm, self._ask)

    def judge(
        self, topic: str, payload: bytes, retained: bool, at: datetime
    ) -> tuple[Confirmation | Ask, bool] | None:
        """Return the message and whether it comes from new books; None when it does not count."""
        if retained:  # never published so by a collector: an old one, kept by somebody
            self.ignored += 1
            return None
        try:
            body = self._opened(topic, payload, at)
            message = decode_confirmation(body) if topic == self._confirm else decode_ask(body)
        except (WireError, TrustError) as error:
            self.ignored += 1
            log.info("ignored a message on %s: %s", topic, error)
            return None
        if message.books == self.books:
            if message.n <= self.n:
                self.ignored += 1
                return None
            self.n = message.n
            return message, False
        if self.books and books_born_ms(message.books) <= books_born_ms(self.books):
            self.ignored += 1
            return None
        renewed = bool(self.books)
        self.books, self.n = message.books, message.n
        return message, renewed

    def _opened(self, topic: str, payload: bytes, at: datetime) -> bytes:
        verifier = self._trusted.verifier(self.entity, "collector", at)
        try:
            return unseal(topic, payload, verifier, LONGEST_BODY)
        except UnknownKey:
            der = carried_certificate(payload)
            if der is None:
                self.want_cert = True
                raise
        self._trusted.admit(der, subject=self.entity, role="collector", at=at)
        body = unseal(topic, payload, verifier, LONGEST_BODY)
        self.want_cert = False
        return body
