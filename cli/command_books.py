"""What the books of an entity's collector have of one command."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from core.records import Outcome, Record
from headend.schema import open_reader, translated


def steps_in(books: Path, gateway: str, command: str, entity: str) -> Iterator[tuple[str, Outcome]]:
    """Yield (epoch, outcome) in the order in which the gateway told them."""
    connection = open_reader(books)
    with contextlib.closing(connection), translated(books):
        rows = connection.execute(
            "SELECT epoch.epoch, body FROM record JOIN epoch ON epoch.no = record.epoch_no "
            "WHERE type = 'outcome' AND gateway = ? AND json_extract(body, '$.command') = ? "
            "ORDER BY json_extract(body, '$.at'), seq",
            (gateway, command),
        ).fetchall()
    for epoch, body in rows:
        found = msgspec.json.decode(body, type=Record)
        if isinstance(found, Outcome) and (found.entity or entity) == entity:
            yield epoch, found
