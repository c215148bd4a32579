"""One suite for every stage and judge found: whoever adds a file is tested without adding a test."""

from typing import Any

import polars as pl
import pytest

from fucina.factory.engines.base import EngineBook
from fucina.factory.plugins import JUDGES, STAGES, available, load, load_step
from fucina.factory.runner import checked
from fucina.factory.stage import Context, FrameStage, GenerateStage, Outcome, SourceStage, Stage
from fucina.judges.base import Judge
from fucina.schemas.rows import PromptRow
from tests.rows import candidate, frame, prompt
from tests.tiny import make_tiny_model

# Settings without a default. A plugin that has some and is not named here fails: add it.
SETTINGS: dict[str, dict[str, Any]] = {
    "regenerate": {"engines": ["teacher"]},
    "select": {"strength": ["teacher", "student"]},
    "perplexity": {"engine": "scorer"},
}
STEPS = [*available(STAGES), *available(JUDGES)]


@pytest.fixture(scope="module")
def ctx(tmp_path_factory: pytest.TempPathFactory) -> Context:
    """A context with a teacher that has recorded answers to half of the rows, and a small real model that scores."""
    tmp_path = tmp_path_factory.mktemp("ctx")
    answers = tmp_path / "answers.jsonl"
    answers.write_text(
        "".join(
            f'{{"prompt": "{text}", "model": "m", "response": "Una risposta a {i}."}}\n'
            for i, text in enumerate(TEXTS[::2])
        ),
        encoding="utf-8",
    )
    teacher = {"engine": "replay", "path": str(answers), "model": "m"}
    scorer = {"engine": "transformers", "model": str(make_tiny_model(tmp_path / "tiny"))}
    return Context(engines=EngineBook({"teacher": teacher, "scorer": scorer}))


TEXTS = [
    "Spiegami perché il cielo è blu", "Spiegami perché il cielo è blu!", "Write a poem about the sea", "CaffÃ¨ e cornetto",
    "Traduci in inglese: buongiorno", "Quanto fa 12 per 12?", "ok", "Scrivi una mail al condominio sul rumore",
]  # fmt: skip


def rows() -> pl.DataFrame:
    """Rows in all conditions: with and without answers, errors, verdicts, splits."""
    pair = [candidate("teacher", "Buona risposta."), candidate("student", "I cannot help.", ["refusal"])]
    return frame(
        [
            prompt(text, response="Un'altra risposta." if i % 3 == 0 else None, candidates=pair if i % 2 else [])
            for i, text in enumerate(TEXTS)
        ]
        + [prompt("Che ore sono a Roma?", candidates=[candidate("teacher", None)], split="test")]
    )


def build(name: str) -> Any:
    plugin, as_stage = load_step(name)
    return as_stage(plugin.model_validate(SETTINGS.get(name, {})))


def run(stage: Any, table: pl.DataFrame, ctx: Context) -> Outcome:
    if isinstance(stage, GenerateStage):
        results = {
            result.request_id: result
            for role, requests in stage.requests(table, ctx).items()
            for result in ctx.engine(role).generate(requests)
        }
        return checked(stage, table, stage.absorb(table, results, ctx))
    return checked(stage, table, stage.run(table, ctx))


@pytest.mark.parametrize("name", STEPS)
def test_it_says_what_it_is(name: str) -> None:
    stage = build(name)
    assert isinstance(stage, Stage)
    assert stage.name == name
    assert set(stage.reads) | set(stage.adds) <= set(PromptRow.model_fields)
    kinds = {"source": SourceStage, "map": FrameStage, "reduce": FrameStage, "generate": GenerateStage}
    assert isinstance(stage, kinds[stage.kind])
    plugin, _ = load_step(name)
    assert plugin.__doc__
    assert all(field.description for field in plugin.model_fields.values()), "every setting needs a description"


@pytest.mark.parametrize("name", available(JUDGES))
def test_judges_name_their_aspects(name: str) -> None:
    judge = load(JUDGES, name).model_validate(SETTINGS.get(name, {}))
    assert isinstance(judge, Judge)
    assert judge.aspects


TRANSFORMS = [name for name in STEPS if build(name).kind != "source"]


@pytest.mark.parametrize("name", TRANSFORMS)
def test_it_changes_only_what_it_says_and_gives_the_same_twice(name: str, ctx: Context) -> None:
    stage, table = build(name), rows()
    first, second = run(stage, table, ctx), run(stage, table, ctx)
    assert first.kept.equals(second.kept)
    assert first.dropped.equals(second.dropped)
    untouched = [column for column in PromptRow.model_fields if column not in stage.adds]
    after = pl.concat([first.kept, first.dropped.drop("reason")]).sort("prompt_id").select(untouched)
    assert after.equals(table.sort("prompt_id").select(untouched))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_order_of_rows_is_no_matter(name: str, ctx: Context) -> None:
    stage, table = build(name), rows()
    forward, backward = run(stage, table, ctx), run(stage, table.reverse(), ctx)
    assert forward.kept.sort("prompt_id").equals(backward.kept.sort("prompt_id"))
    assert forward.dropped.sort("prompt_id").equals(backward.dropped.sort("prompt_id"))


@pytest.mark.parametrize("name", [name for name in TRANSFORMS if build(name).kind != "reduce"])
def test_shards_are_no_matter(name: str, ctx: Context) -> None:
    stage, table = build(name), rows()
    whole = run(stage, table, ctx)
    parts = [run(stage, table.slice(start, 2), ctx) for start in range(0, table.height, 2)]
    assert pl.concat([part.kept for part in parts]).equals(whole.kept)
    assert pl.concat([part.dropped for part in parts]).equals(whole.dropped)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_no_rows_is_no_problem(name: str, ctx: Context) -> None:
    outcome = run(build(name), rows().clear(), ctx)
    assert outcome.kept.height == outcome.dropped.height == 0
