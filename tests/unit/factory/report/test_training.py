import shutil

import pytest

from fucina.factory.report.page import write_report
from fucina.factory.report.training import POINTS, curve, read_training
from fucina.factory.rundir import RunDirectory
from fucina.schemas.evaluation import Evaluation, Figure, ModelEvaluation
from fucina.train.compare import compare, figure
from fucina.train.record import TrainedModel

BASE = [3.0, 3.2, 2.9, 3.1, 3.3, 3.0]


def evaluated(name: str, losses: list[float]) -> ModelEvaluation:
    """A model whose held-out rows have these losses."""
    return ModelEvaluation(
        name=name, digest="d", nll=figure(losses), preference=Figure(mean=0.5, se=0.1, n=6),
        nll_against_base=None if name == "base" else compare(losses, BASE, lower_is_better=True),
    )  # fmt: skip


@pytest.fixture
def trained(finished, tmp_path) -> RunDirectory:
    """A run with a trained model and an evaluation, as train/ would have left them."""
    run = RunDirectory(shutil.copytree(finished.path, tmp_path / "run"))
    record = TrainedModel(
        method="sft", key="k", base="nano", base_digest="b", data="sft/train.parquet", data_digest="x", rows=4,
        rows_trained=4, options={}, device="cpu, fp32", steps=300, tokens=900, seconds=2.5, final_loss=1.25,
        log=[{"loss": 4.0 - index / 100, "step": index + 1} for index in range(300)], notes=["1 row is cut"],
        packages={},
    )  # fmt: skip
    folder = run.models / "sft-k"
    folder.mkdir(parents=True)
    (folder / "training.json").write_text(record.model_dump_json())
    models = [evaluated("base", BASE), evaluated("sft", [loss - 1 - loss / 50 for loss in BASE])]
    models.append(evaluated("kto", [3.1, 3.1, 3.0, 3.1, 3.2, 3.1]))
    evaluation = Evaluation(
        key="e", base="base", language="it", models=models, notes=["<b>2 pairs</b> left out"], seconds=1, packages={}
    )
    run.write_manifest(
        run.manifest().model_copy(
            update={
                "training": {
                    "base": {"model": "nano", "digest": "b"},
                    "models": {"sft": {"folder": "models/sft-k", **record.model_dump(exclude={"log", "packages"})}},
                    "fused": {"models": ["sft-k", "kto-k"]},
                    "evaluation": evaluation.model_dump(exclude={"packages"}),
                }
            }
        )
    )
    return run


def test_outcomes_are_the_evaluations_own(trained):
    found = read_training(trained.path, trained.manifest().training)
    assert found is not None
    assert found.nll is not None
    assert [(row.name, row.outcome) for row in found.nll.rows] == [("sft", "better"), ("kto", "within noise")]
    assert found.better == 1
    assert found.nll.axis.low <= min(row.low or 0 for row in found.nll.rows) < 0 <= found.nll.axis.high
    assert found.preference is None, "no model was compared on pairs"


def test_the_page_shows_models_and_escapes_their_notes(trained):
    page = write_report(trained.path).read_text(encoding="utf-8")
    for part in (
        "1 of 2 models predict held-out answers better than the base", "3.0833", "within noise", "final loss 1.25",
        "“fused” is the mean of the weights of sft, kto-k", "&lt;b&gt;2 pairs&lt;/b&gt; left out", "1 row is cut",
        "Each point is the mean of 3 updates", "2.5 s of training",
    ):  # fmt: skip
        assert part in page, part


def test_a_model_that_was_deleted_has_no_curve(trained):
    shutil.rmtree(trained.models)
    found = read_training(trained.path, trained.manifest().training)
    assert found is not None
    assert found.trained[0].curve is None
    assert "not in the run directory any more" in write_report(trained.path).read_text(encoding="utf-8")


def test_training_without_evaluation(trained):
    manifest = trained.manifest()
    assert manifest.training is not None
    training = {**manifest.training, "evaluation": None, "fused": None}
    trained.write_manifest(manifest.model_copy(update={"training": training}))
    assert "1 model trained from nano" in write_report(trained.path).read_text(encoding="utf-8")


def test_long_curves_are_means_of_windows():
    found = curve([float(number) for number in range(1_000)])
    assert found is not None
    assert len(found.points) <= POINTS
    assert found.points[0] == (5, 4)
    assert curve([1.0]) is None
