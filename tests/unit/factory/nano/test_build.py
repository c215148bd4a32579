"""Nano models on the shelf: built once, whole or not at all, the same everywhere, and good enough to tell apart."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from fucina.factory.engines.nano import NanoEngine
from fucina.factory.engines.transformers import TransformersEngine
from fucina.factory.hashing import file_digest
from fucina.factory.nano.build import SIZES, Size, build, content_key, default_home
from fucina.factory.nano.corpus import Corpus, bundled_seeds, load_corpus
from fucina.factory.progress import Advance
from fucina.schemas.generation import GenerationRequest, Sampling, ScoringRequest
from fucina.schemas.rows import Message

STEPS = 3


class Watched:
    """Counts the steps of every task opened, and may stop in the middle."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.tasks: list[int] = []
        self._stop_at = stop_at

    @contextmanager
    def task(self, label: str, total: int | None, unit: str = "rows") -> Generator[Advance]:
        assert (label, total, unit) == ("nano model small", STEPS, "steps")
        self.tasks.append(0)

        def advance(steps: int) -> None:
            self.tasks[-1] += steps
            if self.tasks[-1] == self._stop_at:
                raise KeyboardInterrupt

        yield advance


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """`small`, trained for a few steps only."""
    monkeypatch.setitem(SIZES, "small", SIZES["small"].model_copy(update={"steps": STEPS}))


def ask(number: int, prompt: str, *, temperature: float = 0.0, max_tokens: int = 8) -> GenerationRequest:
    return GenerationRequest(
        request_id=f"r{number}",
        prompt_id=f"p{number}",
        messages=[Message(role="user", content=prompt)],
        sampling=Sampling(max_tokens=max_tokens, temperature=temperature, top_p=0.9),
        seed=number,
    )


# A few steps


@pytest.mark.usefixtures("short")
def test_it_is_built_once(tmp_path: Path) -> None:
    watched = Watched()
    folder = build("small", tmp_path, watched)
    key = content_key("small", load_corpus(bundled_seeds()))
    assert folder == tmp_path / "nano" / f"small-{key}"
    written = file_digest(folder)
    assert build("small", tmp_path, watched) == folder
    assert watched.tasks == [STEPS]
    assert file_digest(folder) == written
    assert [path for path in folder.parent.iterdir() if path.is_dir()] == [folder]


