"""Pre-training of nano models, a few steps of it."""

from itertools import islice
from typing import Any

import pytest
import torch

from fucina.factory.nano.config import NanoConfig
from fucina.factory.nano.corpus import Conversation
from fucina.factory.nano.tokenizer import train_tokenizer
from fucina.factory.nano.training import new_model, packed, pretrain
from tests.tiny import CORPUS

TURNS = [Conversation(prompt=prompt, answer=answer) for prompt, answer in zip(CORPUS, reversed(CORPUS), strict=True)]
CONFIG = NanoConfig(
    vocabulary=500, hidden=64, layers=2, feed_forward=96, key_value_heads=1, steps=5, batch=2, block=32,
    learning_rate=5e-3, weight_decay=0.1,
)  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_tokenizer(CORPUS, CONFIG.vocabulary)


def train(tokenizer: Any, **changes: Any) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = pretrain(
        CONFIG.model_copy(update=changes), tokenizer, TURNS, lambda _steps: None
    ).state_dict()
    return weights


def same(some: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> bool:
    return some.keys() == others.keys() and all(torch.equal(some[name], others[name]) for name in some)


def test_weights_are_the_same_to_the_bit(tokenizer: Any) -> None:
    first = train(tokenizer)
    threads = torch.get_num_threads()
    torch.manual_seed(99)
    torch.set_num_threads(2)
    try:
        assert same(train(tokenizer), first)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert not same(train(tokenizer, seed=18), first)
    assert not same(train(tokenizer, steps=4), first)


def test_the_callers_random_state_is_left_alone(tokenizer: Any) -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    train(tokenizer, steps=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_callers_threads_come_back_after_a_failure(tokenizer: Any) -> None:
    def stop(_steps: int) -> None:
        raise KeyboardInterrupt

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(KeyboardInterrupt):
            pretrain(CONFIG, tokenizer, TURNS, stop)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_it_learns_and_advances_once_a_step(tokenizer: Any) -> None:
    steps: list[int] = []
    config = CONFIG.model_copy(update={"steps": 60})
    trained = pretrain(config, tokenizer, TURNS, steps.append)
    assert steps == [1] * 60
    assert not trained.training
    [block] = islice(packed(CONFIG, tokenizer, TURNS), 1)
    torch.manual_seed(CONFIG.seed)
    with torch.no_grad():
        untrained = new_model(CONFIG, tokenizer).eval()
        assert trained(block, labels=block).loss < untrained(block, labels=block).loss - 1.0


def test_blocks_hold_every_conversation_once_a_pass(tokenizer: Any) -> None:
    size = CONFIG.batch * CONFIG.block
    stream = torch.cat([block.flatten() for block in islice(packed(CONFIG, tokenizer, TURNS), 40)]).tolist()
    assert len(stream) == 40 * size
    per_pass = tokenizer.decode(stream).split("<|im_start|>user\n")[1:]
    first, second = per_pass[: len(TURNS)], per_pass[len(TURNS) : 2 * len(TURNS)]
    wanted = sorted(f"{turn.prompt}<|im_end|>\n<|im_start|>assistant\n{turn.answer}<|im_end|>\n" for turn in TURNS)
    assert sorted(first) == sorted(second) == wanted
    assert first != second


def test_it_has_the_form_that_other_tools_load(tokenizer: Any) -> None:
    model = new_model(CONFIG, tokenizer)
    config = model.config
    assert config.hidden_size // config.num_attention_heads >= 32  # vLLM's attention takes no less
    assert config.vocab_size == len(tokenizer)
    assert config.tie_word_embeddings
    assert config.max_position_embeddings >= 1024
    assert config.eos_token_id == model.generation_config.eos_token_id == tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
