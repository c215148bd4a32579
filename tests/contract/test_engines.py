"""What every engine promises, asked of each engine found, and that those with the same weights agree."""

import math
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from fucina.factory.engines.base import Engine, LogprobScorer
from fucina.factory.plugins import ENGINES, available, load
from fucina.schemas.generation import GenerationRequest, GenerationResult, Sampling, ScoringRequest, ScoringResult
from fucina.schemas.rows import Message
from tests.servers import ChatServer, status
from tests.tiny import CORPUS, make_tiny_model

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:vllm")

PROMPTS = [f"{number}. {CORPUS[number % len(CORPUS)]}" for number in range(20)]
TOO_LONG = "Il gatto dorme sul divano. " * 2000
MAX_LEN = 256
KV_BYTES = 64 << 20


@dataclass(frozen=True)
class Case:
    """How to make an engine, and a prompt that it cannot answer."""

    build: Callable[[], Any]
    unanswerable: str


def replay(_folder: Callable[[], Path], tmp: Path) -> Iterator[Case]:
    records = tmp / "answers.jsonl"
    answers = [{"prompt": prompt, "model": "m", "response": f"Risposta a {prompt}"} for prompt in PROMPTS]
    pl.DataFrame(answers).write_ndjson(records)
    yield Case(lambda: load(ENGINES, "replay").at(f"{records}#m"), "mai chiesto")


def openai(_folder: Callable[[], Path], _tmp: Path) -> Iterator[Case]:
    with ChatServer(lambda prompt, _attempt: status(400) if prompt == "guasto" else None) as server:
        yield Case(lambda: load(ENGINES, "openai").at(f"{server.url}#eco", concurrency=4), "guasto")


def transformers(folder: Callable[[], Path], _tmp: Path) -> Iterator[Case]:
    yield Case(lambda: load(ENGINES, "transformers").at(str(folder())), TOO_LONG)


def vllm(folder: Callable[[], Path], _tmp: Path) -> Iterator[Case]:
    limits = {"max_model_len": MAX_LEN, "kv_cache_memory_bytes": KV_BYTES}
    yield Case(lambda: load(ENGINES, "vllm").at(str(folder()), **limits), TOO_LONG)


def nano(_folder: Callable[[], Path], _tmp: Path) -> Iterator[Case]:
    yield Case(lambda: load(ENGINES, "nano").at("small"), TOO_LONG)


CASES = {made.__name__: made for made in (nano, openai, replay, transformers, vllm)}
MARKS = {"nano": [pytest.mark.slow], "vllm": [pytest.mark.vllm]}
FOUND = [pytest.param(name, marks=MARKS.get(name, [])) for name in available(ENGINES) if name in CASES]


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    made: list[Path] = []

    def folder() -> Path:
        if not made:
            made.append(make_tiny_model(tmp_path_factory.mktemp("tiny")))
        return made[0]

    return folder


@pytest.fixture(scope="module", params=FOUND)
def named_case(
    request: pytest.FixtureRequest, tiny_folder: Callable[[], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Case]]:
    for case in CASES[request.param](tiny_folder, tmp_path_factory.mktemp(request.param)):
        yield request.param, case


@pytest.fixture(scope="module")
def case(named_case: tuple[str, Case]) -> Case:
    return named_case[1]


@pytest.fixture(scope="module")
def engine(case: Case) -> Iterator[Engine]:
    made = case.build()
    yield made
    made.close()


@pytest.fixture(scope="module")
def scorer(engine: Engine) -> LogprobScorer:
    if not isinstance(engine, LogprobScorer):
        pytest.skip("does not score")
    return engine


def ask(request_id: str, prompt: str, *, temperature: float = 0.0, seed: int = 17) -> GenerationRequest:
    return GenerationRequest(
        request_id=request_id,
        prompt_id=f"prompt of {request_id}",
        messages=[Message(role="user", content=prompt)],
        sampling=Sampling(max_tokens=8, temperature=temperature),
        seed=seed,
    )


