"""The `openai` engine against a real server that can be told to misbehave."""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from pydantic import ValidationError

from fucina.factory.engines import _openai_http
from fucina.factory.engines.base import Engine, LogprobScorer, build_engine
from fucina.factory.engines.openai import THREAD_NAME, OpenAIEngine
from fucina.factory.errors import EngineError, RecipeError
from fucina.schemas.generation import GenerationRequest, Sampling
from fucina.schemas.rows import Message
from tests.servers import EMPTY_CHOICES, HALF_BODY, WRONG_JSON, ChatServer, Drop, Fault, Reply, Stall, answer_to, status


def ask(prompt: str, *, seed: int = 7, max_tokens: int = 64, temperature: float = 0.0) -> GenerationRequest:
    return GenerationRequest(
        request_id=f"r-{prompt}",
        prompt_id=f"p-{prompt}",
        messages=[Message(role="system", content="Sii breve."), Message(role="user", content=prompt)],
        sampling=Sampling(max_tokens=max_tokens, temperature=temperature, top_p=0.9),
        seed=seed,
    )


def asks(count: int) -> list[GenerationRequest]:
    return [ask(f"domanda-{number}") for number in range(count)]


def engine(server: ChatServer, **settings: object) -> OpenAIEngine:
    return OpenAIEngine.model_validate({"url": server.url, "model": "eco", **settings})


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(autouse=True)
def quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_openai_http, "_FIRST_BACKOFF_S", 0.02)


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    yield
    assert THREAD_NAME not in {thread.name for thread in threading.enumerate()}


# Settings and card


def test_it_is_an_engine_and_no_scorer() -> None:
    made = OpenAIEngine(url="http://127.0.0.1:1/v1", model="m")
    assert isinstance(made, Engine)
    assert not isinstance(made, LogprobScorer)


def test_the_short_form_names_address_and_model() -> None:
    made = OpenAIEngine.at("http://127.0.0.1:8000/v1/#Qwen/Qwen2.5-7B-Instruct", concurrency=4)
    assert (made.url, made.model, made.concurrency) == ("http://127.0.0.1:8000/v1", "Qwen/Qwen2.5-7B-Instruct", 4)
    assert OpenAIEngine.at("http://127.0.0.1:8000/v1").model is None


def test_the_card_tells_apart_what_shapes_answers_and_calls_no_server() -> None:
    here, there = (OpenAIEngine.at(f"http://127.0.0.1:{port}/v1#m") for port in (1, 2))
    assert here.card() == there.card()
    assert here.card().model == "m"
    cold = OpenAIEngine.at("http://127.0.0.1:1/v1#m", extra_body={"top_k": 1})
    assert cold.card() != here.card()
    either = [OpenAIEngine.at(f"http://127.0.0.1:{port}/v1").card() for port in (1, 2)]
    assert either[0] != either[1]
    assert either[0].model == "auto"


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"url": "127.0.0.1:8000/v1"}, "url"),
        ({"url": "http:///v1"}, "url"),
        ({"url": "http://ada:sk-secret@127.0.0.1/v1"}, "url"),
        ({"url": "http://127.0.0.1/v1?key=sk-secret"}, "url"),
        ({"url": "http://127.0.0.1/v1", "api_key_env": "sk-secret"}, "api_key_env"),
        ({"url": "http://127.0.0.1/v1", "extra_body": {"stream": True}}, "extra_body"),
        ({"url": "http://127.0.0.1/v1", "concurrency": 0}, "concurrency"),
    ],
)
def test_settings_that_cannot_work_are_refused_without_quoting_them(settings: dict[str, object], field: str) -> None:
    with pytest.raises(ValidationError) as direct:
        OpenAIEngine.model_validate(settings)
    with pytest.raises(RecipeError, match=rf"engines\.teacher: {field}") as in_recipe:
        build_engine("teacher", {"engine": "openai", **settings})
    assert "secret" not in str(direct.value) + str(in_recipe.value)


