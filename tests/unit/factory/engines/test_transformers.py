"""The `transformers` engine: against transformers by hand, and at its edges."""

import json
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from fucina.factory.engines._drawing import SeededDraw
from fucina.factory.engines._transformers_core import Core
from fucina.factory.engines.base import Engine, LocalModel, LogprobScorer
from fucina.factory.engines.transformers import TransformersEngine
from fucina.factory.errors import EngineError
from fucina.factory.hashing import file_digest
from fucina.schemas.generation import GenerationRequest, GenerationResult, Sampling, ScoringRequest
from fucina.schemas.rows import Message
from tests.tiny import CORPUS, make_tiny_model

POSITIONS = 512


def ask(
    number: int,
    *,
    prompt: str | None = None,
    temperature: float = 0.0,
    top_p: float = 1.0,
    max_tokens: int = 12,
    seed: int | None = None,
    role: str = "user",
) -> GenerationRequest:
    return GenerationRequest(
        request_id=f"r{number}",
        prompt_id=f"p{number}",
        messages=[Message(role=role, content=prompt or " ".join(CORPUS[: number % len(CORPUS) + 1]))],
        sampling=Sampling(max_tokens=max_tokens, temperature=temperature, top_p=top_p),
        seed=number if seed is None else seed,
    )


def score(request_id: str, prompt: str, response: str) -> ScoringRequest:
    return ScoringRequest(request_id=request_id, messages=[Message(role="user", content=prompt)], response=response)


def by_id(results: Iterable[GenerationResult]) -> dict[str, GenerationResult]:
    listed = list(results)
    found = {result.request_id: result for result in listed}
    assert len(found) == len(listed)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"), max_positions=POSITIONS)


@pytest.fixture(scope="module")
def engine(folder: Path) -> TransformersEngine:
    return TransformersEngine.at(str(folder), batch_size=4)


@pytest.fixture(scope="module")
def by_hand(folder: Path) -> tuple[Any, Any]:
    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def prompt_ids(tokenizer: Any, request: GenerationRequest) -> list[int]:
    turns = [message.model_dump() for message in request.messages]
    ids: list[int] = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    return ids


def greedy(by_hand: tuple[Any, Any], request: GenerationRequest) -> list[int]:
    """One token after the other, one row, the whole text read anew each time."""
    model, tokenizer = by_hand
    ids = prompt_ids(tokenizer, request)
    start = len(ids)
    with torch.no_grad():
        while len(ids) < start + request.sampling.max_tokens and tokenizer.eos_token_id not in ids[start:]:
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[start:]


def edited(folder: Path, target: Path, name: str, **changes: Any) -> Path:
    """A copy of a model folder with some keys of one of its JSON files changed."""
    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    settings = json.loads((target / name).read_text())
    (target / name).write_text(json.dumps({**settings, **changes}))
    return target


# Without weights


def test_it_generates_scores_and_can_be_trained() -> None:
    made = TransformersEngine.at("Qwen/Qwen2.5-0.5B-Instruct", revision="abc", dtype="bfloat16")
    assert isinstance(made, Engine)
    assert isinstance(made, LogprobScorer)
    assert isinstance(made, LocalModel)
    assert made.model_path() == Path("Qwen/Qwen2.5-0.5B-Instruct")
    assert (made.card().model, made.card().revision, made.card().notes) == (made.model, "abc", "dtype bfloat16")


