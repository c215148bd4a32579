"""Train a nano model and save it as any Hub model is saved."""

from pathlib import Path

from fucina.factory.engines._hub import bars_hidden
from fucina.factory.nano.config import CONTEXT, NanoConfig, Size
from fucina.factory.nano.corpus import Corpus
from fucina.factory.nano.tokenizer import train_tokenizer
from fucina.factory.nano.training import pretrain
from fucina.factory.progress import Advance


def write_model(folder: Path, size: Size, config: NanoConfig, corpus: Corpus, advance: Advance) -> None:
    """Train tokenizer and model on the training part of `corpus` and save them, with a model card, in `folder`."""
    tokenizer = train_tokenizer(
        (text for turn in corpus.train for text in (turn.prompt, turn.answer)), config.vocabulary
    )
    tokenizer.model_max_length = CONTEXT
    model = pretrain(config, tokenizer, corpus.train, advance)
    with bars_hidden():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    card = _CARD.format(
        size=size,
        parameters=model.num_parameters(),
        vocabulary=len(tokenizer),
        layers=config.layers,
        hidden=config.hidden,
        conversations=len(corpus.train),
        steps=config.steps,
        tokens=config.batch * config.block,
    )
    (folder / "README.md").write_text(card, encoding="utf-8")


_CARD = """\
---
language: it
license: apache-2.0
pipeline_tag: text-generation
---
# nano-{size}

A nano model: it shows that Fucina's machinery works, from prompts to an evaluated model, on any machine. It says
nothing about quality. Its Italian is broken and its answers are wrong; do not use it for anything else.

- Qwen2 architecture, {parameters:,} parameters (float32), {layers} layers of width {hidden}, {vocabulary} tokens
- trained from nothing, on one CPU thread, in {steps:,} steps of {tokens} tokens
- on {conversations} Italian conversations that come with Fucina; prompts of their test split were left out
- ChatML, system messages included; the template marks the assistant's tokens (`generation`)
"""