# Answers


def test_every_request_is_answered_once_with_its_own_text_and_usage() -> None:
    with ChatServer(models=("eco", "other")) as server:
        results = {result.request_id: result for result in engine(server).generate(asks(50))}
    assert set(results) == {request.request_id for request in asks(50)}
    one = results["r-domanda-3"]
    assert one.response == "Hai chiesto: domanda-3"
    assert (one.finish_reason, one.prompt_tokens, one.completion_tokens) == ("stop", 3, 3)


def test_what_is_asked_reaches_the_server() -> None:
    with ChatServer() as server:
        [result] = engine(server, extra_body={"top_k": 5}).generate(
            [ask("ciao", seed=11, max_tokens=1, temperature=0.5)]
        )
    assert result.finish_reason == "length"
    assert server.bodies == [
        {
            "model": "eco",
            "messages": [{"role": "system", "content": "Sii breve."}, {"role": "user", "content": "ciao"}],
            "max_tokens": 1,
            "temperature": 0.5,
            "top_p": 0.9,
            "seed": 11,
            "top_k": 5,
        }
    ]


def test_each_request_keeps_its_own_seed() -> None:
    requests = [ask(f"d{number}", seed=number, temperature=1.0) for number in range(20)]
    with ChatServer() as server:
        results = {result.request_id: result.response for result in engine(server).generate(requests)}
    assert results == {
        request.request_id: answer_to(f"d{number}", number, 1.0) for number, request in enumerate(requests)
    }


def test_no_requests_need_no_server() -> None:
    assert list(OpenAIEngine(url=f"http://127.0.0.1:{closed_port()}/v1").generate([])) == []


def test_the_only_model_is_found_once() -> None:
    with ChatServer(models=("sola",)) as server:
        results = list(OpenAIEngine(url=server.url).generate(asks(5)))
    assert [result.error for result in results] == [None] * 5
    assert {body["model"] for body in server.bodies} == {"sola"}


@pytest.mark.parametrize("models", [(), ("a", "b")])
def test_no_model_or_several_must_be_chosen_from(models: tuple[str, ...]) -> None:
    with ChatServer(models=models) as server, pytest.raises(EngineError, match="serves") as caught:
        list(OpenAIEngine(url=server.url).generate(asks(3)))
    assert (", ".join(models) or "none") in caught.value.message
    assert f"openai:{server.url}#MODEL" in (caught.value.fix or "")


def test_a_server_that_lists_nothing_asks_for_the_name() -> None:
    with ChatServer() as server, pytest.raises(EngineError, match="does not list models: HTTP 404") as caught:
        list(OpenAIEngine(url=server.url.removesuffix("/v1")).generate(asks(1)))
    assert "#MODEL" in (caught.value.fix or "")


# The window


def test_the_window_is_filled_and_never_exceeded() -> None:
    with ChatServer(delay_s=0.2) as server:
        started = time.monotonic()
        results = list(engine(server, concurrency=8).generate(asks(32)))
        seconds = time.monotonic() - started
    assert len(results) == 32
    assert server.peak == 8
    assert seconds < 0.5 * 32 * 0.2


def test_a_slow_consumer_does_not_drain_the_source() -> None:
    pulled: list[str] = []

    def source() -> Iterator[GenerationRequest]:
        for request in asks(100):
            pulled.append(request.request_id)
            yield request

    with ChatServer() as server:
        results = engine(server, concurrency=4).generate(source())
        for taken in range(1, 11):
            next(results)
            time.sleep(0.02)
            assert len(pulled) <= taken + 4
        results.close()
    assert len(pulled) < 20


def test_a_slow_source_does_not_hold_answers_back() -> None:
    pulled: list[str] = []

    def source() -> Iterator[GenerationRequest]:
        for request in asks(6):
            time.sleep(0.15)
            pulled.append(request.request_id)
            yield request

    with ChatServer() as server:
        pulled_at_result = [len(pulled) for _ in engine(server, concurrency=6).generate(source())]
    assert pulled_at_result[0] <= 2
    assert pulled_at_result[3] <= 5


