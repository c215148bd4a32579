"""What the commands share: settings from `--set`, progress, tables."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import typer

from fucina.factory.errors import RecipeError
from fucina.factory.progress import SILENT, Progress


def settings(pairs: Sequence[str]) -> dict[str, Any]:
    """`a=1`, `b.c=[x, y]` as a nested mapping; values are YAML.

    Raises:
        RecipeError: no `=`, or a setting that is both a value and a mapping.
    """
    import yaml

    result: dict[str, Any] = {}
    for pair in pairs:
        dotted, equals, raw = pair.partition("=")
        if not equals or not dotted:
            raise RecipeError(f"--set {pair}: expected key=value", "for example --set threshold=0.8")
        *parents, last = dotted.split(".")
        target = result
        for parent in parents:
            target = target.setdefault(parent, {})
            if not isinstance(target, dict):
                raise RecipeError(f"--set {pair}: {parent} already has a value", "set the whole of it instead")
        target[last] = yaml.safe_load(raw) if raw else None
    return result


def engine_specs(pairs: Sequence[str]) -> dict[str, dict[str, Any]]:
    """`teacher=replay:FILE#MODEL` as engine settings by role.

    Raises:
        RecipeError: no `=`.
    """
    specs: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        role, equals, address = pair.partition("=")
        if not equals:
            raise RecipeError(
                f"--engine {pair}: expected ROLE=ENGINE:ADDRESS", "for example --engine scorer=nano:large"
            )
        engine, _, rest = address.partition(":")
        specs[role] = {"engine": engine, "address": rest}
    return specs


def progress_for(*, quiet: bool) -> Progress:
    """Bars for people, nothing for scripts."""
    if quiet:
        return SILENT
    from fucina.factory.console import Console

    return Console()


def echo_json(value: Any) -> None:
    """Print a value for a script."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=1, default=str))


def echo_table(rows: Iterable[Sequence[Any]], header: Sequence[str]) -> None:
    """Print aligned columns; numbers to the right."""
    table = [[_cell(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(header), *table]) for i in range(len(header))]
    numeric = [bool(table) and all(_is_number(row[i]) for row in table) for i in range(len(header))]
    for row in [list(header), *table]:
        cells = [c.rjust(w) if number else c.ljust(w) for c, w, number in zip(row, widths, numeric, strict=True)]
        typer.echo("  ".join(cells).rstrip())


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:,.2f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _is_number(text: str) -> bool:
    return text == "" or text.replace(",", "").replace(".", "").replace("-", "").isdigit()


def reasons_text(reasons: Mapping[str, int]) -> str:
    """`duplicate 3, language 2`."""
    return ", ".join(f"{reason} {count}" for reason, count in reasons.items())


def echo_evaluation(evaluation: Mapping[str, Any]) -> None:
    """Print the evaluation table."""
    rows = [
        (
            model["name"],
            _figure(model["nll"]),
            _against(model["nll_against_base"]),
            _figure(model["preference"]),
            _against(model["preference_against_base"]),
        )
        for model in evaluation["models"]
    ]
    echo_table(rows, ("model", "held-out NLL ± se", "against base", "prefers chosen ± se", "against base"))


def _figure(figure: Mapping[str, Any] | None) -> str | None:
    if figure is None:
        return None
    return f"{figure['mean']:.3f}" + ("" if figure["se"] is None else f" ± {figure['se']:.3f}")


def _against(comparison: Mapping[str, Any] | None) -> str | None:
    return None if comparison is None else f"{comparison['difference']['mean']:+.4f} {comparison['outcome']}"
