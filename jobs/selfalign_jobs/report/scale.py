"""Axes: round ticks, and numbers as people write them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

TICKS = 5  # about this many on an axis
_HAIR = 1e-9  # of a tick: what rounding may cost
_NOTHING = 1e-99  # less than this is drawn and written as zero


@dataclass(frozen=True, slots=True)
class Axis:
    """A linear axis with a title (and unit); `ticks` lie between `low` and `high`."""

    title: str
    low: float
    high: float
    ticks: tuple[float, ...]

    def place(self, value: float, start: float, end: float) -> float:
        """Where a value lies on a line from `start` (low) to `end` (high), in the picture's units."""
        span = self.high - self.low  # none of values that are all nothing
        return start + ((value - self.low) / span if span else 0.5) * (end - start)


def axis(
    title: str,
    values: Iterable[float],
    *,
    floor: float | None = None,
    ceiling: float | None = None,
    snap: bool = True,
    whole: bool = False,
) -> Axis:
    """An axis around the finite values; `floor` and `ceiling` are values that it must reach.

    With `snap` it ends on ticks, which suits an axis that is read; without, on the values, which wastes no room.
    `whole` keeps ticks to whole numbers.
    """
    seen = [value for value in values if math.isfinite(value)]
    seen += [value for value in (floor, ceiling) if value is not None]
    low, high = (min(seen), max(seen)) if seen else (0.0, 1.0)
    if high - low < _NOTHING:
        low, high = (low - 1, high + 1) if abs(low) >= _NOTHING else (0.0, 1.0)
    step = tick_step(high - low)
    if whole:
        step = max(1.0, math.ceil(step))
    if not snap:
        inside = range(math.ceil(low / step - _HAIR), math.floor(high / step + _HAIR) + 1)
        return Axis(title, low, high, tuple(round(number * step, 15) for number in inside))
    around = range(math.floor(low / step + _HAIR), math.ceil(high / step - _HAIR) + 1)
    ticks = tuple(round(number * step, 15) for number in around)
    return Axis(title, ticks[0], ticks[-1], ticks)


def tick_step(span: float) -> float:
    """1, 2, 2.5 or 5 times a power of ten, for about five ticks over the span."""
    rough = span / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    return next((factor * power for factor in (1, 2, 2.5, 5) if factor * power >= rough * (1 - 1e-9)), 10 * power)


def power_of_ten(values: Iterable[float]) -> int:
    """The power that an axis of very small values is written in (-4 for 0.0006); 0 where numbers are short as they are."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    return math.floor(math.log10(largest)) if _NOTHING <= largest < 0.005 else 0


def superscript(exponent: int) -> str:
    """10⁻⁴."""
    return f"10{str(exponent).translate(_SUPERSCRIPT)}"


_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float) -> str:
    """A figure with at most three to four digits that count: 0.125, 12.5k, 3·10⁻⁶, with a true minus sign."""
    size = abs(value)
    if size < _NOTHING:
        return "0"
    if size < 0.001:
        exponent = math.floor(math.log10(size))
        text = f"{value / 10.0**exponent:.3g}·{superscript(exponent)}"
    elif size >= 1e6:
        text = f"{value / 1e6:.4g}M"
    elif size >= 10_000:
        text = f"{value / 1e3:.4g}k"
    elif size >= 1000:
        text = f"{value:,.0f}"
    else:
        text = f"{value:.3g}"
    return text.replace("-", "−", 1) if value < 0 else text


def count(value: int) -> str:
    """A whole number with its thousands apart: 12,345."""
    return f"{value:,}"


def duration(seconds: float) -> str:
    """8.4 s, 3 min 12 s, 2 h 05 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
