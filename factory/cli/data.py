"""Commands that make data: demo, run, stage."""

from pathlib import Path
from typing import Annotated, Any

import typer

from fucina.factory.cli.common import (
    echo_evaluation,
    echo_json,
    echo_table,
    engine_specs,
    progress_for,
    reasons_text,
    settings,
)

Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="K=V", help="Override a setting; may be given again.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and no progress.")]
Workers = Annotated[int, typer.Option(min=1, help="Processes for stages without an engine. Changes no row.")]
ShardRows = Annotated[int, typer.Option(min=1, help="Rows a shard. Changes no row.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("demo")(demo)
    app.command("run")(run)
    app.command("stage")(stage)


def demo(
    out: Annotated[Path, typer.Option(help="Run directory.")] = Path("runs/demo"),
    set_: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Run the bundled Italian example from prompts to an evaluated model: no GPU, network or account needed.

    The teacher's and the student's answers are recorded: this project wrote them. Two nano models, built on the
    spot, answer as a third candidate, score perplexity and are trained: they show the machinery, not the quality.
    With a GPU or a server: --set teacher=vllm:Qwen/Qwen2.5-7B-Instruct
    """
    _run("demo", out, set_ or [], to=None, dry_run=False, as_json=as_json, shard_rows=512, workers=1)


def run(
    recipe: Annotated[str, typer.Argument(help="Recipe file, or the name of a bundled one (`fucina list recipes`).")],
    out: Annotated[Path | None, typer.Option(help="Run directory; default runs/<recipe name>.")] = None,
    set_: Overrides = None,
    to: Annotated[str | None, typer.Option(metavar="STAGE", help="Stop after this stage.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would run and what is there already.")] = False,
    shard_rows: ShardRows = 512,
    workers: Workers = 1,
    as_json: AsJson = False,
) -> None:
    """Run a recipe; run it again to go on where it stopped.

    Finished stages are used again as long as neither they nor anything before them changed. Examples:

    \b
      fucina run italiano --out runs/it
      fucina run my.yaml --set seed=7 --set teacher=openai:http://127.0.0.1:8000/v1
      fucina run my.yaml --set stages.deduplicate.threshold=0.8 --to deduplicate
    """
    _run(recipe, out, set_ or [], to=to, dry_run=dry_run, as_json=as_json, shard_rows=shard_rows, workers=workers)


def _run(
    name: str,
    out: Path | None,
    overrides: list[str],
    *,
    to: str | None,
    dry_run: bool,
    as_json: bool,
    shard_rows: int,
    workers: int,
) -> None:
    from fucina.factory.job import execute, prepare
    from fucina.factory.recipes import find, load_recipe
    from fucina.factory.runner import Options

    path = find(name)
    recipe = load_recipe(path, overrides)
    folder = out if out is not None else Path("runs") / recipe.name
    job = prepare(recipe, path.name, folder, to)
    if dry_run:
        planned = [
            {"stage": item.stage.name, "key": item.key, "done": item.folder.done() is not None} for item in job.planned
        ]
        if as_json:
            echo_json(planned)
        else:
            echo_table(
                [(p["stage"], p["key"], "done" if p["done"] else "to run") for p in planned], ("stage", "key", "")
            )
        return
    if not as_json:
        _introduce(job)
    manifest = execute(job, Options(shard_rows, workers, to), progress_for(quiet=as_json))
    if as_json:
        echo_json(manifest.model_dump(mode="json"))
    else:
        _tell(manifest, folder)


def _introduce(job: Any) -> None:
    """Say who answers, and plainly what is recorded or nano."""
    typer.echo(f"{job.recipe.name}: {job.recipe.description.strip()}")
    for role in job.engines.roles():
        card = job.engines.card(role)
        kind = "recorded answers, played back" if card.engine == "replay" else card.engine
        typer.echo(f"  {role}: {card.model} ({kind}){'; ' + card.notes if card.notes else ''}")


def _tell(manifest: Any, folder: Path) -> None:
    """The run in two tables, and where to look next."""
    typer.echo("")
    rows = [
        (
            s.name,
            s.rows_in,
            s.rows_kept,
            sum(s.dropped.values()),
            s.completion_tokens or None,
            s.seconds,
            reasons_text(s.dropped),
        )
        for s in manifest.stages
    ]
    echo_table(rows, ("stage", "rows in", "kept", "dropped", "tokens", "seconds", "reasons"))
    if manifest.datasets:
        typer.echo("")
        sets = [
            (d.format, d.rows["train"], d.rows["test"], d.digest, reasons_text(d.dropped)) for d in manifest.datasets
        ]
        echo_table(sets, ("data set", "train", "test", "digest", "without a row"))
    evaluation = (manifest.training or {}).get("evaluation")
    if evaluation:
        typer.echo("")
        echo_evaluation(evaluation)
    typer.echo(f"\nreport: {folder / 'report.html'}")
    if manifest.datasets:
        typer.echo(f"data sets: {folder / 'datasets'}")


def stage(
    name: Annotated[str, typer.Argument(help="Stage or judge (`fucina list stages`, `fucina list judges`).")],
    input_: Annotated[Path, typer.Argument(metavar="IN", help="JSONL, CSV or Parquet file; .gz too.")],
    out: Annotated[Path, typer.Option(help="Output file; its suffix chooses the format.")],
    set_: Overrides = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(metavar="ROLE=ENGINE:ADDRESS", help="An engine the stage may use, e.g. scorer=nano:large."),
    ] = None,
    language: Annotated[str, typer.Option(help="Language the answers must be in.")] = "it",
    seed: Annotated[int, typer.Option(help="Seed.")] = 17,
    as_json: AsJson = False,
) -> None:
    """Run one stage or judge alone on a file.

    Records keep all their fields. Alpaca, ShareGPT, messages, prompt/completion, question/answer and text records
    are recognised. Dropped rows go beside OUT as <stem>.dropped<suffix>, each with a reason. A stage that asks
    engines keeps the answers in <stem>.answers.jsonl and never asks for them again. Examples:

    \b
      fucina stage deduplicate prompts.jsonl --out unique.jsonl --set threshold=0.8
      fucina stage rules answers.csv --out judged.jsonl
      fucina stage perplexity answers.jsonl --out scored.jsonl --set engine=scorer --engine scorer=nano:large
    """
    from fucina.factory.alone import run_alone

    summary = run_alone(
        name,
        input_,
        out,
        settings(set_ or []),
        engine_specs(engine or []),
        {"language": language, "seed": seed},
        progress_for(quiet=as_json),
    )
    result = {
        "stage": name,
        "rows_in": summary.rows_in,
        "kept": summary.kept,
        "dropped": summary.dropped,
        "seconds": summary.seconds,
        "out": str(summary.out),
        "dropped_file": None if summary.dropped_file is None else str(summary.dropped_file),
    }
    if as_json:
        echo_json(result)
        return
    lost = f" ({reasons_text(summary.dropped)})" if summary.dropped else ""
    typer.echo(f"{name}: {summary.rows_in} in, {summary.kept} kept, {sum(summary.dropped.values())} dropped{lost}")
    typer.echo(f"  {summary.out}" + (f"\n  {summary.dropped_file}" if summary.dropped_file else ""))
