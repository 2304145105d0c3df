"""``[policy]`` of gateway.toml: whose policy this gateway believes, and where it comes from.

Not here: taking and verifying it (`agent.policy`).
"""

from pydantic import BaseModel, ConfigDict

from agent.config_forms import FilePath, Name


class PolicyConfig(BaseModel):
    """The table; without it the gateway holds no policy, obeys nobody and measures."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True)

    root: FilePath
    segment: Name = "main"
    route: Name | None = None
    folder: FilePath | None = None
