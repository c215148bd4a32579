"""The executor protocol."""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Executor(Protocol):
    """Applies a picklable function to shards, and yields results in the order of the shards."""

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Results in the order of the items, as they are done."""
        ...

    def close(self) -> None:
        """Free the workers."""
        ...
