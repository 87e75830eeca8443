"""Charts as inline SVG: text that scales with the page, colours from its style sheet, no script.

All are drawn 330 units wide, about what a phone shows, so that their text is as large as the page's wherever they stand.
Marks differ by form as well as by colour (solid and dashed, filled and hollow): `a` is the first series, `b` the second.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from selfalign_jobs.report.scale import Axis, axis, number, power_of_ten, superscript

WIDTH = 330
HEIGHT = 206
LEFT, RIGHT, TOP, BOTTOM = 50, 318, 12, 166  # the plot's edges
POINTS = 330  # a curve has no more of them than the picture has units
LETTER = 6.3  # about the width of one
ROW = 24  # height of a row there
TAIL = 0.995  # of the values a histogram and a scatter spread over their axes
DOTS = 900  # a scatter shows no more

Values = npt.NDArray[np.float64]


def element(name: str, *children: object, **attributes: object) -> Markup:
    """One SVG element; attribute names have `_` for `-`, text and values are escaped."""
    written = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _short(value)) for key, value in attributes.items()
    )
    inner = Markup("").join(Markup.escape(child) for child in children)
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), written, inner)


def _short(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


def _picture(title: str, height: float, *marks: object) -> Markup:
    return element(
        "svg",
        element("title", title),
        *marks,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH} {height:g}",
        role="img",
        aria_label=title,
    )


@dataclass(frozen=True, slots=True)
class Curve:
    """A quantity over the steps of a training; not a number where a step had none."""

    steps: Values
    values: Values


def curve_chart(
    title: str, x_title: str, y_title: str, curve: Curve, *, level: float | None = None, noisy: bool = True
) -> Markup:
    """A curve: thin as measured, bold as its running mean, or bold as it is where it is not `noisy`.

    `level` is a dashed line to compare it with.
    """
    return _curves(title, x_title, y_title, [("", curve)], level, noisy=noisy, raw=noisy)


def overlaid_curves(
    title: str,
    x_title: str,
    y_title: str,
    curves: Sequence[tuple[str, Curve]],
    *,
    level: float | None = None,
    noisy: bool = True,
) -> Markup:
    """Curves of several trainings on the same axes, each with its class; where they are `noisy`, as running means."""
    return _curves(title, x_title, y_title, curves, level, noisy=noisy, raw=False)


def _curves(
    title: str,
    x_title: str,
    y_title: str,
    curves: Sequence[tuple[str, Curve]],
    level: float | None,
    *,
    noisy: bool,
    raw: bool,
) -> Markup:
    drawn = [(kind, *thinned(curve)) for kind, curve in curves]
    if power := power_of_ten(value for _, _, values in drawn for value in values):
        drawn = [(kind, steps, values / 10.0**power) for kind, steps, values in drawn]
        y_title = f"{y_title}, {superscript(power)}"
    x = axis(x_title, np.concatenate([steps for _, steps, _ in drawn]), snap=False, whole=True)
    y = axis(y_title, np.concatenate([values for _, _, values in drawn]), floor=level, ceiling=level)
    marks = [_frame(x, y)]
    if level is not None:
        at = y.place(level, BOTTOM, TOP)
        marks.append(element("line", class_="level", x1=LEFT, x2=RIGHT, y1=at, y2=at))
    for kind, steps, values in drawn:
        if raw:
            marks.append(element("path", class_="raw", d=_path(steps, values, x, y)))
        bold = running_mean(values) if noisy else values
        marks.append(element("path", class_=f"curve {kind}".rstrip(), d=_path(steps, bold, x, y)))
    return _picture(title, HEIGHT, *marks)


def thinned(curve: Curve) -> tuple[Values, Values]:
    """The curve with at most `POINTS` points, each the mean of its stretch; steps without a value left out."""
    there = np.isfinite(curve.values)
    steps, values = curve.steps[there], curve.values[there]
    if len(steps) <= POINTS:
        return steps, values
    edges = np.linspace(0, len(steps), POINTS + 1).astype(int)
    sizes = np.diff(edges)
    means = [np.add.reduceat(part, edges[:-1]) / sizes for part in (steps, values)]
    return means[0], means[1]


def running_mean(values: Values) -> Values:
    """Centred mean over about a fifteenth of the points; at the ends over those that are there."""
    reach = len(values) // 30
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    first, last = np.maximum(index - reach, 0), np.minimum(index + reach + 1, len(values))
    mean: Values = np.subtract(sums[last], sums[first]) / (last - first)
    return mean


def _path(xs: Values, ys: Values, x: Axis, y: Axis) -> str:
    points = [f"{x.place(a, LEFT, RIGHT):.1f} {y.place(b, BOTTOM, TOP):.1f}" for a, b in zip(xs, ys, strict=True)]
    return "M" + "L".join(points) if points else ""


def histogram(title: str, x_title: str, y_title: str, a: Values, b: Values) -> Markup:
    """Two distributions over the same bins: `a` filled, `b` an outline; the axis begins at 0 unless something is below.

    The triangles below are their means. `b` may be empty, `a` not. A long tail, beyond `TAIL` of the values, is in the last bin.
    """
    both = np.concatenate([a, b])
    end = float(np.quantile(both, TAIL, method="higher"))
    if both.max() > end:
        x_title = f"{x_title}; last bin: {number(end)} and more"
    edges = bin_edges(np.minimum(both, end))
    heights = [np.histogram(np.minimum(part, end), edges)[0] / max(1, len(part)) * 100 for part in (a, b)]
    x = axis(x_title, edges, floor=0 if both.min() >= 0 else None, snap=False, whole=_whole(both))
    y = axis(y_title, np.concatenate(heights), floor=0)
    marks = [_frame(x, y)]
    for name, part, height in zip("ab", (a, b), heights, strict=True):
        if not len(part):
            continue
        marks.append(element("path", class_=f"steps {name}", d=_outline(edges, height, x, y)))
        at, base = x.place(min(float(part.mean()), end), LEFT, RIGHT), BOTTOM
        mean = element("title", f"mean {number(float(part.mean()))}")
        marks.append(element("path", mean, class_=f"mean {name}", d=f"M{at:.1f} {base}l-5 8h10z"))
    return _picture(title, HEIGHT, *marks)


def _whole(values: Values) -> bool:
    return bool(np.all(values == np.round(values)))


def bin_edges(values: Values) -> Values:
    """About thirty bins or fewer; for whole numbers of a small range one bin a number."""
    low, high = float(values.min()), float(values.max())
    step = (high - low) / 28
    if step < 1e-99:
        step = 1.0
    if _whole(values):  # lengths: a bin holds as many whole numbers as its neighbours
        step, low = float(math.ceil(step)) if high - low > 30 else 1.0, low - 0.5
    bins = math.floor((high - low) / step) + 1
    return np.linspace(low, max(low + step * bins, high), bins + 1)  # max: rounding must not leave the highest out


def _outline(edges: Values, heights: Values, x: Axis, y: Axis) -> str:
    parts = [f"M{x.place(edges[0], LEFT, RIGHT):.1f} {BOTTOM}"]
    for right, height in zip(edges[1:], heights, strict=True):
        parts.append(f"V{y.place(height, BOTTOM, TOP):.1f}H{x.place(right, LEFT, RIGHT):.1f}")
    return "".join(parts) + f"V{BOTTOM}"


def scatter(title: str, x_title: str, y_title: str, xs: Values, ys: Values, corners: tuple[str, str, str]) -> Markup:
    """Points about the origin, the quadrants where the signs agree shaded; `corners` name upper right, upper left, lower right."""
    if len(xs) > DOTS:
        kept = np.random.default_rng(0).choice(len(xs), DOTS, replace=False)
        xs, ys = xs[kept], ys[kept]
    reach = float(np.quantile(np.abs(np.concatenate([xs, ys])), TAIL)) if len(xs) else 1.0
    x, y = (axis(words, [-reach, reach], snap=False) for words in (x_title, y_title))
    middle_x, middle_y = x.place(0, LEFT, RIGHT), y.place(0, BOTTOM, TOP)
    dots = "".join(
        f"M{x.place(a, LEFT, RIGHT):.1f} {y.place(b, BOTTOM, TOP):.1f}h0"
        for a, b in zip(np.clip(xs, x.low, x.high), np.clip(ys, y.low, y.high), strict=True)
    )
    return _picture(
        title,
        HEIGHT,
        element("rect", class_="agree", x=middle_x, y=TOP, width=RIGHT - middle_x, height=middle_y - TOP),
        element("rect", class_="agree", x=LEFT, y=middle_y, width=middle_x - LEFT, height=BOTTOM - middle_y),
        _frame(x, y),
        element("path", class_="level", d=f"M{LEFT} {middle_y:.1f}H{RIGHT}M{middle_x:.1f} {TOP}V{BOTTOM}"),
        element("path", class_="dots", d=dots),
        element("text", corners[0], class_="note", x=RIGHT - 5, y=TOP + 13, text_anchor="end"),
        element("text", corners[1], class_="note", x=LEFT + 5, y=TOP + 13),
        element("text", corners[2], class_="note", x=RIGHT - 5, y=BOTTOM - 7, text_anchor="end"),
    )


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its interval; `hollow` marks what others are compared with."""

    label: str
    value: float
    low: float
    high: float
    hollow: bool = False


