"""What a recipe may train from."""

from pathlib import Path

import pytest

from fucina.factory.engines.base import EngineBook
from fucina.factory.errors import RecipeError
from fucina.factory.job import base_model


def test_base_is_a_role_with_weights_or_a_folder(tmp_path: Path) -> None:
    answers = tmp_path / "a.jsonl"
    answers.write_text('{"prompt_id": "1", "model": "m", "response": "x"}\n', encoding="utf-8")
    (tmp_path / "model").mkdir()
    engines = EngineBook(
        {
            "teacher": {"engine": "replay", "path": str(answers), "model": "m"},
            "student": {"engine": "transformers", "model": str(tmp_path / "model")},
        }
    )
    assert base_model(engines, "student") == tmp_path / "model"
    assert base_model(engines, "Qwen/Qwen2.5-0.5B") == Path("Qwen/Qwen2.5-0.5B")
    with pytest.raises(RecipeError, match="train.base: engine 'replay' has no model"):
        base_model(engines, "teacher")
