"""A tiny base model and the data sets of a small run, as the pipeline writes them: lineage columns included."""

from pathlib import Path

import polars as pl
import pytest

from fucina.factory.frames import frame_of, write_frame
from fucina.schemas.rows import Message
from fucina.schemas.sets import DpoRow, KtoRow, SftRow

TOPICS = ["il mare", "la pioggia", "il treno", "la scuola", "il pane", "la luna", "il mercato", "la montagna"]
ASKS = ["Spiega in una frase", "Scrivi una nota su", "Descrivi a un bambino"]
PROMPTS = [f"{ask} {topic}." for ask in ASKS for topic in TOPICS]


def prompt(number: int) -> list[Message]:
    """The question, after a system turn in every fifth row."""
    system = [Message(role="system", content="Rispondi in italiano.")] if number % 5 == 0 else []
    return [*system, Message(role="user", content=PROMPTS[number])]


def good(number: int) -> list[Message]:
    """A proper answer."""
    topic = PROMPTS[number].removesuffix(".").split(" ", 3)[-1]
    text = f"Ecco una risposta chiara su {topic}: si tratta di qualcosa che tutti conoscono bene, numero {number}."
    return [Message(role="assistant", content=text)]


def bad(number: int) -> list[Message]:
    """A lazy answer."""
    return [Message(role="assistant", content=f"Non so, boh {number}.")]


def sft_rows(numbers: range) -> pl.DataFrame:
    return frame_of(
        [
            SftRow(row_id=f"s{n}", prompt=prompt(n), completion=good(n), prompt_id=f"p{n}", candidate_id=f"g{n}")
            for n in numbers
        ],
        SftRow,
    )


def dpo_rows(numbers: range) -> pl.DataFrame:
    rows = [
        DpoRow(
            row_id=f"d{n}", prompt=prompt(n), chosen=good(n), rejected=bad(n), prompt_id=f"p{n}",
            chosen_id=f"g{n}", rejected_id=f"b{n}", chosen_origin="teacher", rejected_origin="student",
        )
        for n in numbers
    ]  # fmt: skip
    return frame_of(rows, DpoRow)


def kto_rows(numbers: range) -> pl.DataFrame:
    """Labels alternate, and a prompt's two rows stand half a set apart."""
    half = len(numbers) // 2
    rows: list[KtoRow] = []
    for index, n in enumerate(numbers):
        other = numbers[(index + half) % len(numbers)]
        for number, completion, label in ((n, good(n), True), (other, bad(other), False)):
            rows.append(
                KtoRow(
                    row_id=f"k{number}{label}", prompt=prompt(number), completion=completion, label=label,
                    prompt_id=f"p{number}", candidate_id=f"{label}{number}",
                )
            )  # fmt: skip
    return frame_of(rows, KtoRow)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with SFT, DPO and KTO sets: 24 prompts, the last 8 held out."""
    folder = tmp_path_factory.mktemp("run")
    for name, maker in (("sft", sft_rows), ("dpo", dpo_rows), ("kto", kto_rows)):
        for split, numbers in (("train", range(16)), ("test", range(16, 24))):
            for suffix in ("parquet", "jsonl"):
                write_frame(maker(numbers), folder / "datasets" / name / f"{split}.{suffix}")
    return folder


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen2 chat model of about 100,000 weights."""
    from tests.tiny import make_tiny_model

    return make_tiny_model(tmp_path_factory.mktemp("models") / "base")
