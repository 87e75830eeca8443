"""What a soak measures of itself as it goes, a line of a CSV every ten seconds, and the picture of it.

python tests/cluster/soak_record.py out/soak/soak.csv out/soak/soak.svg
"""

from __future__ import annotations

import csv
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np

from selfalign_jobs.report.chart import HEIGHT, WIDTH, Curve, curve_chart, element

__all__ = ["Record", "Sample", "picture", "read"]

PICTURES = (  # a chart each: the column, and its axis
    ("memory", "MB of the operator"),
    ("objects", "objects of runs"),
    ("events", "Events that are kept"),
    ("calls", "API calls a second"),
    ("there", "runs there"),
    ("ended", "runs that have ended"),
)
COLUMNS = 2
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #333; } .tick { fill: #666; font-size: 11px; }
.grid { stroke: #ddd; stroke-width: .7; } .base { stroke: #666; }
.raw { fill: none; stroke: #1f6feb; stroke-width: .8; opacity: .4; } .curve { fill: none; stroke: #1f6feb; stroke-width: 2; }
"""


@dataclass(frozen=True)
class Sample:
    """One moment."""

    seconds: float  # since the beginning
    memory: float  # MB of the operator that is never killed
    objects: int  # Jobs, pods, ConfigMaps and NetworkPolicies in the namespace
    events: int  # that the apiserver keeps: each for an hour
    calls: float  # that reached the apiserver since the sample before, a second
    there: int  # runs
    ended: int  # runs, since the beginning
    wrong: int  # of them, not as their kind should


@dataclass
class Record:
    """Samples, each written to the file at once: a soak that is cut off has told what it saw."""

    file: Path
    samples: list[Sample] = field(default_factory=list)

    def add(self, sample: Sample) -> None:
        """Write it down."""
        self.samples.append(sample)
        with self.file.open("w" if len(self.samples) == 1 else "a", newline="") as file:
            writer = csv.DictWriter(file, [each.name for each in fields(Sample)])
            if len(self.samples) == 1:
                writer.writeheader()
            writer.writerow({name: round(value, 3) for name, value in asdict(sample).items()})

    @property
    def slope(self) -> float:
        """MB an hour, over the second half of the time: the first fills what is kept."""
        half = self.samples[len(self.samples) // 2 :]
        if len(half) < 3:
            return 0.0
        return statistics.linear_regression(
            [each.seconds / 3600 for each in half], [each.memory for each in half]
        ).slope


def read(file: Path) -> list[Sample]:
    """The samples of a file."""
    with file.open(newline="") as lines:
        return [Sample(**{name: float(value) for name, value in row.items()}) for row in csv.DictReader(lines)]  # type: ignore[arg-type]


def picture(samples: Sequence[Sample]) -> str:
    """An SVG of all charts, side by side."""
    rows = -(-len(PICTURES) // COLUMNS)
    width, height = COLUMNS * WIDTH, rows * HEIGHT
    return element(
        "svg",
        element("style", STYLE),
        element("rect", width=width, height=height, fill="white"),
        *_charts(samples),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width} {height}",
        width=width * 1.4,
    )


def _charts(samples: Sequence[Sample]) -> Iterator[str]:
    minutes = np.array([each.seconds / 60 for each in samples])
    for number, (column, title) in enumerate(PICTURES):
        row, place = divmod(number, COLUMNS)
        values = np.array([getattr(each, column) for each in samples], dtype=float)
        chart = curve_chart(title, "minutes", title, Curve(minutes, values), noisy=column in ("objects", "calls"))
        yield element("svg", chart, x=place * WIDTH, y=row * HEIGHT, width=WIDTH, height=HEIGHT)


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(picture(read(Path(sys.argv[1]))))