def test_the_card_of_a_folder_is_its_content(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    first, again = TransformersEngine(model=str(tmp_path)), TransformersEngine(model=str(tmp_path))
    assert first.card() == again.card()
    assert first.card().revision == file_digest(tmp_path)
    (tmp_path / "config.json").write_text('{"a": 1}')
    assert TransformersEngine(model=str(tmp_path)).card() != first.card()


def test_no_requests_load_nothing() -> None:
    made = TransformersEngine(model="nobody/nothing")
    assert list(made.generate([])) == []
    assert list(made.score([])) == []
    made.close()
    made.close()


@pytest.mark.parametrize("path", ["./gone", "/gone", "~/gone-from-home", "runs/demo/models/gone"])
def test_a_folder_that_is_not_there_is_named(path: str) -> None:
    for use in (TransformersEngine(model=path).card, TransformersEngine(model=path).model_path):
        with pytest.raises(EngineError, match="no model folder .*gone"):
            use()
    with pytest.raises(EngineError, match="no model folder .*gone"):
        next(TransformersEngine(model=path).generate([ask(0)]))


def test_a_hub_id_that_cannot_be_had_is_named() -> None:
    with pytest.raises(EngineError, match="nobody/nothing") as caught:
        next(TransformersEngine(model="nobody/nothing").generate([ask(0)]))
    assert caught.value.fix


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=tmp_path.name):
        next(TransformersEngine(model=str(tmp_path)).generate([ask(0)]))


def test_a_model_without_a_chat_template_says_what_to_do(folder: Path, tmp_path: Path) -> None:
    bare = edited(folder, tmp_path / "bare", "tokenizer_config.json")
    (bare / "chat_template.jinja").unlink()
    with pytest.raises(EngineError, match="bare has no chat template") as caught:
        next(TransformersEngine(model=str(bare)).generate([ask(0)]))
    assert "chat_template.jinja" in (caught.value.fix or "")


