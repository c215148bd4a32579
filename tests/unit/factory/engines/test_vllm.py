"""The `vllm` engine, run on CPU: against transformers by hand, and at its edges."""

import math
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fucina.factory.engines.base import Engine, LocalModel, LogprobScorer
from fucina.factory.engines.vllm import VllmEngine
from fucina.factory.errors import EngineError, MissingExtraError
from fucina.factory.hashing import file_digest
from fucina.schemas.generation import GenerationRequest, GenerationResult, Sampling, ScoringRequest
from fucina.schemas.rows import Message
from tests.tiny import CORPUS, make_tiny_model

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:vllm")

KV_BYTES = 64 << 20
MAX_LEN = 256


def ask(
    number: int, *, prompt: str | None = None, temperature: float = 0.0, max_tokens: int = 16, role: str = "user"
) -> GenerationRequest:
    return GenerationRequest(
        request_id=f"r{number}",
        prompt_id=f"p{number}",
        messages=[Message(role=role, content=prompt or f"{number}. {CORPUS[number % len(CORPUS)]}")],
        sampling=Sampling(max_tokens=max_tokens, temperature=temperature),
        seed=number,
    )


def score(request_id: str, prompt: str, response: str) -> ScoringRequest:
    return ScoringRequest(request_id=request_id, messages=[Message(role="user", content=prompt)], response=response)


def by_id(results: Iterator[GenerationResult]) -> dict[str, GenerationResult]:
    listed = list(results)
    found = {result.request_id: result for result in listed}
    assert len(found) == len(listed)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[VllmEngine]:
    made = VllmEngine(model=str(folder), max_model_len=MAX_LEN, kv_cache_memory_bytes=KV_BYTES)
    yield made
    made.close()


# Without starting it


def test_it_generates_scores_and_can_be_trained() -> None:
    made = VllmEngine.at("Qwen/Qwen2.5-0.5B-Instruct", revision="abc", dtype="bfloat16")
    assert isinstance(made, Engine)
    assert isinstance(made, LogprobScorer)
    assert isinstance(made, LocalModel)
    assert made.model_path() == Path("Qwen/Qwen2.5-0.5B-Instruct")
    assert (made.card().model, made.card().revision, made.card().notes) == (made.model, "abc", "dtype bfloat16")