def asks(temperature: float = 0.0) -> list[GenerationRequest]:
    return [ask(f"r{at}", prompt, temperature=temperature, seed=at) for at, prompt in enumerate(PROMPTS)]


def scores() -> list[ScoringRequest]:
    turns = zip(PROMPTS, reversed(CORPUS * 2), strict=True)
    return [
        ScoringRequest(request_id=f"s{at}", messages=[Message(role="user", content=prompt)], response=answer)
        for at, (prompt, answer) in enumerate(turns)
    ]


def answers(results: list[GenerationResult]) -> dict[str, str | None]:
    assert len({result.request_id for result in results}) == len(results)
    return {result.request_id: result.response for result in results}


def test_every_engine_is_asked() -> None:
    assert set(available(ENGINES)) == set(CASES)


def test_it_has_a_card_that_is_cheap_and_stable(named_case: tuple[str, Case]) -> None:
    name, case = named_case
    first, second = case.build(), case.build()
    started = time.monotonic()
    card = first.card()
    assert time.monotonic() - started < 2.0
    assert card.engine == name
    assert (first.card(), second.card()) == (card, card)
    first.close()
    second.close()


def test_it_is_an_engine(engine: Engine) -> None:
    assert isinstance(engine, Engine)


def test_each_request_ends_as_one_result(engine: Engine) -> None:
    results = list(engine.generate(iter(asks())))
    assert sorted(result.request_id for result in results) == sorted(request.request_id for request in asks())
    assert [result.error for result in results] == [None] * len(results)


def test_no_requests_have_no_results(engine: Engine) -> None:
    assert list(engine.generate([])) == []


def test_an_error_is_a_value(engine: Engine, case: Case) -> None:
    requests = [*asks()[:3], ask("bad", case.unanswerable), *asks()[3:6]]
    results = {result.request_id: result for result in engine.generate(requests)}
    bad = results.pop("bad")
    assert (bad.response, bad.finish_reason) == (None, "error")
    assert bad.error
    assert [result.error for result in results.values()] == [None] * 6


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_answers_do_not_depend_on_order(engine: Engine, temperature: float) -> None:
    requests = asks(temperature)
    forward = answers(list(engine.generate(requests)))
    shuffled = [requests[(at * 7) % len(requests)] for at in range(len(requests))]
    assert answers(list(engine.generate(shuffled))) == forward


def test_requests_are_pulled_as_they_are_needed(engine: Engine) -> None:
    pulled = 0

    def endless() -> Iterator[GenerationRequest]:
        nonlocal pulled
        for number in count():
            pulled += 1
            assert pulled < 1000, "reads far ahead of its answers"
            yield ask(f"r{number}", PROMPTS[number % len(PROMPTS)])

    results = engine.generate(endless())
    seen = [next(results) for _ in range(30)]
    assert pulled >= len(answers(seen)) == 30
    del results


def test_it_can_be_closed_twice(case: Case) -> None:
    made = case.build()
    card = made.card()
    made.close()
    made.close()
    assert made.card() == card


def test_likelihoods_are_finite_and_belong_to_their_request(scorer: LogprobScorer) -> None:
    results = {result.request_id: result for result in scorer.score(iter(scores()))}
    assert set(results) == {request.request_id for request in scores()}
    for result in results.values():
        assert (result.error, result.nll is not None and 0 < result.nll < math.inf) == (None, True)
        assert (result.tokens or 0) > 0
    # Ten answers, each given to two prompts: as many tokens, another likelihood.
    assert results["s0"].tokens == results["s10"].tokens
    assert results["s0"].nll != results["s10"].nll


def test_likelihoods_do_not_depend_on_order(scorer: LogprobScorer) -> None:
    forward = {result.request_id: result for result in scorer.score(scores())}
    for result in scorer.score(reversed(scores())):
        assert result.tokens == forward[result.request_id].tokens
        assert result.nll == pytest.approx(forward[result.request_id].nll, abs=1e-5)


