"""The base of every settings class: frozen, and a key it does not know is an error."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Part of `service.yaml`. Fields carry a default, a unit and a line of explanation (`Field(description=...)`)."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)
