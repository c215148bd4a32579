"""Shapes of the nano models."""

from typing import Literal

from pydantic import Field

from fucina.schemas.base import Record

CONTEXT = 2048


class NanoConfig(Record):
    """Shape and training of a nano model. Heads are 32 wide, the least that vLLM takes."""

    vocabulary: int = Field(2048, description="most tokens of the tokenizer")
    hidden: int = Field(description="width; a multiple of 32")
    layers: int
    feed_forward: int = Field(description="width inside the feed-forward blocks")
    key_value_heads: int
    steps: int = Field(description="optimiser steps")
    batch: int = Field(4, description="rows a step")
    block: int = Field(128, description="tokens a row")
    learning_rate: float
    weight_decay: float
    seed: int = 17


Size = Literal["small", "large"]

# Tuned on a part of the training conversations; the test conversations had no say.
SIZES: dict[Size, NanoConfig] = {
    "small": NanoConfig(
        hidden=64, layers=2, feed_forward=128, key_value_heads=1, steps=450, learning_rate=5e-3, weight_decay=0.1
    ),
    "large": NanoConfig(
        hidden=128, layers=2, feed_forward=384, key_value_heads=2, steps=1150, learning_rate=3e-3, weight_decay=1.0
    ),
}
