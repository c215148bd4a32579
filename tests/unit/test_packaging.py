"""The package list is the folders on disk, the links point home, and starting the command line loads nothing heavy."""

import subprocess
import sys
import tomllib
from importlib.resources import files

import pytest

from tests.conftest import ROOT

FOLDERS = ("factory", "judges", "pipelines", "schemas", "train")
HEAVY = (
    "torch", "transformers", "vllm", "trl", "distilabel", "argilla", "mergekit", "lm_eval", "ray", "datasets", "polars",
)  # fmt: skip


def test_every_package_is_listed() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = set(config["tool"]["setuptools"]["packages"])
    on_disk = {
        "fucina." + ".".join(path.parent.relative_to(ROOT).parts)
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("__init__.py")
    }
    assert listed == on_disk


@pytest.mark.parametrize("folder", FOLDERS)
def test_links_point_at_the_folders(folder: str) -> None:
    assert (ROOT / ".links" / "fucina" / folder).resolve() == ROOT / folder


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["stage", "--help"], ["train", "--help"]])
def test_help_is_light(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom fucina.factory.cli.main import app\n"
        f"try:\n    app({arguments!r})\nexcept SystemExit:\n    pass\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert "Usage" in done.stdout
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(
    ("package", "resource"),
    [
        ("fucina.pipelines", "recipes/demo.yaml"),
        ("fucina.pipelines", "seeds/prompts.jsonl"),
        ("fucina.pipelines.stages", "task_types.yaml"),
        ("fucina.factory.report", "templates/page.html.jinja"),
    ],
)
def test_resources_are_found(package: str, resource: str) -> None:
    assert files(package).joinpath(resource).is_file()
