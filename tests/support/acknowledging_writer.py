"""A stand-in for the agent's store: writes rows in groups and tells the outside what it has committed.

Run as `python acknowledging_writer.py DATABASE FULL|NORMAL SEED`. Each line on stdout is the highest id
whose transaction has committed, written with one write(2) after the commit. Ids run from 1 without a hole.
Relies on the standard library alone, so that the proof judges SQLite and the disk and nothing of ours.
"""

import os
import random
import sqlite3
import sys
from itertools import count

GROUP_MAX = 20
ROW_BYTES = 200


def write(path: str, synchronous: str, seed: int) -> None:
    rng = random.Random(seed)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("CREATE TABLE row (id INTEGER PRIMARY KEY, content BLOB NOT NULL)")
    ids = count(1)
    while True:
        group = [(next(ids), rng.randbytes(ROW_BYTES)) for _ in range(rng.randint(1, GROUP_MAX))]
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO row VALUES (?, ?)", group)
        connection.execute("COMMIT")
        os.write(1, b"%d\n" % group[-1][0])


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[2] not in ("FULL", "NORMAL"):
        sys.exit("usage: acknowledging_writer.py DATABASE FULL|NORMAL SEED")
    write(sys.argv[1], sys.argv[2], int(sys.argv[3]))
