"""The report's charts as inline SVG. Colours are CSS classes, so one drawing serves light and dark pages."""

from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape

from fucina.factory.report.axes import Axis
from fucina.factory.report.rows import FATES
from fucina.factory.report.scores import Lengths, ScorePanel, Strip
from fucina.factory.report.training import Curve, Whiskers

_WIDTH = 340.0
_WIDE = 420.0
_STRIP = 46.0
_LABEL = 24.0


def element(name: str, *children: str, **attributes: object) -> Markup:
    """One SVG element; children and attribute values are escaped unless they are Markup already."""
    pairs = "".join(f' {key.rstrip("_").replace("_", "-")}="{_attribute(value)}"' for key, value in attributes.items())
    # Every part is escaped above or below, or is markup that this module made.
    return Markup(f"<{name}{pairs}>{''.join(escape(child) for child in children)}</{name}>")  # noqa: S704


def score_chart(panel: ScorePanel) -> Markup:
    """A histogram for each origin over one axis, stacked by fate; each is as high as its own tallest bar."""
    parts: list[Markup] = []
    step = _STRIP + _LABEL
    for number, strip in enumerate(panel.strips):
        top = number * step + _LABEL
        parts.append(_strip_label(strip, panel.common, top - 5))
        parts.extend(_stacks(strip, top))
        parts.append(element("line", x1=0, x2=_WIDTH, y1=top + _STRIP, y2=top + _STRIP, class_="axis"))
        if panel.common is None:
            middle = panel.axis.at(strip.median) * _WIDTH
            parts.append(element("line", x1=middle, x2=middle, y1=top, y2=top + _STRIP, class_="median"))
    bottom = len(panel.strips) * step
    parts.extend(_ticks(panel.axis, bottom, _WIDTH))
    parts.append(element("text", panel.unit, x=_WIDTH / 2, y=bottom + 32, class_="unit", text_anchor="middle"))
    about = f"{panel.judge} {panel.aspect}: " + "; ".join(
        f"{strip.origin} median {strip.median:.3g} of {strip.scored}" for strip in panel.strips
    )
    return _drawing(parts, _WIDTH, bottom + 38, about)


def scatter_chart(lengths: Lengths) -> Markup:
    """One dot for each pair: rejected length across, chosen length up, on one logarithmic scale."""
    side, left, low = 300.0, 52.0, 36.0
    parts = [element("line", x1=left, y1=side, x2=left + side, y2=0, class_="reference")]
    for tick in lengths.axis.ticks:
        x, y = left + tick.at * side, side - tick.at * side
        parts.append(element("line", x1=x, x2=x, y1=0, y2=side, class_="grid"))
        parts.append(element("line", x1=left, x2=left + side, y1=y, y2=y, class_="grid"))
        parts.append(element("text", tick.label, x=x, y=side + 14, class_="tick", text_anchor="middle"))
        parts.append(element("text", tick.label, x=left - 6, y=y + 4, class_="tick", text_anchor="end"))
    for rejected, chosen in lengths.points:
        x, y = left + lengths.axis.at(rejected) * side, side - lengths.axis.at(chosen) * side
        parts.append(element("circle", cx=x, cy=y, r=2.6, class_="dot"))
    parts.append(
        element(
            "text", "rejected, characters", x=left + side / 2, y=side + low - 3, class_="unit", text_anchor="middle"
        )
    )
    parts.append(
        element(
            "text", "chosen, characters", transform=f"translate(10 {side / 2}) rotate(-90)", class_="unit",
            text_anchor="middle",
        )
    )  # fmt: skip
    about = f"lengths of {len(lengths.points)} pairs; chosen is longer in {lengths.longer} of {lengths.pairs}"
    return _drawing(parts, left + side + 8, side + low, about)


def ratio_chart(lengths: Lengths) -> Markup:
    """How many times longer the chosen answer is; the reference line is equal length."""
    width, height, top = 360.0, 300.0, 18.0
    bar = width / len(lengths.ratios)
    tallest = max(lengths.ratios)
    middle = width / 2
    parts: list[Markup] = []
    for number, count in enumerate(lengths.ratios):
        if count:
            tall = count / tallest * (height - top)
            css = "chosen" if number * bar >= middle else "rejected"
            box = element(
                "rect", element("title", f"{count} pairs"), x=number * bar + 0.5, y=height - tall, width=bar - 1,
                height=tall, class_=css,
            )  # fmt: skip
            parts.append(box)
    parts.append(element("line", x1=0, x2=width, y1=height, y2=height, class_="axis"))
    parts.append(element("line", x1=middle, x2=middle, y1=0, y2=height, class_="reference"))
    parts.append(element("text", "rejected longer", x=middle - 8, y=10, class_="unit", text_anchor="end"))
    parts.append(element("text", "chosen longer", x=middle + 8, y=10, class_="unit"))
    parts.extend(_ticks(lengths.ratio_axis, height, width))
    parts.append(
        element(
            "text", f"length of chosen ÷ length of rejected; tallest bar {tallest} pairs", x=middle, y=height + 32,
            class_="unit", text_anchor="middle",
        )
    )  # fmt: skip
    about = f"ratio of chosen to rejected length over {lengths.pairs} pairs, median {lengths.ratio_median:.2f}"
    return _drawing(parts, width, height + 36, about)


