"""Pre-training of a nano model: a small Qwen2 over packed conversations, on one CPU thread."""

import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from fucina.factory.errors import MissingExtraError
from fucina.factory.nano.config import CONTEXT, NanoConfig
from fucina.factory.nano.corpus import Conversation
from fucina.factory.progress import Advance

try:
    import torch
    from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer
except ModuleNotFoundError as error:
    raise MissingExtraError(error.name or "torch", "train", "a nano model") from error


def pretrain(
    config: NanoConfig, tokenizer: Qwen2Tokenizer, conversations: Sequence[Conversation], advance: Advance
) -> Qwen2ForCausalLM:
    """A model trained from nothing for `config.steps` steps, one `advance` each.

    Every token counts in the loss, prompts too: on so little text they are worth learning. The caller's thread
    count and random state are left as they were.
    """
    # One thread: sums come out in one order on every machine, and busy machines do not make threads wait in turn.
    with _threads(1), torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = new_model(config, tokenizer)
        optimizer = _optimizer(model, config)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _warmup_cosine(step, config.steps))
        model.train()
        for _, block in zip(range(config.steps), packed(config, tokenizer, conversations), strict=False):
            model(input_ids=block, labels=block, use_cache=False).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            advance(1)
        model.eval()
    return model


def new_model(config: NanoConfig, tokenizer: Qwen2Tokenizer) -> Qwen2ForCausalLM:
    """An untrained model from torch's current random state."""
    tokens = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    shape = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=config.hidden,
        intermediate_size=config.feed_forward,
        num_hidden_layers=config.layers,
        num_attention_heads=config.hidden // 32,
        num_key_value_heads=config.key_value_heads,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        dtype="float32",
        **tokens,
    )
    model = Qwen2ForCausalLM(shape)
    model.generation_config = GenerationConfig(**tokens)
    return model


def packed(
    config: NanoConfig, tokenizer: Qwen2Tokenizer, conversations: Sequence[Conversation]
) -> Iterator[torch.Tensor]:
    """Endless blocks of token ids, (batch, block): conversations end to end, shuffled anew in every pass."""
    encoded = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": turn.prompt}, {"role": "assistant", "content": turn.answer}],
            return_dict=True,
        )["input_ids"]
        for turn in conversations
    ]
    order = random.Random(config.seed)  # noqa: S311 - a shuffle, not a secret
    size = config.batch * config.block
    buffer: list[int] = []
    while True:
        while len(buffer) < size:
            order.shuffle(encoded)
            for tokens in encoded:
                buffer.extend(tokens)
        yield torch.tensor(buffer[:size]).view(config.batch, config.block)
        del buffer[:size]


def _optimizer(model: Qwen2ForCausalLM, config: NanoConfig) -> torch.optim.Optimizer:
    matrices = [weight for weight in model.parameters() if weight.ndim >= 2]
    vectors = [weight for weight in model.parameters() if weight.ndim < 2]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.99), fused=True)


def _warmup_cosine(step: int, steps: int) -> float:
    """Linear over the first tenth, then half a cosine down to a twentieth."""
    warmup = max(1, steps // 10)
    if step < warmup:
        return (step + 1) / warmup
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