def test_what_has_no_likelihood_is_an_error(scorer: LogprobScorer) -> None:
    good = scores()[0]
    empty = good.model_copy(update={"request_id": "empty", "response": ""})
    long = good.model_copy(update={"request_id": "long", "response": TOO_LONG})
    results = {result.request_id: result for result in scorer.score([empty, good, long])}
    assert results[good.request_id].error is None
    for request_id in ("empty", "long"):
        assert results[request_id].error
        assert (results[request_id].nll, results[request_id].tokens) == (None, None)


# Engines with the same weights


def answered(
    name: str, address: str, requests: list[GenerationRequest], **settings: Any
) -> dict[str, GenerationResult]:
    engine: Engine = load(ENGINES, name).at(address, **settings)
    try:
        return {result.request_id: result for result in engine.generate(requests)}
    finally:
        engine.close()


def scored(name: str, address: str, **settings: Any) -> dict[str, ScoringResult]:
    engine = load(ENGINES, name).at(address, **settings)
    try:
        return {result.request_id: result for result in engine.score(scores())}
    finally:
        engine.close()


@pytest.mark.vllm
def test_vllm_and_transformers_give_the_same_greedy_answers(tiny_folder: Callable[[], Path]) -> None:
    address = str(tiny_folder())
    here = answered("transformers", address, asks()[:8])
    there = answered("vllm", address, asks()[:8], max_model_len=MAX_LEN, kv_cache_memory_bytes=KV_BYTES)
    assert there == here


@pytest.mark.vllm
def test_vllm_and_transformers_give_the_same_likelihoods(tiny_folder: Callable[[], Path]) -> None:
    address = str(tiny_folder())
    here = scored("transformers", address)
    there = scored("vllm", address, max_model_len=MAX_LEN, kv_cache_memory_bytes=KV_BYTES)
    assert {key: result.tokens for key, result in there.items()} == {key: result.tokens for key, result in here.items()}
    for request_id, result in there.items():
        assert result.nll == pytest.approx(here[request_id].nll, abs=1e-4)


@pytest.fixture
def vllm_server(tiny_folder: Callable[[], Path], tmp_path: Path) -> Iterator[str]:
    """`vllm serve` in a process of its own, on CPU where there is no GPU; its base address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1", "--port", str(port)),
        *("--model", str(tiny_folder()), "--served-model-name", "tiny", "--dtype", "float32", "--enforce-eager"),
        *("--max-model-len", str(MAX_LEN), "--kv-cache-memory-bytes", str(KV_BYTES), "--no-enable-chunked-prefill"),
    ]
    env = {name: value for name, value in os.environ.items() if not name.startswith("VLLM_")}
    log = tmp_path / "server.log"
    with log.open("wb") as stream:
        server = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, env=env)
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}/health", server, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def wait_until_healthy(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 300
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    pytest.fail(f"the server did not start:\n{log.read_text(errors='replace')[-3000:]}")


@pytest.mark.vllm
@pytest.mark.slow
def test_a_served_model_answers_as_the_same_model_in_process(vllm_server: str, tiny_folder: Callable[[], Path]) -> None:
    requests = asks()
    served = answered("openai", vllm_server, [*requests, ask("long", TOO_LONG)], concurrency=8)
    assert "HTTP 400" in (served.pop("long").error or "")
    inside = answered("vllm", str(tiny_folder()), requests, max_model_len=MAX_LEN, kv_cache_memory_bytes=KV_BYTES)
    # The server decodes token by token and keeps an unfinished character at the end to itself.
    assert {key: (result.response or "").rstrip("�") for key, result in served.items()} == {
        key: (result.response or "").rstrip("�") for key, result in inside.items()
    }
    for key, result in served.items():
        assert (result.finish_reason, result.prompt_tokens, result.completion_tokens) == (
            inside[key].finish_reason,
            inside[key].prompt_tokens,
            inside[key].completion_tokens,
        )
    sampled = [answered("openai", vllm_server, order) for order in (asks(0.9), asks(0.9)[::-1])]
    assert sampled[0] == sampled[1]
    assert sampled[0] != served
