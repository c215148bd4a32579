"""A byte-level BPE in the form AutoTokenizer gives every Qwen2 model, and a ChatML template."""

import json
from collections.abc import Iterable

from fucina.factory.errors import MissingExtraError

try:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import Qwen2Tokenizer
except ModuleNotFoundError as error:
    raise MissingExtraError(error.name or "transformers", "train", "a nano model") from error

PAD = "<|endoftext|>"
START = "<|im_start|>"
END = "<|im_end|>"

# `generation` marks the assistant's own tokens: TRL's assistant_only_loss refuses templates without it.
CHAT_TEMPLATE = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\\n' }}
    {%- if message['role'] == 'assistant' %}
        {%- generation %}
        {{- message['content'] + '<|im_end|>' }}
        {%- endgeneration %}
    {%- else %}
        {{- message['content'] + '<|im_end|>' }}
    {%- endif %}
    {{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Qwen2Tokenizer:
    """A tokenizer of at most `vocabulary` tokens, special ones and all 256 bytes included.

    AutoTokenizer rebuilds every Qwen2 tokenizer with its own normalizer and pre-tokenizer, so merges learnt
    under others would not be the ones applied: they are learnt under Qwen2's.
    """
    qwen = Qwen2Tokenizer(vocab={PAD: 0}, merges=[]).backend_tokenizer
    learner = Tokenizer(models.BPE())
    learner.normalizer = qwen.normalizer
    learner.pre_tokenizer = qwen.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    learnt = json.loads(learner.to_str())["model"]
    return Qwen2Tokenizer(
        vocab=learnt["vocab"],
        merges=[tuple(pair) for pair in learnt["merges"]],
        unk_token=PAD,
        pad_token=PAD,
        eos_token=END,
        extra_special_tokens=[START],
        chat_template=CHAT_TEMPLATE,
    )