def whisker_chart(whiskers: Whiskers, unit: str) -> Markup:
    """A dot for each model's difference to the base, a whisker over its 95 % interval, a reference line at zero."""
    step = 40.0
    axis, bottom = whiskers.axis, len(whiskers.rows) * step
    zero = axis.at(0) * _WIDE
    parts: list[Markup] = [
        element("line", x1=tick.at * _WIDE, x2=tick.at * _WIDE, y1=0, y2=bottom, class_="grid") for tick in axis.ticks
    ]
    parts.append(element("line", x1=zero, x2=zero, y1=0, y2=bottom, class_="reference"))
    for number, row in enumerate(whiskers.rows):
        y, css = number * step + 28, row.outcome.replace(" ", "-")
        parts.append(element("text", row.name, x=0, y=y - 11, class_="label"))
        if row.low is not None and row.high is not None:
            ends = axis.at(row.low) * _WIDE, axis.at(row.high) * _WIDE
            parts.append(element("line", x1=ends[0], x2=ends[1], y1=y, y2=y, class_=f"whisker {css}"))
        parts.append(element("circle", cx=axis.at(row.difference) * _WIDE, cy=y, r=4.5, class_=f"estimate {css}"))
    parts.append(element("line", x1=0, x2=_WIDE, y1=bottom, y2=bottom, class_="axis"))
    parts.extend(_ticks(axis, bottom, _WIDE))
    parts.append(element("text", unit, x=_WIDE / 2, y=bottom + 32, class_="unit", text_anchor="middle"))
    about = f"{unit}: " + "; ".join(f"{row.name} {row.difference:+.4g}, {row.outcome}" for row in whiskers.rows)
    return _drawing(parts, _WIDE, bottom + 38, about)


def curve_chart(curve: Curve) -> Markup:
    """Training loss by update."""
    left, width, top, height = 44.0, 372.0, 8.0, 150.0
    parts: list[Markup] = []
    for tick in curve.y_axis.ticks:
        y = top + height - tick.at * height
        parts.append(element("line", x1=left, x2=left + width, y1=y, y2=y, class_="grid"))
        parts.append(element("text", tick.label, x=left - 6, y=y + 4, class_="tick", text_anchor="end"))
    places = [(left + curve.x_axis.at(x) * width, top + height - curve.y_axis.at(y) * height) for x, y in curve.points]
    parts.append(element("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in places), class_="curve"))
    parts.extend(_ticks(curve.x_axis, top + height, width, left))
    parts.append(
        element("text", "updates", x=left + width / 2, y=top + height + 32, class_="unit", text_anchor="middle")
    )
    about = f"training loss from {curve.points[0][1]:.4g} to {curve.points[-1][1]:.4g}"
    return _drawing(parts, left + width + 4, top + height + 38, about)


def _strip_label(strip: Strip, common: float | None, y: float) -> Markup:
    """Origin, number of scores, median or common score, and how many scores lie beyond the axis."""
    centre = f"median {strip.median:.3g}" if common is None else f"{strip.common:,} of them at {common:g}"
    beyond = [f"{strip.below} below"] if strip.below else []
    beyond += [f"{strip.above} above"] if strip.above else []
    tail = f"{strip.scored:,} answers, {centre}, tallest bar {strip.tallest:,}"
    tail += f"; {', '.join(beyond)} the axis" if beyond else ""
    return element(
        "text", element("tspan", strip.origin, class_="label"), element("tspan", tail, dx=7, class_="unit"), x=0, y=y
    )


def _stacks(strip: Strip, top: float) -> Iterable[Markup]:
    """One path for each fate, bars stacked from the bottom."""
    width = _WIDTH / len(strip.bars[FATES[0]])
    gap = min(1.0, width / 8)
    floor = [0] * len(strip.bars[FATES[0]])
    for fate in FATES:
        path = ""
        for number, count in enumerate(strip.bars[fate]):
            if count:
                y = top + _STRIP - floor[number] / strip.tallest * _STRIP
                tall = count / strip.tallest * _STRIP
                path += f"M{number * width + gap / 2:.1f} {y:.2f}h{width - gap:.1f}v{-tall:.2f}h{gap - width:.1f}z"
                floor[number] += count
        if path:
            yield element("path", d=path, class_=fate)


def _ticks(axis: Axis, y: float, width: float, left: float = 0.0) -> Iterable[Markup]:
    """Tick marks and labels below a horizontal axis; the outermost labels stay inside the drawing."""
    for tick in axis.ticks:
        x = left + tick.at * width
        anchor = "start" if x < 8 else "end" if x > left + width - 8 else "middle"
        yield element("line", x1=x, x2=x, y1=y, y2=y + 4, class_="axis")
        yield element("text", tick.label, x=x, y=y + 16, class_="tick", text_anchor=anchor)


def _drawing(parts: Sequence[Markup], width: float, height: float, about: str) -> Markup:
    return element(
        "svg", *parts, viewBox=f"0 0 {width:.0f} {height:.0f}", width=f"{width:.0f}", role="img", aria_label=about
    )


def _attribute(value: object) -> str:
    """An attribute's text: floats with two decimals at most, all else escaped."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(escape(str(value)))
