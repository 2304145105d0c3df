"""A question put to a gateway by a person: send these sequences again.

It is signed, and counted in the books like those of a running collector; the gateway answers in its
stream, within its budget for questions.
"""

from __future__ import annotations

import base64
import os
import time
from typing import Final

from certs.contexts import client_context
from certs.signing import SigningKey
from core.codec import encode_plain, seal
from core.errors import Rejected, Unreachable
from core.ranges import Range
from core.records import Ask
from core.topics import ask_topic
from headend.books import Books
from headend.config import HeadendConfig
from headend.inbox import Inbox
from headend.link import Link

TIMEOUT_S: Final = 15.0


def ask_again(config: HeadendConfig, gateway: str, ranges: dict[str, list[Range]], now_ms: int) -> int:
    """Ask over every broker of the configuration; return the number of the question.

    Raises Unreachable and Rejected.
    """
    entity = config.headend.entity
    key = SigningKey.load(config.signing.key, config.signing.cert)
    inbox = Inbox()
    links: list[Link] = []
    for number, broker in enumerate(config.broker):
        context = None
        if broker.ca is not None and broker.cert is not None and broker.key is not None and broker.tls:
            context = client_context(broker.ca, broker.cert, broker.key)
        passing = broker.model_copy(update={"session_expiry_s": 0})
        links.append(Link(number, passing, f"{entity}-ask-{os.getpid()}", [], context, inbox))
    try:
        for link in links:
            link.start()
        reached = [link for link in links if link.wait_connected(TIMEOUT_S)]
        if not reached:
            raise Unreachable(links[0].failure or f"no answer from {links[0].url}")
        books = Books(config.headend.books, now_ms)
        try:
            with books.transaction(now_ms):
                n = books.next_n(gateway, entity)
                books_id = books.books_id
        finally:
            books.close()
        certificate = base64.b64encode(key.certificate_der).decode()
        message = Ask(v=1, books=books_id, n=n, ranges=ranges, cert=certificate, at=now_ms)
        topic = ask_topic(gateway, entity)
        payload = seal(topic, encode_plain(message), key)
        for link in reached:
            link.publish(topic, payload)
        _wait(reached)
        return n
    finally:
        for link in links:
            link.stop()


def _wait(links: list[Link]) -> None:
    """Wait until each broker has said something to the question."""
    end_s = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end_s:
        if all(link.delivered or link.rejected for link in links):
            break
        time.sleep(0.01)
    if not any(link.delivered for link in links):
        refused = next((link for link in links if link.rejected), None)
        if refused is not None:
            raise Rejected(0x87, f"broker {refused.url} refuses the question: check its access rules")
        raise Unreachable(f"broker {links[0].url} did not take the question in {TIMEOUT_S:g} s: try again")
