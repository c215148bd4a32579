"""A recipe: the whole story of a run in one YAML file, read top to bottom."""

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from fucina.schemas.base import Record


class Step(Record):
    """A stage or a judge by name, with its own settings."""

    name: str
    config: dict[str, Any] = Field(default_factory=dict[str, Any])

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        """`repair` and `repair: {field: prompt}` both name a step."""
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, dict) and len(value) == 1 and "name" not in value:
            [(name, config)] = value.items()
            return {"name": name, "config": config or {}}
        return value


StepName = Literal["sft", "dpo", "kto", "sft_kto"]


class Training(Record):
    """The compact stage: which models are trained from the run's sets, fused and evaluated."""

    base: str = Field(description="an engine of the recipe whose model is trained, or a model folder or Hub id")
    steps: list[StepName] = Field(["sft", "kto", "sft_kto"], description="models to train")
    fuse: list[StepName] = Field(default_factory=list[StepName], description="models to average; empty: no fusion")
    evaluate: bool = True
    sft: dict[str, Any] = Field(default_factory=dict[str, Any], description="settings of train/options.py, SftOptions")
    dpo: dict[str, Any] = Field(default_factory=dict[str, Any], description="settings of train/options.py, DpoOptions")
    kto: dict[str, Any] = Field(default_factory=dict[str, Any], description="settings of train/options.py, KtoOptions")

    @model_validator(mode="after")
    def _fuses_what_it_trains(self) -> Self:
        missing = sorted(set(self.fuse) - set(self.steps))
        if missing:
            raise ValueError(f"fuse names {missing}, which steps does not train")
        return self


class Recipe(Record):
    """Prompts in, data sets and models out."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    description: str = ""
    language: str = Field("it", description="ISO 639-1 code the answers must be in")
    seed: int = 17
    license: str = Field("apache-2.0", description="Hub licence tag of the data sets this recipe makes")
    engines: dict[str, dict[str, Any]] = Field(
        default_factory=dict[str, dict[str, Any]],
        description="role → `{engine: …, settings}`, or the short form `engine:model`",
    )
    stages: list[Step]
    formats: dict[str, dict[str, Any]] = Field(default_factory=dict[str, dict[str, Any]])
    train: Training | None = None

    @field_validator("engines", mode="before")
    @classmethod
    def _engine_addresses(cls, value: Any) -> Any:
        """`teacher: vllm:Qwen/Qwen2.5-7B-Instruct` is `{engine: vllm, address: Qwen/…}`."""
        if not isinstance(value, dict):
            return value
        engines: dict[str, Any] = {}
        for role, spec in value.items():
            if isinstance(spec, str):
                engine, _, address = spec.partition(":")
                spec = {"engine": engine, "address": address}  # noqa: PLW2901
            engines[str(role)] = spec
        return engines

    @field_validator("formats", mode="before")
    @classmethod
    def _format_names(cls, value: Any) -> Any:
        """A list of names means their defaults."""
        if isinstance(value, list):
            return {str(name): {} for name in value}
        return value

    @model_validator(mode="after")
    def _starts_with_a_source(self) -> Self:
        if not self.stages:
            raise ValueError("a recipe needs at least one stage")
        return self