def test_closing_early_cancels_what_is_in_flight() -> None:
    with ChatServer(lambda prompt, _attempt: None if prompt == "domanda-0" else Stall()) as server:
        results = engine(server, concurrency=5).generate(asks(100))
        assert next(results).request_id == "r-domanda-0"
        results.close()
        deadline = time.monotonic() + 5
        while server.in_flight and time.monotonic() < deadline:
            time.sleep(0.02)
        assert (server.in_flight, server.left) == (0, len(server.bodies) - 1)
        assert len(server.bodies) <= 6


def test_an_error_of_the_source_comes_through() -> None:
    def source() -> Iterator[GenerationRequest]:
        yield ask("una")
        raise ZeroDivisionError

    with ChatServer(lambda _prompt, _attempt: Stall()) as server, pytest.raises(ZeroDivisionError):
        list(engine(server).generate(source()))


def test_an_open_generator_does_not_hold_up_the_end_of_the_program() -> None:
    program = """
import sys
from fucina.factory.engines.openai import OpenAIEngine
from fucina.schemas.generation import GenerationRequest
request = {"messages": [{"role": "user", "content": "a"}], "sampling": {}, "prompt_id": "p", "seed": 1}
requests = (GenerationRequest.model_validate({**request, "request_id": str(i)}) for i in range(100))
results = OpenAIEngine.at(sys.argv[1] + "#eco", concurrency=4).generate(requests)
print(next(results).error)
"""
    with ChatServer(delay_s=0.3) as server:
        done = subprocess.run(
            [sys.executable, "-c", program, server.url], capture_output=True, text=True, timeout=60, check=False
        )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "None", "")


# Failures


@pytest.mark.parametrize("fault", [status(429), status(500), status(503), Drop(), HALF_BODY, Stall()])
def test_what_passes_is_tried_again(fault: Fault) -> None:
    with ChatServer(lambda _prompt, attempt: fault if attempt < 3 else None) as server:
        [result] = engine(server, timeout_s=0.5).generate([ask("ciao")])
        assert (result.response, result.error) == ("Hai chiesto: ciao", None)
        assert server.tries("ciao") == 3


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (status(429), "HTTP 429"),
        (status(500), "HTTP 500"),
        (Drop(), "the connection broke"),
        (HALF_BODY, "the connection broke"),
        (Stall(), "no answer within 0.3 s"),
    ],
)
def test_what_does_not_pass_ends_as_an_error_and_the_others_go_on(fault: Fault, cause: str) -> None:
    with ChatServer(lambda prompt, _attempt: fault if prompt == "domanda-1" else None) as server:
        results = {r.request_id: r for r in engine(server, timeout_s=0.3, retries=2).generate(asks(4))}
        assert server.tries("domanda-1") == 3
    bad = results.pop("r-domanda-1")
    assert cause in (bad.error or "")
    assert (bad.response, bad.finish_reason) == (None, "error")
    assert [r.error for r in results.values()] == [None] * 3


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (status(400), "HTTP 400 Bad Request"),
        (status(404), "HTTP 404"),
        (status(422), "told to answer 422"),
        (Reply("", 307, {"Location": "/v1/models"}), "HTTP 307"),
        (WRONG_JSON, "malformed answer"),
        (Reply('{"error": {"message": "no credit"}}'), "no credit"),
        (Reply('{"choices": [{"message": {"content": ["a", "b"]}}]}'), "malformed answer, choices.0.message.content"),
        (EMPTY_CHOICES, "no choices"),
        (Reply('{"choices": [{"message": {"content": null}, "finish_reason": "tool_calls"}]}'), "tool_calls"),
        (Reply('{"choices": [{"message": {"content": null, "refusal": "non posso"}}]}'), "non posso"),
        (Reply('{"choices": [{"message": {"content": "Il"}, "finish_reason": "abort"}]}'), "abort"),
    ],
)
def test_what_no_retry_can_mend_is_an_error_at_once(fault: Reply, cause: str) -> None:
    with ChatServer(lambda _prompt, _attempt: fault) as server:
        [result] = engine(server).generate([ask("ciao")])
        assert server.tries("ciao") == 1
    assert cause in (result.error or "")
    assert result.response is None


