"""The card of a data set: a README.md that the Hub and `datasets.load_dataset` read."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from fucina.factory.datasets import SPLITS
from fucina.factory.frames import write_atomic
from fucina.factory.report import wording
from fucina.factory.report.facts import engine_uses
from fucina.factory.rundir import RunDirectory
from fucina.schemas.manifest import DatasetRecord, Manifest
from fucina.schemas.recipe import Recipe

_TEMPLATES = Path(__file__).parent / "templates"
_LISTED = 12
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_KINDS = {
    "sft": "Each row is a prompt and the answer to learn, for TRL's `SFTTrainer`.",
    "dpo": "Each row is a prompt with a chosen and a rejected answer, for TRL's `DPOTrainer`.",
    "kto": (
        "Each row is a prompt and one answer labelled good (true) or bad (false), for TRL's `KTOTrainer`. "
        "**The order of the rows is part of the set**: that trainer compares neighbours within a batch, and every "
        "batch-sized window holds both labels and no prompt twice. Do not shuffle."
    ),
    "grpo": "Each row is a prompt to be rolled out, with what reward functions need, for TRL's `GRPOTrainer`.",
}
_COLUMNS = {
    "row_id": "hash of the rest of the row",
    "prompt": "the conversation up to the last user turn, system message included",
    "completion": "the answer, as one assistant message",
    "chosen": "the preferred answer, as one assistant message",
    "rejected": "the other answer, as one assistant message",
    "label": "true for an answer to learn, false for one to avoid",
    "reference": "the selected answer, for rewards that compare",
    "language": "ISO 639-1 code of the language the answer must be in",
    "prompt_id": "hash of the source record; the same prompt has the same id in all sets of the run",
    "candidate_id": "hash of the answer and of what made it",
    "chosen_id": "`candidate_id` of the chosen answer",
    "rejected_id": "`candidate_id` of the rejected answer",
    "chosen_origin": "role of the engine that gave the chosen answer",
    "rejected_origin": "role of the engine that gave the rejected answer",
    "category": "task type",
}
# What a reader may wrongly take for granted, unless one of these stages ran.
_UNCHECKED = (
    ({"human", "review"}, "No human has read these rows."),
    ({"rubric", "pairwise", "reward", "panel"}, "No judge has rated how good the answers are beyond the stages above."),
    ({"safety"}, "Nothing was checked for harmful, biased or private content."),
    ({"deduplicate"}, "Near-duplicate prompts were not removed."),
    ({"decontaminate"}, "The prompts were not compared with the test sets of public benchmarks."),
)
_ALWAYS_UNCHECKED = (
    "Facts, arithmetic and code in the answers were not verified.",
    "The licence is the one the recipe names; licences of sources and terms of models were not checked.",
)


@dataclass(frozen=True)
class Column:
    """A column as the card lists it."""

    name: str
    type: str
    meaning: str


@dataclass(frozen=True)
class Origins:
    """Where the selected prompts and answers of the run come from; reasons and sources by count, most first."""

    sources: tuple[tuple[str, int], ...]
    rules: tuple[str, ...]
    why_chosen: tuple[tuple[str, int], ...]
    why_rejected: tuple[tuple[str, int], ...]


def write_card(run: Path, record: DatasetRecord) -> Path:
    """Write `datasets/<format>/README.md` and return its path.

    Raises:
        InputError: not a run directory.
    """
    directory = RunDirectory(run)
    manifest = directory.manifest()
    recipe = Recipe.model_validate(manifest.recipe)
    folder = directory.datasets / record.format
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=False,  # noqa: S701 - Markdown; cells are escaped by `cell`
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(count=wording.count, cell=_cell)
    text = environment.get_template("card.md.jinja").render(
        front_matter=_yaml(front_matter(recipe, record)),
        record=record,
        splits=filled(record),
        recipe=recipe,
        manifest=manifest,
        kind=_KINDS.get(record.format, ""),
        columns=columns(folder / f"{SPLITS[0]}.parquet"),
        engines=engine_uses(manifest),
        origins=_origins(run, manifest),
        unchecked=unchecked(manifest),
        recipe_yaml=recipe_yaml(manifest),
    )
    path = folder / "README.md"
    write_atomic(path, text.encode())
    return path


def front_matter(recipe: Recipe, record: DatasetRecord) -> dict[str, Any]:
    """Metadata in the Hub's terms. Splits without rows are not listed: `datasets` refuses to load them."""
    total = sum(record.rows.values())
    return {
        "language": [recipe.language],
        "license": recipe.license,
        "pretty_name": f"{recipe.name} {record.format}",
        "task_categories": ["text-generation"],
        "size_categories": [next((name for limit, name in _SIZES if total < limit), "n>1M")],
        "tags": ["fucina", "synthetic", "trl", record.format],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"{split}.parquet"} for split in filled(record)],
            }
        ],
    }