@pytest.mark.usefixtures("short")
def test_a_build_that_was_cut_off_leaves_no_model(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        build("small", tmp_path, Watched(stop_at=2))
    assert not list((tmp_path / "nano").glob("small-*"))
    key = content_key("small", load_corpus(bundled_seeds()))
    # What a build killed while it saved leaves behind.
    partial = tmp_path / "nano" / f".small-{key}.partial"
    partial.mkdir(exist_ok=True)
    (partial / "torn.safetensors").write_text("half")
    folder = build("small", tmp_path)
    assert not (folder / "torn.safetensors").exists()
    assert not partial.exists()
    AutoModelForCausalLM.from_pretrained(folder)


@pytest.mark.usefixtures("short")
def test_the_address_is_that_of_text_and_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = load_corpus(bundled_seeds())
    key = content_key("small", corpus)
    assert content_key("small", corpus) == key
    assert content_key("large", corpus) != key
    assert content_key("small", Corpus(train=corpus.train[1:], test=corpus.test)) != key
    monkeypatch.setitem(SIZES, "small", SIZES["small"].model_copy(update={"seed": 18}))
    assert content_key("small", corpus) != key
    monkeypatch.undo()
    monkeypatch.setattr(torch, "__version__", "2.99.0")
    assert content_key("small", corpus) != key


def test_home_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FUCINA_HOME", str(tmp_path))
    assert default_home() == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.delenv("FUCINA_HOME")
    assert default_home() == tmp_path / "user" / ".cache" / "fucina"


@pytest.mark.usefixtures("short")
def test_the_folder_is_a_whole_qwen2_model_with_a_card(tmp_path: Path) -> None:
    folder = build("small", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["Qwen2ForCausalLM"]
    assert config["dtype"] == "float32"
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == config["eos_token_id"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.model_max_length == config["max_position_embeddings"]
    assert len(tokenizer) == config["vocab_size"]
    card = (folder / "README.md").read_text()
    assert "nano-small" in card
    assert "nothing about quality" in " ".join(card.split())
    assert f"{AutoModelForCausalLM.from_pretrained(folder).num_parameters():,} parameters" in card


@pytest.mark.usefixtures("short")
def test_the_engine_builds_at_its_first_use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FUCINA_HOME", str(tmp_path))
    engine = NanoEngine.at("small")
    card = engine.card()
    assert (card.engine, card.model) == ("nano", "nano-small")
    assert "not quality" in (card.notes or "")
    assert list(tmp_path.iterdir()) == []

    turns = [Message(role="user", content="Come si fa il pane?")]
    [answer] = engine.generate([ask(0, "Come si fa il pane?")])
    [score] = engine.score([ScoringRequest(request_id="s", messages=turns, response="Con la farina.")])
    folder = engine.model_path()
    assert folder == tmp_path / "nano" / f"small-{card.revision}"
    delegate = TransformersEngine.at(str(folder))
    assert list(delegate.generate([ask(0, "Come si fa il pane?")])) == [answer]
    assert list(delegate.score([ScoringRequest(request_id="s", messages=turns, response="Con la farina.")])) == [score]
    engine.close()
    engine.close()


PROGRAM = f"""
import sys
from pathlib import Path
from fucina.factory.nano.build import SIZES, build
from fucina.factory.progress import SILENT
SIZES["small"] = SIZES["small"].model_copy(update={{"steps": {STEPS}}})
class Told:
    def task(self, label, total, unit="rows"):
        print("trains", flush=True)
        return SILENT.task(label, total, unit)
print(build("small", Path(sys.argv[1]), Told()))
"""


def in_another_process(home: Path) -> "subprocess.Popen[str]":
    # Another hash seed each: nothing may depend on the order of a set.
    env = {**os.environ, "PYTHONHASHSEED": "random", "OMP_NUM_THREADS": "2"}
    return subprocess.Popen([sys.executable, "-c", PROGRAM, str(home)], stdout=subprocess.PIPE, text=True, env=env)


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_two_processes_build_one_model_between_them_and_the_same_as_a_third(tmp_path: Path) -> None:
    both = [in_another_process(tmp_path / "shared") for _ in range(2)]
    said = [process.communicate(timeout=300)[0].split() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(len(words) for words in said) == [1, 2]
    folders = {words[-1] for words in said}
    assert len(folders) == 1
    assert file_digest(Path(folders.pop())) == file_digest(build("small", tmp_path / "own"))


# The real ones


@pytest.fixture(scope="module")
def nano(fucina_home: Path) -> dict[Size, Path]:
    return {size: build(size, fucina_home) for size in SIZES}


def held_out_nll(folder: Path, corpus: Corpus) -> float:
    """Nats per answer token over the test split."""
    requests = [
        ScoringRequest(request_id=str(at), messages=[Message(role="user", content=turn.prompt)], response=turn.answer)
        for at, turn in enumerate(corpus.test)
    ]
    results = list(TransformersEngine.at(str(folder)).score(requests))
    assert [result.error for result in results] == [None] * len(requests)
    tokens = sum(result.tokens or 0 for result in results)
    return sum((result.nll or 0.0) * (result.tokens or 0) for result in results) / tokens


@pytest.mark.slow
def test_the_larger_predicts_held_out_answers_better(nano: dict[Size, Path]) -> None:
    corpus = load_corpus(bundled_seeds())
    small, large = held_out_nll(nano["small"], corpus), held_out_nll(nano["large"], corpus)
    assert small < 6.2
    assert large < small - 0.3


@pytest.mark.slow
def test_the_larger_writes_words(nano: dict[Size, Path]) -> None:
    """Of the longer words it samples for prompts it never saw, half (0.51) are words of the corpus."""
    corpus = load_corpus(bundled_seeds())
    known = {word for turn in corpus.train for word in re.findall(r"[^\W\d_]{4,}", turn.prompt + " " + turn.answer)}
    requests = [ask(at, turn.prompt, temperature=0.7, max_tokens=64) for at, turn in enumerate(corpus.test)]
    results = TransformersEngine.at(str(nano["large"])).generate(requests)
    text = " ".join(result.response or "" for result in results)
    words = re.findall(r"[^\W\d_]{4,}", text)
    assert len(words) > 200
    share = sum(word in known for word in words) / len(words)
    assert share > 0.4


@pytest.mark.slow
def test_a_card_takes_no_time(nano: dict[Size, Path]) -> None:
    started = time.monotonic()
    assert {NanoEngine(size=size).card().revision for size in SIZES} == {
        path.name.partition("-")[2] for path in nano.values()
    }
    assert time.monotonic() - started < 2.0