def interval_chart(
    title: str, x_title: str, rows: Sequence[Interval], *, low: float = 0, high: float = 1, level: float | None = None
) -> Markup:
    """Figures with their intervals, one a row, on one axis; `level` is a dashed line to compare them with."""
    x = axis(x_title, [value for row in rows for value in (row.low, row.high)], floor=low, ceiling=high)
    bottom = TOP + ROW * len(rows)
    left_edge = round(LETTER * max((len(row.label) for row in rows), default=0)) + 14
    marks = [_grid(x, left_edge, TOP, bottom)]
    if level is not None:
        at = x.place(level, left_edge, RIGHT)
        marks.append(element("line", class_="level", x1=at, x2=at, y1=TOP, y2=bottom))
    for position, row in enumerate(rows):
        at = TOP + ROW * (position + 0.5)
        left, right, middle = (x.place(v, left_edge, RIGHT) for v in (row.low, row.high, row.value))
        kind = "b" if row.hollow else "a"
        shown = f"{row.label}: {row.value:.3f}, from {row.low:.3f} to {row.high:.3f}"
        marks += [
            element("text", row.label, x=left_edge - 9, y=at + 4, text_anchor="end"),
            element(
                "path", class_=f"whisker {kind}", d=f"M{left:.1f} {at - 4:.1f}v8M{left:.1f} {at:.1f}H{right:.1f}m0 -4v8"
            ),
            element("circle", element("title", shown), class_=f"dot {kind}", cx=middle, cy=at, r=4.5),
        ]
    return _picture(title, bottom + 40, *marks)