def filled(record: DatasetRecord) -> list[str]:
    """Splits that have rows."""
    return [split for split, rows in record.rows.items() if rows]


def columns(file: Path) -> list[Column]:
    """Columns of a Parquet file."""
    schema = pl.read_parquet_schema(file)
    return [Column(name, _type(dtype), _COLUMNS.get(name, "")) for name, dtype in schema.items()]


def unchecked(manifest: Manifest) -> list[str]:
    """What no stage of the run looked at."""
    ran = {stage.name for stage in manifest.stages}
    return [text for stages, text in _UNCHECKED if ran.isdisjoint(stages)] + list(_ALWAYS_UNCHECKED)


def recipe_yaml(manifest: Manifest) -> str:
    """The recipe as it ran, in its short form.

    Folders of this machine are no one else's business: absolute paths lose theirs.
    """
    recipe = {key: value for key, value in manifest.recipe.items() if value is not None}
    steps = recipe.get("stages", [])
    recipe["stages"] = [{step["name"]: step["config"]} if step["config"] else step["name"] for step in steps]
    return _yaml(_without_folders(recipe))


def _origins(run: Path, manifest: Manifest) -> Origins:
    """Sources, rules and reasons of the selected prompts; empty before a stage has run."""
    if not manifest.stages:
        return Origins((), (), (), ())
    shards = sorted((run / manifest.stages[-1].folder).glob("kept-*.parquet"))
    picked = pl.col("selection").struct
    names = ("rule", "chosen_why", "rejected_why")
    frame = pl.scan_parquet(shards).select("source", *(picked.field(name) for name in names)).collect()
    sources, rules, chosen, rejected = (_counted(frame[name]) for name in ("source", *names))
    return Origins(sources, tuple(rule for rule, _ in rules), chosen, rejected)


def _counted(values: pl.Series) -> tuple[tuple[str, int], ...]:
    """The commonest values, most first; the rest is one."""
    counts = sorted(Counter(values.drop_nulls().to_list()).items(), key=lambda item: (-item[1], item[0]))
    rest = counts[_LISTED:]
    return (*counts[:_LISTED], *([(f"{len(rest)} others", sum(number for _, number in rest))] if rest else []))


def _without_folders(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_folders(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_folders(item) for item in value]
    if isinstance(value, str) and Path(value).is_absolute():
        return f"…/{Path(value).name}"
    return value


def _type(dtype: pl.DataType) -> str:
    if isinstance(dtype, pl.List) and isinstance(dtype.inner, pl.Struct):
        return f"list of {{{', '.join(field.name for field in dtype.inner.fields)}}}"
    return {pl.String(): "text", pl.Boolean(): "bool", pl.Int64(): "int", pl.Float64(): "float"}.get(dtype, str(dtype))


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100).strip()


def _cell(text: object) -> str:
    """Text for a Markdown table cell."""
    return " ".join(str(text).split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
