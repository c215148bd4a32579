"""Recognise the shape of a record: Alpaca, ShareGPT, messages, prompt/completion, question/answer, text.

Each shape reads its fields strictly; what is left over is metadata. The order of the table matters: the first
shape whose key field is there is the one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fucina.schemas.rows import Message

_ROLES = {
    "human": "user", "user": "user", "prompter": "user", "gpt": "assistant", "assistant": "assistant",
    "model": "assistant", "chatgpt": "assistant", "bot": "assistant", "system": "system",
}  # fmt: skip
_SOURCE_IDS = ("prompt_id", "id", "idx", "uuid", "source_id")


@dataclass(frozen=True)
class Shaped:
    """A record in our terms."""

    prompt: str
    response: str | None = None
    system: str | None = None
    history: list[Message] = field(default_factory=list[Message])
    used: frozenset[str] = frozenset()
    homes: Mapping[str, str] = field(default_factory=dict[str, str])
    """Our column → the one source field it was read from."""


class ShapeError(Exception):
    """Why a record fits no shape; the text is the reject reason."""


def shape_of(fields: Mapping[str, Any]) -> Shaped:
    """Read a record.

    Raises:
        ShapeError: no known shape, a missing field or one of the wrong type.
    """
    for key, read in _SHAPES:
        if key in fields:
            return read(fields)
    raise ShapeError(
        "missing field: none of prompt, messages, conversations, instruction, question, text; "
        f"the record has {', '.join(sorted(fields)) or 'no fields'}"
    )


def source_id_of(fields: Mapping[str, Any]) -> str | None:
    """The record's own id, if it has one."""
    for name in _SOURCE_IDS:
        value = fields.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool):
            return str(value)
    return None


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if value is None:
        raise ShapeError(f"missing field: {name!r}")
    if not isinstance(value, str):
        raise ShapeError(f"wrong type: field {name!r} must be text, it is a {type(value).__name__}")
    if not value.strip():
        raise ShapeError(f"empty field: {name!r}")
    return value


def _optional(fields: Mapping[str, Any], *names: str) -> tuple[str | None, frozenset[str]]:
    """The first of `names` that holds text, and which fields were used."""
    for name in names:
        value = fields.get(name)
        if value is None:
            continue
        if not isinstance(value, str):
            raise ShapeError(f"wrong type: field {name!r} must be text, it is a {type(value).__name__}")
        return (value if value.strip() else None), frozenset({name})
    return None, frozenset()


def _prompt(fields: Mapping[str, Any]) -> Shaped:
    """`prompt`, maybe with `completion`, `response`, `answer` or `chosen`; conversational prompts too."""
    if isinstance(fields["prompt"], list):
        turns = _turns(fields["prompt"], "prompt", "role", "content")
        if isinstance(fields.get("completion"), list):
            turns += _turns(fields["completion"], "completion", "role", "content")
        return _conversation(turns, frozenset({"prompt", "completion"}) & frozenset(fields))
    response, used = _optional(fields, "response", "completion", "answer", "output")
    system, used_system = _optional(fields, "system", "system_prompt")
    homes = _homes(prompt=frozenset({"prompt"}), response=used, system=used_system)
    return Shaped(_text(fields, "prompt"), response, system, used=used | used_system | {"prompt"}, homes=homes)


def _alpaca(fields: Mapping[str, Any]) -> Shaped:
    """`instruction`, maybe with `input`, `output` and `system`."""
    instruction = _text(fields, "instruction")
    extra, used_input = _optional(fields, "input")
    response, used = _optional(fields, "output", "response")
    system, used_system = _optional(fields, "system")
    prompt = instruction if extra is None else f"{instruction}\n\n{extra}"
    homes = _homes(prompt=frozenset({"instruction"}), response=used, system=used_system, whole=extra is None)
    return Shaped(prompt, response, system, used=used | used_input | used_system | {"instruction"}, homes=homes)


def _question(fields: Mapping[str, Any]) -> Shaped:
    """`question`, maybe with `context` and `answer` or `response`."""
    question = _text(fields, "question")
    context, used_context = _optional(fields, "context")
    response, used = _optional(fields, "answer", "response")
    prompt = question if context is None else f"{context}\n\n{question}"
    homes = _homes(prompt=frozenset({"question"}), response=used, whole=context is None)
    return Shaped(prompt, response, used=used | used_context | {"question"}, homes=homes)


def _plain(fields: Mapping[str, Any]) -> Shaped:
    return Shaped(_text(fields, "text"), used=frozenset({"text"}), homes={"prompt": "text"})


def _homes(*, whole: bool = True, **columns: frozenset[str]) -> dict[str, str]:
    """Columns read from exactly one field; a prompt put together from two has no home."""
    return {
        column: next(iter(names))
        for column, names in columns.items()
        if len(names) == 1 and (whole or column != "prompt")
    }


def _messages(fields: Mapping[str, Any]) -> Shaped:
    return _conversation(_turns(fields["messages"], "messages", "role", "content"), frozenset({"messages"}))


def _sharegpt(fields: Mapping[str, Any]) -> Shaped:
    system, used = _optional(fields, "system")
    shaped = _conversation(_turns(fields["conversations"], "conversations", "from", "value"), used | {"conversations"})
    return shaped if system is None else replace(shaped, system=system)


def _turns(value: Any, name: str, role_key: str, text_key: str) -> list[Message]:
    if not isinstance(value, list) or not value:
        raise ShapeError(f"wrong type: field {name!r} must be a list of turns")
    turns: list[Message] = []
    for position, turn in enumerate(value, 1):
        if not isinstance(turn, Mapping):
            raise ShapeError(f"wrong type: turn {position} of {name!r} must be an object")
        role, text = turn.get(role_key, turn.get("role")), turn.get(text_key, turn.get("content"))
        if role not in _ROLES or not isinstance(text, str):
            raise ShapeError(
                f"wrong type: turn {position} of {name!r} needs a known {role_key!r} and text in {text_key!r}"
            )
        turns.append(Message.model_validate({"role": _ROLES[role], "content": text}))
    return turns


def _conversation(turns: list[Message], used: frozenset[str]) -> Shaped:
    """Split turns into system, history, last prompt and its answer."""
    system = turns[0].content if turns[0].role == "system" else None
    turns = turns[1:] if system is not None else turns
    response = turns[-1].content if turns and turns[-1].role == "assistant" else None
    turns = turns[:-1] if response is not None else turns
    if not turns or turns[-1].role != "user" or not turns[-1].content.strip():
        raise ShapeError("missing field: the conversation has no last user turn")
    return Shaped(turns[-1].content, response, system, turns[:-1], used)


_SHAPES: list[tuple[str, Callable[[Mapping[str, Any]], Shaped]]] = [
    ("messages", _messages),
    ("conversations", _sharegpt),
    ("prompt", _prompt),
    ("instruction", _alpaca),
    ("question", _question),
    ("text", _plain),
]
