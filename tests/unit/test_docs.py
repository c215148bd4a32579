"""What the documents show, runs: the judge of CONTRIBUTING.md, the recipes and commands of README.md."""

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from fucina.factory.cli.main import app
from fucina.factory.recipes import build_stages, load_recipe
from fucina.factory.stage import Context
from fucina.judges.base import Answer, Judge
from fucina.schemas.rows import Candidate
from tests.conftest import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def test_the_judge_of_contributing_judges() -> None:
    [code] = [block for block in blocks(ROOT / "CONTRIBUTING.md", "python") if "JUDGE = " in block]
    namespace: dict[str, object] = {"__name__": "shout"}
    exec(code, namespace)
    judge = namespace["JUDGE"]()  # type: ignore[operator]
    assert isinstance(judge, Judge)
    texts = ["ADESSO BASTA", "Va bene così.", "42"]
    answers = [
        Answer("p", None, (), "it", None, text, Candidate(candidate_id="c", origin="o", model="m", response=text))
        for text in texts
    ]
    labels = [(found.label, found.error) for [found] in judge.judge(answers, Context())]
    assert labels == [("fail", None), ("pass", None), (None, "no letters to judge")]


@pytest.mark.parametrize("block", blocks(ROOT / "README.md", "yaml"))
def test_the_recipes_of_the_readme_load(block: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(block, encoding="utf-8")
    assert build_stages(load_recipe(path), "README.md")


def commands() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for block in re.findall(r"```(?:sh|bash|console)?\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                text = line.strip().removeprefix("$ ").partition("  #")[0]
                if text.startswith("fucina "):
                    found.append((page.name, text))
    return found


@pytest.mark.parametrize(("page", "line"), commands())
def test_the_commands_of_the_documents_parse(page: str, line: str) -> None:
    """Names, arguments and options exist; nothing is run."""
    group = get_command(app)
    _, name, *arguments = shlex.split(line)
    command = group.commands[name]  # type: ignore[attr-defined]
    assert command.make_context(name, arguments, resilient_parsing=False).params


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target
