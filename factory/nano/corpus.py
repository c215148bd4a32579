"""The text nano models learn from: the Italian prompts that come with Fucina and their good answers."""

import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from fucina.factory.errors import InputError
from fucina.factory.hashing import content_id
from fucina.schemas.base import Record

_GOOD = "maestro"
_SHELF = "fucina.pipelines"


class Conversation(Record):
    """A user's turn and the assistant's."""

    prompt: str
    answer: str


class Corpus(Record):
    """Conversations to learn from, and conversations never learnt from."""

    train: list[Conversation]
    test: list[Conversation]

    def digest(self) -> str:
        """Content address of both parts."""
        return content_id(self.model_dump())


def bundled_seeds() -> Path:
    """Folder of the prompts and answers that come with Fucina."""
    return Path(str(files(_SHELF))) / "seeds"


def load_corpus(folder: Path) -> Corpus:
    """The good answers of `answers.jsonl`, each after its prompt in `prompts.jsonl`, in the order of the answers.

    Prompts without a good answer, and answers of other models, are not part of it.

    Raises:
        InputError: a file is missing or unreadable, an answer belongs to no prompt, or nothing is there to train on.
    """
    prompts = {row["prompt_id"]: row for row in _rows(folder / "prompts.jsonl", ("prompt_id", "prompt", "split"))}
    parts: dict[str, list[Conversation]] = {"train": [], "test": []}
    for row in _rows(folder / "answers.jsonl", ("prompt_id", "model", "response")):
        if row["model"] != _GOOD:
            continue
        prompt = prompts.get(row["prompt_id"])
        if prompt is None:
            raise InputError(f"answers.jsonl answers {row['prompt_id']!r}, which prompts.jsonl does not have")
        if prompt["split"] not in parts:
            raise InputError(f"prompts.jsonl: {row['prompt_id']!r} has split {prompt['split']!r}, not train or test")
        parts[prompt["split"]].append(Conversation(prompt=prompt["prompt"], answer=row["response"]))
    if not parts["train"]:
        raise InputError(
            f"{folder} holds no training answer of {_GOOD!r}", "install Fucina again: its seeds are damaged"
        )
    return Corpus(**parts)


def _rows(path: Path, keys: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Rows of a JSONL file that have every one of `keys` as text."""
    if not path.is_file():
        raise InputError(f"no {path.name} in {path.parent}", "install Fucina again: its seeds are missing")
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{path.name}:{number}: not JSON: {error.msg}") from error
        missing = [key for key in keys if not isinstance(row, dict) or not isinstance(row.get(key), str)]
        if missing:
            raise InputError(f"{path.name}:{number}: no text in {', '.join(missing)}")
        yield row
