"""A table for a narrow terminal: what does not fit is folded, because a name that is cut is another one."""

from rich.table import Column, Table


def folding(*names: str) -> Table:
    """Return a table with these columns."""
    return Table(*(Column(name, overflow="fold") for name in names))
