"""The report of a run: one HTML file that opens without a network."""

import base64
import hashlib
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from fucina.factory.frames import write_atomic
from fucina.factory.report import charts, wording
from fucina.factory.report.card import recipe_yaml
from fucina.factory.report.facts import Facts, read_facts

_TEMPLATES = Path(__file__).parent / "templates"


def write_report(run: Path) -> Path:
    """Write `report.html` into a run directory and return its path.

    Raises:
        InputError: not a run directory.
        RunError: a stage's folder is gone, or its counts do not add up.
    """
    path = run / "report.html"
    write_atomic(path, render(read_facts(run)).encode())
    return path


def render(facts: Facts) -> str:
    """The page. Every text of the run is escaped, and a policy in the page allows its one script and nothing else."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        count=wording.count, short=wording.short, percent=wording.percent, duration=wording.duration
    )
    environment.globals.update(
        score_chart=charts.score_chart,
        scatter_chart=charts.scatter_chart,
        ratio_chart=charts.ratio_chart,
        whisker_chart=charts.whisker_chart,
        curve_chart=charts.curve_chart,
    )
    script = (_TEMPLATES / "filter.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("page.html.jinja").render(
        facts=facts,
        recipe_yaml=recipe_yaml(facts.manifest),
        script=Markup(script),  # noqa: S704 - our own file
        script_hash=f"sha256-{digest}",
    )
