"""Build a nano model once, and find it again: `<home>/nano/<size>-<key>`."""

import fcntl
import importlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from fucina.factory.errors import MissingExtraError
from fucina.factory.hashing import content_id
from fucina.factory.nano.config import SIZES, Size
from fucina.factory.nano.corpus import Corpus, bundled_seeds, load_corpus
from fucina.factory.progress import SILENT, Progress

_RECIPE = "1"  # part of the address: raise it when the code of this package changes what is built


def content_key(size: Size, corpus: Corpus) -> str:
    """Address of a nano model: its text, its configuration, and the libraries that do the arithmetic."""
    return content_id(
        {
            "recipe": _RECIPE,
            "corpus": corpus.digest(),
            "config": SIZES[size].model_dump(),
            "torch": _version("torch"),
            "transformers": _version("transformers"),
        }
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError as error:
        raise MissingExtraError(package, "train", "a nano model") from error


def default_home() -> Path:
    """$FUCINA_HOME, or `~/.cache/fucina`."""
    chosen = os.environ.get("FUCINA_HOME")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "fucina"


def build(size: Size, home: Path | None = None, progress: Progress = SILENT) -> Path:
    """Folder of the nano model, trained now if it is not there yet (about a minute of one core for `large`).

    It loads with AutoModelForCausalLM and AutoTokenizer. A second process that asks meanwhile waits for the first.

    Raises:
        InputError: the bundled seeds are missing or damaged.
    """
    corpus = load_corpus(bundled_seeds())
    shelf = (home or default_home()) / "nano"
    target = shelf / f"{size}-{content_key(size, corpus)}"
    if target.is_dir():
        return target
    shelf.mkdir(parents=True, exist_ok=True)
    with _lock(shelf / f".{target.name}.lock"):
        if not target.is_dir():
            partial = shelf / f".{target.name}.partial"
            shutil.rmtree(partial, ignore_errors=True)  # what a killed build left; the lock says nobody writes it
            with progress.task(f"nano model {size}", SIZES[size].steps, "steps") as advance:
                # torch takes seconds to import; a card, or a model that is there, needs none of it.
                writing = importlib.import_module("fucina.factory.nano.writing")
                writing.write_model(partial, size, SIZES[size], corpus, advance)
            partial.rename(target)
    return target


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Wait until no other process holds `path`; the lock dies with its process."""
    with path.open("w", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
