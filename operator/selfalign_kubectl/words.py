"""Words that all pages share: durations, the style of a state, columns as kubectl prints them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from rich.text import Text

from selfalign_operator.reconcile.times import parse_time

STYLES = {
    "Complete": "green", "Succeeded": "green", "Reused": "green",
    "Running": "bold", "Failed": "red", "Held": "red",
    "Waiting": "yellow", "Queued": "yellow", "Suspended": "yellow", "Pending": "dim", "Skipped": "dim",
}  # fmt: skip
GAP = "   "  # between two columns, as in `kubectl get`


def duration(seconds: float) -> str:
    """`42s`, `3m12s`, `2h05m`, `4d03h`; never negative: two clocks differ."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 100 * 3600:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def between(start: str | None, end: str | None, now: datetime) -> str:
    """How long something took, or has taken until now; empty before it began."""
    began = parse_time(start)
    return "" if began is None else duration(((parse_time(end) or now) - began).total_seconds())


def columns(head: Sequence[str], rows: Sequence[Sequence[Text]]) -> Iterator[Text]:
    """The head and the rows, each column as wide as its longest cell; a column that nobody fills is left out."""
    lines = [[Text(title, style="dim") for title in head], *rows]
    filled = [index for index in range(len(head)) if any(row[index].plain for row in rows)]
    widths = {index: max(line[index].cell_len for line in lines) for index in filled}
    for line in lines:
        found = Text()
        for index in filled:
            found.append_text(line[index])
            found.append(" " * (widths[index] - line[index].cell_len) + GAP)
        found.rstrip()
        yield found


def one_line(text: str) -> str:
    """Without line ends and what a terminal would obey: a status is what somebody wrote."""
    return "".join(char if char.isprintable() else " " for char in text).strip()


def cell(text: str, style: str = "") -> Text:
    """A piece of a line."""
    return Text(one_line(text), style=style)
