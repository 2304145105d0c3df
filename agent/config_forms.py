"""Forms of single values that several tables of gateway.toml share: names, and paths from its folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, ValidationInfo

from core.ids import name_fault


def checked(text: str) -> str:
    """Return a well formed name; ``ValueError`` says what is wrong with another."""
    fault = name_fault(text)
    if fault is not None:
        raise ValueError(f'"{text}" {fault}')
    return text


def _path(value: object, info: ValidationInfo) -> object:
    """Read a relative path from the folder in which the configuration lies."""
    if isinstance(value, str) and not value:
        raise ValueError("an empty path")
    if not isinstance(value, str | Path):
        raise ValueError("must be a path in quotes")
    context = info.context
    folder = context.get("folder") if isinstance(context, Mapping) else None
    return Path(folder, value) if isinstance(folder, Path) else Path(value)


Name = Annotated[str, AfterValidator(checked)]
FilePath = Annotated[Path, BeforeValidator(_path)]
