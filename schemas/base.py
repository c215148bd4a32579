"""The one base of every schema: frozen, and closed to unknown fields."""

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """An immutable value that refuses fields it does not declare."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)
