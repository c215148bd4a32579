"""Recorded answers, played back from a file: for demos, tests, and sets whose answers somebody else generated."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

from pydantic import Field, PrivateAttr

from fucina.factory.errors import InputError
from fucina.factory.frames import suffix_of
from fucina.factory.hashing import file_digest
from fucina.factory.sources import Reject, read_file
from fucina.schemas.base import Record
from fucina.schemas.generation import EngineCard, GenerationRequest, GenerationResult

_MAX_ROW_BYTES = 10_000_000


class ReplayEngine(Record):
    """Plays back `response` of the record whose `prompt_id` is the row's own id, or else whose `prompt` is its prompt.

    The file holds `prompt_id` or `prompt`, `model`, `response`, and perhaps `finish_reason`. A prompt without a
    record is an error result. Short form: `replay:FILE#MODEL`.
    """

    path: str = Field(description="JSONL, CSV or Parquet file of recorded answers, .gz too")
    model: str = Field(description="play back the records of this model")
    note: str | None = Field(None, description="where the answers come from, for the report and the cards")
    _by_id: dict[str, tuple[str, str]] = PrivateAttr(default_factory=dict[str, tuple[str, str]])
    _by_prompt: dict[str, tuple[str, str]] = PrivateAttr(default_factory=dict[str, tuple[str, str]])
    _digest: str = PrivateAttr(default="")

    @classmethod
    def at(cls, address: str, **settings: Any) -> Self:
        """`FILE#MODEL`."""
        path, _, model = address.partition("#")
        return cls.model_validate({"path": path, "model": model, **settings})

    def card(self) -> EngineCard:
        """The recorded model; its revision is the digest of the file."""
        if not self._digest:
            path = Path(self.path)
            if not path.is_file():
                raise InputError(f"{self.path}: no such file of recorded answers", "check `path` of the replay engine")
            self._digest = file_digest(path)
        return EngineCard(engine="replay", model=self.model, revision=self._digest, notes=self.note)

    def generate(self, requests: Iterable[GenerationRequest]) -> Iterator[GenerationResult]:
        """One result a request, in order."""
        self._load()
        for request in requests:
            by_id = None if request.source_id is None else self._by_id.get(request.source_id)
            found = by_id or self._by_prompt.get(request.messages[-1].content)
            if found is None:
                error = f"no recorded answer of {self.model} for {request.source_id or request.prompt_id}"
                yield GenerationResult(request_id=request.request_id, finish_reason="error", error=error)
            else:
                response, finish = found
                yield GenerationResult.model_validate(
                    {"request_id": request.request_id, "response": response, "finish_reason": finish}
                )

    def close(self) -> None:
        """Nothing is held open."""

    def _load(self) -> None:
        """Read the records of this model once.

        Raises:
            InputError: a record that is no answer, two records for one prompt, or none of this model.
        """
        if self._by_id or self._by_prompt:
            return
        path = Path(self.path)
        suffix_of(path)
        models: set[str] = set()
        for record in read_file(path, _MAX_ROW_BYTES):
            if isinstance(record, Reject):
                raise InputError(f"{path.name}, line {record.line}: {record.reason}", "mend or remove that line")
            fields = record.fields
            models.add(str(fields.get("model")))
            if fields.get("model") != self.model:
                continue
            response = fields.get("response")
            if not isinstance(response, str):
                raise InputError(f"{path.name}, line {record.line}: field 'response' must be text", "mend that line")
            self._keep(path.name, record.line, fields, (response, str(fields.get("finish_reason") or "unknown")))
        if not (self._by_id or self._by_prompt):
            raise InputError(
                f"{path.name} has no answers of model {self.model!r}", f"it has {', '.join(sorted(models))}"
            )

    def _keep(self, name: str, line: int, fields: dict[str, Any], answer: tuple[str, str]) -> None:
        key, table = fields.get("prompt_id"), self._by_id
        if key is None:
            key, table = fields.get("prompt"), self._by_prompt
        if key is None:
            raise InputError(f"{name}, line {line}: neither 'prompt_id' nor 'prompt'", "say which prompt was answered")
        if str(key) in table and table[str(key)] != answer:
            raise InputError(f"{name}, line {line}: a second answer of {self.model} to {key}", "keep one of them")
        table[str(key)] = answer


ENGINE = ReplayEngine
