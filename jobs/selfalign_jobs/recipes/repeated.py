"""How much a text repeats itself."""

from __future__ import annotations

WORDS = 3  # of a run that is looked for again


def repeated_percent(text: str) -> float:
    """The share, in percent, of its runs of three words that stood in it before; 0 of a text that has no such run.

    Words are what white space parts. "no no no no no" has three runs, one of them distinct: 66.7.
    """
    words = text.split()
    runs = [tuple(words[start : start + WORDS]) for start in range(len(words) - WORDS + 1)]
    return 100 * (1 - len(set(runs)) / len(runs)) if runs else 0.0