def test_without_transformers_it_says_what_to_install() -> None:
    program = (
        "import sys, importlib.util as util; found = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if name == 'transformers' else found(name, *rest)\n"
        "from fucina.factory.errors import MissingExtraError\n"
        "from fucina.factory.plugins import ENGINES, load\n"
        "try: load(ENGINES, 'transformers').at('m')\n"
        "except MissingExtraError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "needs transformers, which is not installed" in done.stdout
    assert "pip install 'fucina[train]'" in done.stdout


# Greedy answers


def test_greedy_answers_are_those_of_a_plain_loop(engine: TransformersEngine, by_hand: tuple[Any, Any]) -> None:
    requests = [ask(number, max_tokens=4 + number) for number in range(10)]
    results = by_id(engine.generate(requests))
    for request in requests:
        tokens = greedy(by_hand, request)
        result = results[request.request_id]
        assert result.response == by_hand[1].decode(tokens, skip_special_tokens=True)
        assert (result.finish_reason, result.completion_tokens) == ("length", request.sampling.max_tokens)
        assert result.prompt_tokens == len(prompt_ids(by_hand[1], request))


def test_every_token_that_ends_a_turn_stops(folder: Path, by_hand: tuple[Any, Any], tmp_path: Path) -> None:
    model, tokenizer = by_hand
    request = ask(3)
    tokens = greedy(by_hand, request)
    stop_at = next(at for at in range(2, len(tokens)) if tokens[at] not in tokens[:at])
    stops = [model.generation_config.eos_token_id, tokens[stop_at]]
    made = TransformersEngine.at(str(edited(folder, tmp_path / "m", "generation_config.json", eos_token_id=stops)))
    results = by_id(made.generate([request, ask(4, max_tokens=40)]))
    assert results["r3"].finish_reason == "stop"
    assert results["r3"].response == tokenizer.decode(tokens[:stop_at])
    assert results["r3"].completion_tokens == stop_at + 1


def test_the_models_own_generation_defaults_are_not_used(
    folder: Path, engine: TransformersEngine, tmp_path: Path
) -> None:
    defaults = {"repetition_penalty": 50.0, "do_sample": True, "temperature": 2.0, "top_k": 3, "max_length": 7}
    made = TransformersEngine.at(
        str(edited(folder, tmp_path / "m", "generation_config.json", **defaults)), batch_size=4
    )
    requests = [ask(number) for number in range(4)]
    assert by_id(made.generate(requests)) == by_id(engine.generate(requests))


def test_a_prompt_too_long_is_an_error_of_its_own(engine: TransformersEngine) -> None:
    results = by_id(engine.generate([ask(0), ask(1, prompt=" ".join(CORPUS * 4)), ask(2)]))
    assert str(POSITIONS) in (results["r1"].error or "")
    assert [results[request_id].error for request_id in ("r0", "r2")] == [None, None]


def test_the_answer_ends_where_max_length_does(folder: Path, by_hand: tuple[Any, Any]) -> None:
    request = ask(2, max_tokens=40)
    length = len(prompt_ids(by_hand[1], request))
    [cut] = TransformersEngine.at(str(folder), max_length=length + 3).generate([request])
    assert (cut.finish_reason, cut.completion_tokens, cut.prompt_tokens) == ("length", 3, length)
    [refused] = TransformersEngine.at(str(folder), max_length=length).generate([request])
    assert (refused.response, refused.finish_reason) == (None, "error")


def test_messages_that_the_template_refuses_are_an_error_of_their_own(folder: Path, tmp_path: Path) -> None:
    strict = edited(folder, tmp_path / "m", "config.json")
    template = (strict / "chat_template.jinja").read_text()
    refusal = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
    (strict / "chat_template.jinja").write_text(refusal + template)
    made = TransformersEngine.at(str(strict))
    results = by_id(made.generate([ask(0), ask(1, role="system")]))
    assert "no system turn" in (results["r1"].error or "")
    assert results["r0"].error is None


def test_a_batch_that_does_not_fit_says_what_to_lower(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_core: Core, _rows: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Core, "generate", full)
    with pytest.raises(EngineError, match="batch of 2 do not fit") as caught:
        list(TransformersEngine.at(str(folder), batch_size=2).generate([ask(0)]))
    assert "batch_size" in (caught.value.fix or "")


def test_a_closed_engine_starts_again(folder: Path, engine: TransformersEngine) -> None:
    made = TransformersEngine.at(str(folder), batch_size=4)
    before = by_id(made.generate([ask(5)]))
    made.close()
    assert by_id(made.generate([ask(5)])) == before


# Sampled answers


def test_seeded_answers_do_not_depend_on_order_or_company(engine: TransformersEngine) -> None:
    requests = [ask(number, temperature=1.0 if number % 5 else 0.0, top_p=0.9) for number in range(40)]
    forward = by_id(engine.generate(requests))
    assert by_id(engine.generate(reversed(requests))) == forward
    assert by_id(engine.generate(requests[7:10])) == {f"r{number}": forward[f"r{number}"] for number in (7, 8, 9)}


def test_another_seed_gives_another_answer(engine: TransformersEngine) -> None:
    answers = {result.response for seed in range(4) for result in engine.generate([ask(1, temperature=1.0, seed=seed)])}
    assert len(answers) == 4


def test_sampling_leaves_the_callers_random_state_alone(engine: TransformersEngine) -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    list(engine.generate([ask(1, temperature=1.0)]))
    assert torch.equal(torch.get_rng_state(), state)


LOGITS = torch.tensor([0.3, 2.0, -1.0, 1.2, 0.0])


def drawn(count: int, **sampling: float) -> Counter[int]:
    """Tokens that `count` seeds draw from LOGITS."""
    draw = SeededDraw([ask(number, **{"temperature": 1.0, **sampling}) for number in range(count)])  # type: ignore[arg-type]
    scores = draw(torch.zeros(count, 1, dtype=torch.long), LOGITS.repeat(count, 1))
    assert torch.equal(scores.isfinite().sum(-1), torch.ones(count, dtype=torch.long))
    return Counter(scores.argmax(-1).tolist())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_distribution(temperature: float) -> None:
    count = 20_000
    found = drawn(count, temperature=temperature)
    expected = (LOGITS / temperature).softmax(-1).tolist()
    for token, probability in enumerate(expected):
        error = math.sqrt(probability * (1 - probability) / count)
        assert found[token] / count == pytest.approx(probability, abs=4 * error)


def test_the_nucleus_is_the_smallest_set_with_the_mass_asked_for() -> None:
    first, second, third = sorted(LOGITS.softmax(-1).tolist(), reverse=True)[:3]
    assert set(drawn(2000, top_p=first - 0.01)) == {1}
    assert set(drawn(2000, top_p=first + 0.01)) == {1, 3}
    assert set(drawn(2000, top_p=first + second + third - 0.01)) == {1, 3, 0}
    both = drawn(20_000, top_p=first + 0.01)
    assert both[1] / both.total() == pytest.approx(first / (first + second), abs=0.015)


def test_a_tiny_temperature_is_greedy() -> None:
    assert set(drawn(200, temperature=1e-9)) == {int(LOGITS.argmax())}


def test_rows_at_temperature_0_are_left_alone() -> None:
    draw = SeededDraw([ask(0), ask(1, temperature=1.0), ask(2)])
    scores = draw(torch.zeros(3, 1, dtype=torch.long), LOGITS.repeat(3, 1))
    assert torch.equal(scores[0], LOGITS)
    assert torch.equal(scores[2], LOGITS)
    assert scores[1].isfinite().sum() == 1


# Scores


def nll_by_hand(by_hand: tuple[Any, Any], prompt: str, answer: str) -> list[float]:
    """Of each of the answer's tokens, one row, in float64."""
    model, tokenizer = by_hand
    before = f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
    head, tail = (tokenizer.encode(text, add_special_tokens=False) for text in (before, answer))
    with torch.no_grad():
        log_likelihoods = model(torch.tensor([head + tail])).logits[0].double().log_softmax(-1)
    return [-log_likelihoods[len(head) + at - 1, token].item() for at, token in enumerate(tail)]


def test_the_score_is_the_mean_over_the_answer_alone(engine: TransformersEngine, by_hand: tuple[Any, Any]) -> None:
    answers = [
        "Sì.",
        "Il congiuntivo esprime un dubbio: credo che piova.\n\nL'indicativo, una certezza.",
        "\n\nComincia con due righe vuote",
        *CORPUS,
    ]
    requests = [score(f"s{at}", " ".join(CORPUS[: at % 4 + 1]), answer) for at, answer in enumerate(answers)]
    results = {result.request_id: result for result in engine.score(requests)}
    for request in requests:
        parts = nll_by_hand(by_hand, request.messages[0].content, request.response)
        result = results[request.request_id]
        assert (result.error, result.tokens) == (None, len(parts))
        assert result.nll == pytest.approx(math.fsum(parts) / len(parts), abs=1e-5)


def test_only_what_has_a_likelihood_is_scored(engine: TransformersEngine) -> None:
    requests = [score("empty", "Ciao", ""), score("good", "Ciao", "Ciao!"), score("long", "Ciao", "no " * POSITIONS)]
    results = {result.request_id: result for result in engine.score(requests)}
    assert results["good"].error is None
    assert "no tokens" in (results["empty"].error or "")
    assert str(POSITIONS) in (results["long"].error or "")


def test_a_likelihood_that_is_not_a_number_is_an_error(folder: Path, tmp_path: Path) -> None:
    broken = edited(folder, tmp_path / "m", "config.json")
    model = AutoModelForCausalLM.from_pretrained(broken)
    with torch.no_grad():
        model.model.norm.weight.fill_(math.nan)
    model.save_pretrained(broken)
    [result] = TransformersEngine.at(str(broken)).score([score("s", "Ciao", "Ciao!")])
    assert "not a number" in (result.error or "")


def test_padding_does_not_move_absolute_positions(folder: Path, tmp_path: Path) -> None:
    """GPT-2 learns one vector a position, so a prompt counted from its padding would score otherwise."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=POSITIONS, n_embd=32, n_layer=1, n_head=1)
    torch.manual_seed(0)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    requests = [score(f"s{at}", " ".join(CORPUS[: at + 1]), CORPUS[-1 - at]) for at in range(6)]
    together = {result.request_id: result.nll for result in TransformersEngine.at(str(tmp_path)).score(requests)}
    for alone in TransformersEngine.at(str(tmp_path), batch_size=1).score(requests):
        assert together[alone.request_id] == pytest.approx(alone.nll, abs=1e-5)
