"""Older copies: of a gateway's store and of an entity's books, taken and put back later.

A copy is what an operator's backup, an image of an SD card or a snapshot of a virtual machine would be:
files copied while nobody writes, or SQLite's own backup of a running file. Relies on SQLite's file names.
"""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

SIDE_FILES: Final = ("-wal", "-shm")
LEFT_OUT: Final = ("lock", "status.json", "status.json.new", "*.reserve")


def copy_folder(folder: Path, to: Path) -> Path:
    """Copy the folder of a store whose owner does not run."""
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns(*LEFT_OUT))
    return to


def put_folder_back(copy: Path, folder: Path) -> None:
    """Put a copied folder in the place of one whose owner does not run."""
    for file in folder.iterdir():
        if file.is_file() and file.name != "lock":
            file.unlink()
    shutil.copytree(copy, folder, dirs_exist_ok=True)


def copy_file(database: Path, to: Path) -> Path:
    """Copy one database with its write-ahead log, byte by byte; its owner must not run."""
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(database, to)
    wal = database.with_name(database.name + "-wal")
    if wal.exists():
        shutil.copyfile(wal, to.with_name(to.name + "-wal"))
    return to


def back_up(database: Path, to: Path) -> Path:
    """Copy one database by SQLite's backup, also while its owner writes."""
    to.parent.mkdir(parents=True, exist_ok=True)
    with (
        closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)) as source,
        closing(sqlite3.connect(to)) as target,
    ):
        source.backup(target)
    return to


def put_file_back(copy: Path, database: Path) -> None:
    """Put a copied database in the place of one whose owner does not run."""
    for suffix in ("", *SIDE_FILES):
        database.with_name(database.name + suffix).unlink(missing_ok=True)
    shutil.copyfile(copy, database)
    wal = copy.with_name(copy.name + "-wal")
    if wal.exists():
        shutil.copyfile(wal, database.with_name(database.name + "-wal"))
