"""Ask engines and lose no answer: every result goes to a log on disk before anything else sees it.

One line per answer, flushed as it comes. After a kill the log is read back, a torn last line is cut off, and
only requests without a line are asked. Errors are logged too, but asked again on the next attempt, because what
failed (a server down, a time-out) may work then.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import ValidationError

from fucina.factory.engines.base import Engine
from fucina.factory.progress import Advance
from fucina.schemas.generation import GenerationRequest, GenerationResult


class AnswerLog:
    """Append-only log of results, by request id."""

    def __init__(self, path: Path) -> None:
        self.results = _read(path)
        self._stream = path.open("ab")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def answered(self, request_id: str) -> bool:
        """Whether a request has an answer; an error is not one."""
        result = self.results.get(request_id)
        return result is not None and result.error is None

    def append(self, result: GenerationResult) -> None:
        """Write one result through to the operating system, so that it survives a kill of this process."""
        self._stream.write(result.model_dump_json().encode("utf-8", "surrogatepass") + b"\n")
        self._stream.flush()
        self.results[result.request_id] = result


def ask(engine: Engine, requests: Iterable[GenerationRequest], log: AnswerLog, advance: Advance) -> int:
    """Answer what the log does not have yet, and return how many requests were sent.

    The engine pulls requests as it has room, across shards. A request it forgets becomes an error, never a gap.
    """
    sent: dict[str, None] = {}

    def fresh() -> Iterator[GenerationRequest]:
        for request in requests:
            if log.answered(request.request_id):
                advance(1)
            elif request.request_id not in sent:  # two rows with one prompt share one answer
                sent[request.request_id] = None
                yield request

    answered: set[str] = set()
    for result in engine.generate(fresh()):
        log.append(result)
        answered.add(result.request_id)
        advance(1)
    for request_id in sent:
        if request_id not in answered:
            log.append(
                GenerationResult(request_id=request_id, finish_reason="error", error="the engine gave no result")
            )
    return len(sent)


def _read(path: Path) -> dict[str, GenerationResult]:
    if not path.exists():
        return {}
    results: dict[str, GenerationResult] = {}
    whole = 0
    with path.open("rb") as stream:
        for line in stream:
            if not line.endswith(b"\n"):
                break
            try:
                result = GenerationResult.model_validate_json(line)
            except ValidationError:
                break
            results[result.request_id] = result
            whole += len(line)
    if whole < path.stat().st_size:
        os.truncate(path, whole)
    return results
