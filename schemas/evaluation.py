"""What held-out rows say about models: figures with standard errors, and no claim beyond them."""

from typing import Literal

from pydantic import Field

from fucina.schemas.base import Record

Outcome = Literal["better", "worse", "within noise"]


class Figure(Record):
    """A mean over rows."""

    mean: float
    se: float | None = Field(None, description="standard error of the mean; null for a single row")
    n: int = Field(ge=1, description="rows")


class Comparison(Record):
    """A model against the base on the same rows. Paired: what the rows have in common cancels out."""

    difference: Figure = Field(description="mean over rows of model minus base")
    low: float | None = Field(None, description="lower end of the 95 % interval of the difference (Student's t)")
    high: float | None = Field(None, description="upper end")
    outcome: Outcome = Field(description="`within noise` unless the interval leaves out zero, and below 5 rows")


class ModelEvaluation(Record):
    """One model's figures."""

    name: str
    digest: str = Field(description="hash of the model's files, or its Hub commit")
    nll: Figure | None = Field(
        None, description="nats per answer token on held-out SFT rows, mean of the rows' means; lower is better"
    )
    preference: Figure | None = Field(
        None,
        description="lm-eval's acc_norm on held-out pairs: share in which the chosen answer is likelier a character",
    )
    preference_raw: Figure | None = Field(None, description="lm-eval's acc: likelier as a whole, which favours short")
    nll_against_base: Comparison | None = Field(None, description="null for the base itself")
    preference_against_base: Comparison | None = Field(None, description="null for the base itself")


class Evaluation(Record):
    """`evaluation.json`: models of one tokenizer on the same held-out rows."""

    key: str = Field(description="hash of the models' digests, the rows and the version")
    base: str = Field(description="the model the others are compared with")
    language: str
    models: list[ModelEvaluation]
    notes: list[str] = Field(default_factory=list[str], description="rows left out, sets that were not there")
    seconds: float
    packages: dict[str, str]
