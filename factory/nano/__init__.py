"""Nano models: a tokenizer and two small Qwen2 models, built on the spot from the bundled Italian texts."""