def test_an_empty_answer_is_an_answer() -> None:
    empty = Reply('{"choices": [{"message": {"content": ""}, "finish_reason": "content_filter"}]}')
    with ChatServer(lambda _prompt, _attempt: empty) as server:
        [result] = engine(server).generate([ask("ciao")])
    assert (result.response, result.error, result.finish_reason) == ("", None, "unknown")


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_honoured(form: str) -> None:
    # An HTTP date has whole seconds, so 2 s ahead may be little more than 1 s away.
    value = "1" if form == "seconds" else format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    with ChatServer(lambda _prompt, attempt: status(429, retry_after=value) if attempt == 1 else None) as server:
        started = time.monotonic()
        [result] = engine(server).generate([ask("ciao")])
        seconds = time.monotonic() - started
    assert result.error is None
    assert 0.9 < seconds < 5


@pytest.mark.parametrize("value", ["presto", "-5", "nan", "Wed, 21 Oct 2015 07:28:00 -0000"])
def test_a_retry_after_that_says_nothing_is_passed_over(value: str) -> None:
    with ChatServer(lambda _prompt, attempt: status(503, retry_after=value) if attempt == 1 else None) as server:
        [result] = engine(server).generate([ask("ciao")])
    assert result.error is None


@pytest.mark.parametrize("value", ["3600", "inf"])
def test_a_retry_after_beyond_the_time_out_is_an_error(value: str) -> None:
    with ChatServer(lambda _prompt, _attempt: status(429, retry_after=value)) as server:
        [result] = engine(server, timeout_s=5).generate([ask("ciao")])
        assert server.tries("ciao") == 1
    assert "HTTP 429" in (result.error or "")


def test_a_server_that_was_never_there_is_an_engine_error() -> None:
    address = f"http://127.0.0.1:{closed_port()}/v1"
    with pytest.raises(EngineError) as caught:
        list(OpenAIEngine(url=address, model="m", retries=2).generate(asks(3)))
    assert f"no server at {address}" in caught.value.message
    assert "vllm serve" in (caught.value.fix or "")


def test_a_server_that_goes_away_costs_only_what_it_did_not_answer() -> None:
    with ChatServer() as server:
        results = engine(server, retries=1, concurrency=1).generate(asks(3))
        first = next(results)
    rest = list(results)
    assert first.error is None
    assert [result.response for result in rest] == [None, None]


# Keys


def test_the_key_is_sent_and_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", "sk-secret\n")
    with ChatServer(api_key="sk-secret") as server:
        made = engine(server, api_key_env="TEST_KEY")
        [result] = made.generate([ask("ciao")])
    assert result.error is None
    assert "secret" not in repr(made) + json.dumps(made.model_dump()) + made.card().model_dump_json()


def test_a_refusal_that_quotes_the_key_does_not_spread_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", "sk-secret")
    with ChatServer(api_key="another") as server:
        [result] = engine(server, api_key_env="TEST_KEY").generate([ask("ciao")])
    assert "HTTP 401" in (result.error or "")
    assert "Incorrect API key: Bearer ***" in (result.error or "")
    assert "secret" not in (result.error or "")


@pytest.mark.parametrize("value", [None, " ", "sk-sécret", "sk-\x07secret"])
def test_a_key_that_cannot_be_sent_is_an_engine_error(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("TEST_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("TEST_KEY", value)
    with pytest.raises(EngineError, match="TEST_KEY") as caught:
        list(OpenAIEngine(url="http://127.0.0.1:1/v1", api_key_env="TEST_KEY").generate(asks(1)))
    assert "cret" not in str(caught.value)
