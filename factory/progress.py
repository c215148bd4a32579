"""Progress of long work: who does it opens a task and advances it; who watches is the caller's choice."""

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int], None]


class Progress(Protocol):
    """Opens a task and gives back the function that advances it."""

    def task(self, label: str, total: int | None, unit: str = "rows") -> AbstractContextManager[Advance]:
        """A task of `total` steps, or of nobody knows how many."""
        ...


class Silent:
    """Shows nothing: for `--json`, tests and worker processes."""

    @contextmanager
    def task(self, label: str, total: int | None, unit: str = "rows") -> Generator[Advance]:
        """A task nobody watches."""
        del label, total, unit
        yield lambda _steps: None


SILENT: Progress = Silent()
