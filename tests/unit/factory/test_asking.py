"""No answer is lost, none is asked for twice, errors are asked again."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from fucina.factory.asking import AnswerLog, ask
from fucina.schemas.generation import EngineCard, GenerationRequest, GenerationResult, Sampling
from fucina.schemas.rows import Message


class Scripted:
    """An engine that answers what it is told to, and remembers what it was asked."""

    def __init__(
        self, *, failing: Iterable[str] = (), silent: Iterable[str] = (), stop_after: int | None = None
    ) -> None:
        self.asked: list[str] = []
        self._failing, self._silent, self._stop_after = set(failing), set(silent), stop_after

    def card(self) -> EngineCard:
        return EngineCard(engine="scripted", model="m")

    def generate(self, requests: Iterable[GenerationRequest]) -> Iterator[GenerationResult]:
        for request in requests:
            self.asked.append(request.request_id)
            if self._stop_after is not None and len(self.asked) > self._stop_after:
                raise KeyboardInterrupt
            if request.request_id in self._failing:
                yield GenerationResult(request_id=request.request_id, finish_reason="error", error="too busy")
            elif request.request_id not in self._silent:
                yield GenerationResult(request_id=request.request_id, response=f"r{request.request_id}")

    def close(self) -> None:
        """Nothing to close."""


def requests(*ids: str) -> list[GenerationRequest]:
    message = Message(role="user", content="?")
    return [GenerationRequest(request_id=i, prompt_id=i, messages=[message], sampling=Sampling(), seed=0) for i in ids]


def count(_: int) -> None:
    """Progress nobody watches."""


def test_answers_survive_and_are_not_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    engine = Scripted(stop_after=2)
    try:
        with AnswerLog(path) as log:
            ask(engine, requests("a", "b", "c", "d"), log, count)
    except KeyboardInterrupt:
        pass
    again = Scripted()
    with AnswerLog(path) as log:
        assert ask(again, requests("a", "b", "c", "d"), log, count) == 2
        assert again.asked == ["c", "d"]
        assert {key: result.response for key, result in log.results.items()} == {k: f"r{k}" for k in "abcd"}


def test_a_torn_last_line_is_cut_and_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    with AnswerLog(path) as log:
        ask(Scripted(), requests("a", "b"), log, count)
    path.write_bytes(path.read_bytes()[:-15])
    engine = Scripted()
    with AnswerLog(path) as log:
        ask(engine, requests("a", "b"), log, count)
    assert engine.asked == ["b"]
    with AnswerLog(path) as log:
        assert set(log.results) == {"a", "b"}


def test_errors_are_kept_as_errors_and_asked_again_next_time(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    with AnswerLog(path) as log:
        ask(Scripted(failing=["b"]), requests("a", "b"), log, count)
        assert log.results["b"].error == "too busy"
    engine = Scripted()
    with AnswerLog(path) as log:
        ask(engine, requests("a", "b"), log, count)
        assert engine.asked == ["b"]
        assert log.results["b"].response == "rb"


def test_a_request_without_result_becomes_an_error(tmp_path: Path) -> None:
    with AnswerLog(tmp_path / "answers.jsonl") as log:
        ask(Scripted(silent=["b"]), requests("a", "b"), log, count)
        assert log.results["b"].error == "the engine gave no result"


def test_one_request_twice_is_asked_once(tmp_path: Path) -> None:
    engine = Scripted()
    with AnswerLog(tmp_path / "answers.jsonl") as log:
        ask(engine, requests("a", "a", "b"), log, count)
    assert engine.asked == ["a", "b"]
