"""``[[device.transformer]]`` of gateway.toml: the transformers in front of a meter, over time.

Each term is checked by itself; what the terms of a device say against each other is in
`agent.config_rules`.  Not here: applying them (`agent.multiplier`).
"""

from fractions import Fraction
from typing import Annotated

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)

from agent.multiplier import parse_ratio
from core.transformers import Term


def _ratio(value: object) -> Fraction:
    return value if isinstance(value, Fraction) else parse_ratio(value)


RatioKey = Annotated[Fraction, PlainValidator(_ratio), WithJsonSchema({"type": "string"})]
"""Primary by secondary, ``"100/5"``; in quotes, because it is exact."""


class TransformerConfig(BaseModel):
    """``[[device.transformer]]``: the transformers in front of a meter since an instant."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    begin: AwareDatetime | None = Field(default=None, alias="from")
    ct: RatioKey = Fraction(1)
    vt: RatioKey = Fraction(1)

    @model_validator(mode="after")
    def _says(self) -> "TransformerConfig":
        if not {"ct", "vt"} & self.model_fields_set:
            raise ValueError('gives no ratio: write for example ct = "100/5"')
        return self

    @property
    def term(self) -> Term:
        """The same as values are multiplied by it."""
        return Term(None if self.begin is None else round(self.begin.timestamp() * 1000), self.ct, self.vt)