def test_the_card_of_a_folder_is_its_content(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    first, again = VllmEngine(model=str(tmp_path)), VllmEngine(model=str(tmp_path))
    assert first.card() == again.card()
    assert first.card().revision == file_digest(tmp_path)
    (tmp_path / "config.json").write_text('{"a": 1}')
    assert VllmEngine(model=str(tmp_path)).card() != first.card()


@pytest.mark.parametrize("model", ["/nowhere/model", "./model", "runs/demo/models/sft"])
def test_a_folder_that_is_not_there_shows_on_the_card(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EngineError, match="no model folder"):
        VllmEngine(model=model).card()


def test_closing_what_never_started_is_nothing(tmp_path: Path) -> None:
    made = VllmEngine(model=str(tmp_path))
    made.close()
    made.close()
    assert made.card().model == str(tmp_path)


def test_without_vllm_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(MissingExtraError, match=r"fucina\[vllm\]"):
        VllmEngine(model="m")


# Against transformers


@pytest.mark.vllm
def test_greedy_answers_are_those_of_transformers(engine: VllmEngine, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    requests = [ask(number, max_tokens=24) for number in range(8)]
    results = by_id(engine.generate(requests))
    for request in requests:
        prompt = tokenizer.apply_chat_template(
            [message.model_dump() for message in request.messages], add_generation_prompt=True, return_dict=False
        )
        with torch.no_grad():
            answer = model.generate(torch.tensor([prompt]), max_new_tokens=24, do_sample=False)[0][len(prompt) :]
        result = results[request.request_id]
        assert result.response == tokenizer.decode(answer, skip_special_tokens=True)
        assert (result.prompt_tokens, result.completion_tokens) == (len(prompt), len(answer))


@pytest.mark.vllm
def test_the_score_is_the_mean_over_the_answer_alone(engine: VllmEngine, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    prompt, answer = CORPUS[3], "Il congiuntivo esprime un dubbio: credo che piova.\n\nL'indicativo, una certezza."
    before = f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
    ids = [tokenizer.encode(text, add_special_tokens=False) for text in (before, answer)]
    with torch.no_grad():
        logits = model(torch.tensor([ids[0] + ids[1]])).logits[0].double().log_softmax(-1)
    by_hand = [-logits[len(ids[0]) + at - 1, token].item() for at, token in enumerate(ids[1])]

    [result] = engine.score([score("s", prompt, answer)])
    assert result.tokens == len(ids[1])
    assert result.nll == pytest.approx(math.fsum(by_hand) / len(by_hand), abs=1e-5)


# Streams


@pytest.mark.vllm
def test_seeded_answers_do_not_depend_on_order_or_company(engine: VllmEngine) -> None:
    # More prompt tokens than one step takes, so that prefills are queued behind each other.
    requests = [ask(number, temperature=1.0) for number in range(300)]
    forward = by_id(engine.generate(requests))
    backward = by_id(engine.generate(reversed(requests)))
    alone = by_id(engine.generate([requests[117]]))
    assert forward == backward
    assert alone["r117"] == forward["r117"]
    other_seed = requests[117].model_copy(update={"seed": 1})
    assert by_id(engine.generate([other_seed]))["r117"] != forward["r117"]


@pytest.mark.vllm
def test_the_end_of_an_answer_is_told(engine: VllmEngine) -> None:
    results = by_id(engine.generate([ask(number, temperature=1.0, max_tokens=128) for number in range(100)]))
    finished = {result.finish_reason for result in results.values()}
    assert finished == {"stop", "length"}
    for result in results.values():
        assert "<|im_end|>" not in (result.response or "")
        assert (result.completion_tokens == 128) or result.finish_reason == "stop"


@pytest.mark.vllm
def test_requests_are_pulled_while_there_is_room(engine: VllmEngine) -> None:
    pulled = 0

    def source() -> Iterator[GenerationRequest]:
        nonlocal pulled
        for number in range(2000):
            pulled += 1
            yield ask(number, max_tokens=1 + number % 16)

    results = engine.generate(source())
    for taken in range(1, 300):
        next(results)
        assert pulled <= taken + 256
    results.close()
    assert pulled < 2000


@pytest.mark.vllm
def test_a_slow_source_does_not_hold_answers_back(engine: VllmEngine) -> None:
    pulled: list[int] = []

    def source() -> Iterator[GenerationRequest]:
        for number in range(5):
            time.sleep(0.2)
            pulled.append(number)
            yield ask(number, max_tokens=1)

    assert [len(pulled) for _ in engine.generate(source())] == [1, 2, 3, 4, 5]


@pytest.mark.vllm
def test_two_streams_take_turns_and_leaving_one_disturbs_no_other(engine: VllmEngine) -> None:
    expected = by_id(engine.generate([ask(number) for number in range(40)]))
    answers = engine.generate([ask(number) for number in range(40)])
    left = engine.generate([ask(number, max_tokens=200) for number in range(40)])
    got = [next(answers)]
    next(left)
    nll = [result.nll for result in engine.score([score("s", "Ciao", "Buongiorno a tutti")])]
    left.close()
    got.extend(answers)
    assert by_id(iter(got)) == expected
    assert nll == [result.nll for result in engine.score([score("s", "Ciao", "Buongiorno a tutti")])]


# Refusals


@pytest.mark.vllm
def test_what_does_not_fit_is_an_error_and_the_others_go_on(engine: VllmEngine) -> None:
    long = "Il gatto dorme sul divano. " * 60
    results = by_id(engine.generate([ask(1, prompt=long), ask(2)]))
    assert "leave no room for one more in 256" in (results["r1"].error or "")
    assert (results["r1"].response, results["r1"].finish_reason) == (None, "error")
    assert results["r2"].error is None
    scores = {
        r.request_id: r for r in engine.score([score("a", long, "Sì"), score("b", "Ciao", ""), score("c", "a", "b")])
    }
    assert "leave no room" in (scores["a"].error or "")
    assert "no tokens" in (scores["b"].error or "")
    assert scores["a"].nll is None
    assert (scores["c"].error, scores["c"].tokens) == (None, 1)


@pytest.mark.vllm
def test_an_answer_ends_where_the_context_ends(engine: VllmEngine) -> None:
    results = engine.generate([ask(words, prompt="a " * words, max_tokens=64) for words in range(1, MAX_LEN)])
    full = max(results, key=lambda result: result.prompt_tokens or 0)
    assert (full.prompt_tokens or 0) > MAX_LEN - 4
    assert full.finish_reason == "length"
    assert (full.prompt_tokens or 0) + (full.completion_tokens or 0) == MAX_LEN


# One engine per process


@pytest.mark.vllm
def test_engines_take_turns_in_one_process(engine: VllmEngine, tmp_path: Path) -> None:
    other_folder = make_tiny_model(tmp_path / "other", seed=1)
    template = other_folder / "chat_template.jinja"
    template.write_text(
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
        + template.read_text()
    )
    other = VllmEngine(model=str(other_folder), max_model_len=MAX_LEN, kv_cache_memory_bytes=KV_BYTES)
    twin = VllmEngine.model_validate(engine.model_dump())
    mine = by_id(engine.generate([ask(1)]))

    open_answers = engine.generate([ask(number) for number in range(500)])
    next(open_answers)
    with pytest.raises(EngineError, match="one model per process") as caught:
        list(other.generate([ask(1)]))
    assert "vllm serve" in (caught.value.fix or "")
    assert by_id(twin.generate([ask(1)])) == mine
    open_answers.close()

    theirs = by_id(other.generate([ask(1), ask(2, role="system")]))
    assert theirs["r1"].response != mine["r1"].response
    assert "no system turn" in (theirs["r2"].error or "")
    other.close()
    other.close()
    assert by_id(engine.generate([ask(1)])) == mine

    open_answers = engine.generate([ask(number) for number in range(500)])
    next(open_answers)
    engine.close()
    with pytest.raises(EngineError, match="closed while it answered"):
        list(open_answers)


@pytest.mark.vllm
def test_models_that_cannot_chat_or_load_are_engine_errors(engine: VllmEngine, folder: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(folder, tmp_path / "base"))
    (base / "chat_template.jinja").unlink()
    with pytest.raises(EngineError, match="no chat template") as caught:
        list(VllmEngine(model=str(base), kv_cache_memory_bytes=KV_BYTES).generate([ask(1)]))
    assert "chat_template.jinja" in (caught.value.fix or "")
    (base / "config.json").write_text("{}")
    with pytest.raises(EngineError, match="vLLM cannot load"):
        list(VllmEngine(model=str(base)).generate([ask(1)]))
    assert by_id(engine.generate([ask(1)]))["r1"].error is None