def bar(segments: Sequence[tuple[float, str, str]]) -> Markup:
    """A horizontal bar of segments (share of the whole width, class, what it is), drawn to the width of its place."""
    marks, at = [], 0.0
    for share, kind, words in segments:
        box = element(
            "rect", element("title", words), class_=kind, x=f"{at:.2f}", y=0, width=f"{100 * share:.2f}", height=10
        )
        marks.append(box)
        at += 100 * share
    words = "; ".join(words for _, _, words in segments)
    return element(
        "svg", *marks, class_="bar", viewBox="0 0 100 10", preserveAspectRatio="none", role="img", aria_label=words
    )


def _frame(x: Axis, y: Axis) -> Markup:
    """Both axes with grid, ticks and titles."""
    marks = [_grid(x, LEFT, TOP, BOTTOM)]
    for tick in y.ticks:
        at = y.place(tick, BOTTOM, TOP)
        marks.append(element("line", class_="grid", x1=LEFT, x2=RIGHT, y1=at, y2=at))
        marks.append(element("text", number(tick), class_="tick", x=LEFT - 5, y=at + 3.5, text_anchor="end"))
    middle = (TOP + BOTTOM) / 2
    marks.append(
        element(
            "text", y.title, class_="title", transform=f"translate(11 {middle:g}) rotate(-90)", text_anchor="middle"
        )
    )
    return Markup("").join(marks)


def _grid(x: Axis, left: float, top: float, bottom: float) -> Markup:
    """A horizontal axis with its grid lines, ticks and title."""
    marks = []
    for tick in x.ticks:
        at = x.place(tick, left, RIGHT)
        marks.append(element("line", class_="grid", x1=at, x2=at, y1=top, y2=bottom))
        marks.append(element("text", number(tick), class_="tick", x=at, y=bottom + 20, text_anchor="middle"))
    marks.append(element("line", class_="base", x1=left, x2=RIGHT, y1=bottom, y2=bottom))
    marks.append(element("text", x.title, class_="title", x=(left + RIGHT) / 2, y=bottom + 36, text_anchor="middle"))
    return Markup("").join(marks)
