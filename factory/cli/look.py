"""Commands that show: list, trace, report, doctor."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from fucina.factory.cli.common import echo_json, echo_table

AsJson = Annotated[bool, typer.Option("--json", help="Print as JSON.")]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="Run directory.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("list")(list_)
    app.command("trace")(trace)
    app.command("report")(report)
    app.command("doctor")(doctor)


def list_(
    what: Annotated[str, typer.Argument(metavar="stages|judges|engines|formats|recipes", help="What to list.")],
    as_json: AsJson = False,
) -> None:
    """List stages, judges, engines, formats or recipes with what they do and their settings."""
    from fucina.factory.errors import RecipeError, nearest
    from fucina.factory.plugins import KINDS

    if what == "recipes":
        _list_recipes(as_json=as_json)
        return
    if what not in KINDS:
        raise RecipeError(f"cannot list {what!r}", nearest(what, [*KINDS, "recipes"]))
    from fucina.factory.plugins import available, load

    found: list[dict[str, Any]] = []
    for name in available(KINDS[what]):
        try:
            plugin = load(KINDS[what], name)
        except ImportError as error:
            found.append({"name": name, "about": f"cannot be loaded: {error}", "settings": []})
            continue
        fields = [
            {"name": key, "default": _default(field), "about": field.description or ""}
            for key, field in plugin.model_fields.items()
        ]
        found.append({"name": name, "about": (plugin.__doc__ or "").strip().split("\n\n")[0], "settings": fields})
    if as_json:
        echo_json(found)
        return
    for entry in found:
        typer.echo(f"{entry['name']}: {' '.join(entry['about'].split())}")
        for setting in entry["settings"]:
            typer.echo(f"    {setting['name']} = {setting['default']}  {setting['about']}")


def _default(field: Any) -> str:
    if field.is_required():
        return "(required)"
    value = field.get_default(call_default_factory=True)
    return str(value.model_dump() if hasattr(value, "model_dump") else value)


def _list_recipes(*, as_json: bool) -> None:
    from fucina.factory.recipes import bundled, load_recipe

    recipes = [
        {"name": name, "about": " ".join(load_recipe(path).description.split()), "file": str(path)}
        for name, path in bundled().items()
    ]
    if as_json:
        echo_json(recipes)
        return
    for recipe in recipes:
        typer.echo(f"{recipe['name']}: {recipe['about']}\n    {recipe['file']}")


def trace(
    run: Run,
    row_id: Annotated[str, typer.Argument(help="row_id, prompt_id or candidate_id, or a unique beginning of it.")],
    as_json: AsJson = False,
) -> None:
    """Follow a row of any data set back to its source line, with every step."""
    from fucina.factory.trace import trace as follow

    found = follow(run, row_id)
    if as_json:
        echo_json(asdict(found))
        return
    own = f" (id {found.source_id})" if found.source_id else ""
    typer.echo(f"prompt {found.prompt_id}\nsource {found.source}, line {found.source_line}{own}")
    for step in found.steps:
        typer.echo(f"  {step.stage:<14} {step.outcome}")
        for name, value in step.changed.items():
            for line in _lines(name, value):
                typer.echo(f"      {line}")
    for row in found.rows:
        typer.echo(f"  → {row['dataset']:<12} row {row['row_id']}")


def _lines(name: str, value: Any) -> list[str]:
    """A changed column in words: candidates one a line with their verdicts, all else cut short."""
    if name != "candidates":
        return [f"{name}: {_short(value)}"]
    lines: list[str] = []
    for candidate in value:
        told = _short(candidate["response"] if candidate["error"] is None else f"error: {candidate['error']}")
        lines.append(f"{candidate['origin']} {candidate['candidate_id']}: {told}")
        verdicts = [_verdict(verdict) for verdict in candidate["verdicts"]]
        if verdicts:
            lines.append("    " + ", ".join(verdicts))
    return lines


def _verdict(verdict: dict[str, Any]) -> str:
    parts = [f"{verdict['judge']}.{verdict['aspect']}"]
    parts += [verdict["label"]] if verdict["label"] else []
    parts += [f"{verdict['score']:.3g}"] if verdict["score"] is not None else []
    parts += [f"error: {verdict['error']}"] if verdict["error"] else []
    return " ".join(parts)


def _short(value: Any, width: int = 100) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= width else text[: width - 1] + "…"


def report(run: Run) -> None:
    """Write the report of a run anew and say where it is."""
    from fucina.factory.report.page import write_report

    typer.echo(str(write_report(run)))


def doctor(as_json: AsJson = False) -> None:
    """Say what is installed, which engines can run here, what is missing and how to get it."""
    from fucina.factory.doctor import examine

    findings = examine()
    if as_json:
        echo_json([asdict(finding) for finding in findings])
        return
    rows = [("ok" if f.ok else "--", f.area, f.name, f.detail, f.fix) for f in findings]
    echo_table(rows, ("", "area", "what", "found", "how to get it"))
