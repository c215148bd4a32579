"""The shapes records come in, and what is said about those that fit none."""

from typing import Any

import pytest

from fucina.factory.shapes import Shaped, ShapeError, shape_of, source_id_of


def parts(shaped: Shaped) -> tuple[str | None, list[tuple[str, str]], str, str | None]:
    return shaped.system, [(turn.role, turn.content) for turn in shaped.history], shaped.prompt, shaped.response


TURNS = [
    ("system", "Sei breve."),
    ("user", "Ciao"),
    ("assistant", "Salve"),
    ("user", "Come va?"),
    ("assistant", "Bene."),
]
LONG = ("Sei breve.", [("user", "Ciao"), ("assistant", "Salve")], "Come va?", "Bene.")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"prompt": "P"}, (None, [], "P", None)),
        ({"prompt": "P", "completion": "R"}, (None, [], "P", "R")),
        ({"prompt": "P", "response": "R", "system": "S"}, ("S", [], "P", "R")),
        ({"instruction": "I", "input": "dati", "output": "O"}, (None, [], "I\n\ndati", "O")),
        ({"instruction": "I", "input": "", "output": "O"}, (None, [], "I", "O")),
        ({"question": "Q", "answer": "A"}, (None, [], "Q", "A")),
        ({"question": "Q", "context": "C"}, (None, [], "C\n\nQ", None)),
        ({"text": "T"}, (None, [], "T", None)),
        ({"messages": [{"role": r, "content": c} for r, c in TURNS]}, LONG),
        ({"conversations": [{"from": r, "value": c} for r, c in TURNS]}, LONG),
        (
            {"conversations": [{"from": "human", "value": "Ciao"}, {"from": "gpt", "value": "Salve"}]},
            (None, [], "Ciao", "Salve"),
        ),
        (
            {
                "prompt": [{"role": "user", "content": "Ciao"}],
                "completion": [{"role": "assistant", "content": "Salve"}],
            },
            (None, [], "Ciao", "Salve"),
        ),
    ],
)
def test_shapes(fields: dict[str, Any], expected: object) -> None:
    assert parts(shape_of(fields)) == expected


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"titolo": "x"}, "missing field: none of prompt"),
        ({"prompt": 7}, "wrong type: field 'prompt' must be text, it is a int"),
        ({"prompt": None}, "missing field: 'prompt'"),
        ({"prompt": "  "}, "empty field: 'prompt'"),
        ({"prompt": "P", "response": ["R"]}, "wrong type: field 'response' must be text, it is a list"),
        ({"messages": "ciao"}, "wrong type: field 'messages' must be a list of turns"),
        ({"messages": [{"role": "assistant", "content": "Salve"}]}, "no last user turn"),
        ({"messages": [{"role": "wizard", "content": "Ciao"}]}, "turn 1 of 'messages' needs a known 'role'"),
        ({"conversations": [{"from": "human", "value": 3}]}, "turn 1 of 'conversations'"),
    ],
)
def test_rejects_say_which_field(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ShapeError, match=reason.replace("(", r"\(")):
        shape_of(fields)


def test_homes_lead_back_to_the_source_field() -> None:
    assert shape_of({"text": "T"}).homes == {"prompt": "text"}
    assert shape_of({"instruction": "I", "output": "O"}).homes == {"prompt": "instruction", "response": "output"}
    assert "prompt" not in shape_of({"instruction": "I", "input": "x"}).homes


def test_source_ids() -> None:
    assert source_id_of({"id": 7}) == "7"
    assert source_id_of({"prompt_id": "p", "id": 7}) == "p"
    assert source_id_of({"id": True}) is None
