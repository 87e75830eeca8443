"""Pairs as a person reads them on a terminal. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.text import Text

PARTS = ("persona", "prompt", "chosen", "rejected")
STYLES = {"chosen": "green", "rejected": "red"}


def pair_lines(pairs: Sequence[Mapping[str, Any]]) -> Iterator[Text]:
    """A block a pair: what was asked, both answers, and by how much the judge prefers one."""
    for number, pair in enumerate(pairs, start=1):
        if number > 1:
            yield Text("")
        margin = pair.get("margin")
        sure = "" if not isinstance(margin, int | float) else f"  margin {margin:+.2f}"
        yield Text(f"pair {number} of {len(pairs)}, iteration {pair.get('iteration')}{sure}", style="bold")
        for part in PARTS:
            if isinstance(text := pair.get(part), str):
                yield from _block(part, text)


def _block(part: str, text: str) -> Iterator[Text]:
    """The part's name, then its text; further lines under it."""
    label = f"{part:<9} "
    for line in text.splitlines() or [""]:
        shown = "".join(char if char.isprintable() else "�" for char in line)
        yield Text(label, style="dim").append(shown, style=STYLES.get(part, ""))
        label = " " * len(label)
