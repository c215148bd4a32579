"""The nano tokenizer, before and after AutoTokenizer rebuilds it."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from fucina.factory.nano.tokenizer import train_tokenizer
from tests.tiny import CORPUS

TEXTS = [
    *CORPUS,
    "Perché l'università non c'è? È così: 1.234,56 € → «già», 100%…",
    "def f(x):\n    return x ** 2\n\n\n| a | b |\n|---|---|\n",
    "e\u0301 composta da due segni",
    "漢字 и кириллица 🙂",
]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_tokenizer(CORPUS * 3, 500)


@pytest.fixture(scope="module")
def reloaded(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def test_it_has_the_vocabulary_asked_for_and_learns_words(tokenizer: Any) -> None:
    assert len(tokenizer) == 500
    assert len(tokenizer.tokenize(CORPUS[0])) < len(CORPUS[0]) / 2


def test_autotokenizer_applies_the_merges_that_were_learnt(tokenizer: Any, reloaded: Any) -> None:
    assert len(reloaded) == len(tokenizer)
    for text in TEXTS:
        assert reloaded.encode(text) == tokenizer.encode(text)
    assert reloaded.chat_template == tokenizer.chat_template
    assert (reloaded.eos_token, reloaded.pad_token, reloaded.bos_token) == ("<|im_end|>", "<|endoftext|>", None)


def test_any_text_comes_back_in_nfc(reloaded: Any) -> None:
    for text in TEXTS[:-2] + TEXTS[-1:]:
        assert reloaded.decode(reloaded.encode(text)) == text
    assert reloaded.decode(reloaded.encode("e\u0301")) == "é"


def test_turns_are_single_tokens_that_answers_do_not_show(reloaded: Any) -> None:
    for special in ("<|im_start|>", "<|im_end|>", "<|endoftext|>"):
        assert reloaded.encode(special) == [reloaded.convert_tokens_to_ids(special)]
        assert reloaded.decode(reloaded.encode(f"a{special}b"), skip_special_tokens=True) == "ab"


def test_the_template_is_chatml_with_system_turns(reloaded: Any) -> None:
    turns = [
        {"role": "system", "content": "Rispondi in italiano."},
        {"role": "user", "content": "Ciao"},
        {"role": "assistant", "content": "Ciao!"},
        {"role": "user", "content": "Come va?\n"},
    ]
    assert reloaded.apply_chat_template(turns, tokenize=False, add_generation_prompt=True) == (
        "<|im_start|>system\nRispondi in italiano.<|im_end|>\n<|im_start|>user\nCiao<|im_end|>\n"
        "<|im_start|>assistant\nCiao!<|im_end|>\n<|im_start|>user\nCome va?\n<|im_end|>\n<|im_start|>assistant\n"
    )


def test_the_template_marks_what_the_assistant_says(reloaded: Any) -> None:
    turns = [
        {"role": "user", "content": "Ciao"},
        {"role": "assistant", "content": "Ciao a te!"},
        {"role": "user", "content": "E poi?"},
        {"role": "assistant", "content": "Basta."},
    ]
    made = reloaded.apply_chat_template(turns, return_dict=True, return_assistant_tokens_mask=True)
    marked = [token for token, mask in zip(made["input_ids"], made["assistant_masks"], strict=True) if mask]
    assert reloaded.decode(marked) == "Ciao a te!<|im_end|>Basta.<|im_end|>"
