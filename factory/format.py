"""The format protocol: selected prompt rows in, rows of one trainer format out."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import polars as pl

from fucina.factory.stage import Context
from fucina.schemas.base import Record


@dataclass(frozen=True)
class Built:
    """Rows of a data set in their final order, and the prompts that gave none, with a `reason`."""

    rows: list[Record]
    dropped: pl.DataFrame


@runtime_checkable
class Format(Protocol):
    """Turns the selections of one split into rows a trainer can read. A frozen pydantic model, like a stage."""

    @property
    def name(self) -> str:
        """Id, the file name in pipelines/formats/."""
        ...

    @property
    def version(self) -> str:
        """Changes whenever its rows may."""
        ...

    @property
    def row(self) -> type[Record]:
        """The schema of its rows."""
        ...

    def build(self, frame: pl.DataFrame, ctx: Context) -> Built:
        """The data set of one split, in its final order."""
        ...
