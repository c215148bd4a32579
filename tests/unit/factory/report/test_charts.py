from xml.etree import ElementTree as ET

import polars as pl
import pytest

from fucina.factory.report.axes import Axis, linear_axis
from fucina.factory.report.charts import curve_chart, element, ratio_chart, scatter_chart, score_chart, whisker_chart
from fucina.factory.report.scores import ScorePanel, Strip, lengths
from fucina.factory.report.training import Whisker, Whiskers, curve

STRIP = Strip("<teacher>", 6, 1.5, 0, 0, 2, {"chosen": (1, 0, 2), "rejected": (0, 1, 0), "unused": (0, 0, 0)})


def parts(svg: str, tag: str) -> list[ET.Element]:
    """Elements of a drawing; parsing fails where a text was not escaped."""
    return list(ET.fromstring(svg).iter(tag))


def test_element_escapes_children_and_attributes():
    made = element("text", "<b>", x=1 / 3, class_='"', aria_label="a&b")
    assert made == '<text x="0.33" class="&#34;" aria-label="a&amp;b">&lt;b&gt;</text>'


def test_scores_are_stacked_by_fate():
    panel = ScorePanel("rules", "x", "words", None, linear_axis(0, 3), (STRIP,))
    drawn = score_chart(panel)
    paths = {path.get("class"): str(path.get("d")) for path in parts(drawn, "path")}
    assert set(paths) == {"chosen", "rejected"}, "a fate without answers draws nothing"
    assert paths["chosen"].count("M") == 2
    texts = ["".join(text.itertext()) for text in parts(drawn, "text")]
    assert texts[0] == "<teacher>6 answers, median 1.5, tallest bar 2; 2 above the axis"
    assert "words" in texts


def test_pairs_are_drawn_once_each():
    frame = pl.DataFrame(
        {"prompt_id": list("aabb"), "fate": ["chosen", "rejected"] * 2, "chars": [90, 30, 5, 50], "error": [False] * 4}
    )
    found = lengths(frame, None, seed=1)
    assert found is not None
    dots = [(float(dot.get("cx", "")), float(dot.get("cy", ""))) for dot in parts(scatter_chart(found), "circle")]
    assert len(dots) == 2
    bars = {bar.get("class") for bar in parts(ratio_chart(found), "rect")}
    assert bars == {"chosen", "rejected"}


def test_whiskers_span_the_interval_and_a_difference_without_one_is_a_dot():
    rows = (
        Whisker("sft", -0.4, -0.6, -0.2, "better"),
        Whisker("kto", 0.1, -0.1, 0.3, "within noise"),
        Whisker("dpo", 0.2, None, None, "within noise"),
    )
    svg = whisker_chart(Whiskers(rows, Axis(-0.6, 0.4, ())), "nats per token")
    lines = [line for line in parts(svg, "line") if str(line.get("class")).startswith("whisker")]
    assert [line.get("class") for line in lines] == ["whisker better", "whisker within-noise"]
    widths = [float(line.get("x2", "")) - float(line.get("x1", "")) for line in lines]
    assert widths == pytest.approx([0.4 * 420, 0.4 * 420], abs=0.1)
    assert len(parts(svg, "circle")) == 3
    [zero] = [line for line in parts(svg, "line") if line.get("class") == "reference"]
    assert float(zero.get("x1", "")) == pytest.approx(0.6 * 420, abs=0.1)


def test_a_falling_loss_falls_on_the_page():
    falling = curve([4.0, 2.0])
    assert falling is not None
    [line] = parts(curve_chart(falling), "polyline")
    (_, first), (_, last) = (map(float, point.split(",")) for point in str(line.get("points")).split())
    assert first < last, "SVG counts downwards"
