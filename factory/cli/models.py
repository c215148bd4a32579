"""Commands that make models: train, fuse, evaluate. `train/` is loaded by name: the factory does not know it."""

import importlib
from pathlib import Path
from typing import Annotated, Any

import typer

from fucina.factory.cli.common import echo_evaluation, echo_json, progress_for, settings

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and no progress.")]
Out = Annotated[Path, typer.Option(help="Folder to write.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("train")(train)
    app.command("fuse")(fuse)
    app.command("evaluate")(evaluate)


def _commands() -> Any:
    return importlib.import_module("fucina.train.cli")


def train(
    method: Annotated[str, typer.Argument(metavar="sft|dpo|kto", help="How to train.")],
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Data set file, or its folder, as a run wrote it.")],
    model: Annotated[str, typer.Option(help="Model folder, Hub id, or nano:large, nano:small.")],
    out: Out,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="K=V", help="A setting; may be given again.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a model on a data set with TRL: fp32 master weights, every setting explicit and recorded.

    KTO after SFT is the paper's two stages: train sft first and give its folder as --model. Examples:

    \b
      fucina train sft runs/demo/datasets/sft --model nano:large --out models/sft
      fucina train kto runs/demo/datasets/kto --model models/sft --out models/sft_kto
      fucina train dpo DATA --model MODEL --out OUT --set learning_rate=5e-7 --set beta=0.1 --set lora.r=16
    """
    record = _commands().train(method, data, _model(model), out, settings(set_ or []), progress_for(quiet=as_json))
    if as_json:
        echo_json(record.model_dump(mode="json"))
    else:
        typer.echo(f"{out}: {record.steps} steps in {record.seconds:.0f} s, final loss {record.final_loss:.3f}")


def fuse(
    models: Annotated[list[str], typer.Argument(help="Two or more models of one shape: folders or Hub ids.")],
    out: Out,
    weight: Annotated[list[float] | None, typer.Option(help="Weight of each model in turn; default equal.")] = None,
) -> None:
    """Average the weights of models with mergekit, in fp32, after checking that they fit.

    fucina fuse models/sft models/kto models/sft_kto --out models/fused
    """
    typer.echo(str(_commands().fuse(models, out, weight)))


def evaluate(
    models: Annotated[list[str], typer.Argument(metavar="NAME=MODEL…", help="Models by name; the first is the base.")],
    data: Annotated[Path, typer.Option(help="Run directory whose held-out rows are used.")],
    out: Out,
    language: Annotated[str, typer.Option(help="Language of the task.")] = "it",
    as_json: AsJson = False,
) -> None:
    """Evaluate models on the held-out rows of a run.

    Likelihood of the chosen answers, and with lm-eval whether the chosen answer is likelier than the rejected one.
    Differences are paired; none inside the noise is called a win. Example:

    \b
      fucina evaluate base=nano:large sft=models/sft --data runs/demo --out models/evaluation
    """
    named = {name: _model(path) for name, _, path in (model.partition("=") for model in models)}
    evaluation = _commands().evaluate(named, data, out, language, progress_for(quiet=as_json)).model_dump(mode="json")
    if as_json:
        echo_json(evaluation)
    else:
        echo_evaluation(evaluation)


def _model(name: str) -> str:
    """A nano model is built where it is named; anything else is a folder or a Hub id."""
    if not name.startswith("nano:"):
        return name
    from fucina.factory.engines.base import build_engine
    from fucina.factory.job import local_model

    return str(local_model("--model", build_engine("nano", {"engine": "nano", "address": name.removeprefix("nano:")})))
