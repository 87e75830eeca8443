"""How long it takes to find the near duplicates of a million prompts, and in how much memory.

    python benchmarks/near_duplicates.py --texts 1000000

Prompts of 12 to 40 words, of 50 000 by Zipf's law; one in ten is an earlier one with one word changed. Prints one row of Markdown.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from selfalign_jobs.recipes.near_duplicates import near_duplicates

WORDS = 50_000
CHANGED = 0.1


def prompts(count: int, seed: int = 0) -> list[str]:
    """The texts, the same each time."""
    rng = np.random.default_rng(seed)
    chances = 1 / np.arange(1, WORDS + 1)
    lengths = rng.integers(12, 41, count)
    words = np.array([f"w{number}" for number in range(WORDS)])
    drawn, ends = rng.choice(WORDS, lengths.sum(), p=chances / chances.sum()), np.cumsum(lengths)
    found: list[str] = []
    for number, (end, length) in enumerate(zip(ends, lengths, strict=True)):
        if number and rng.random() < CHANGED:
            text = found[int(rng.integers(0, number))].split()
            text[int(rng.integers(0, len(text)))] = f"x{rng.integers(0, 1000)}"
            found.append(" ".join(text))
        else:
            found.append(" ".join(words[drawn[end - length : end]]))
    return found


def main() -> None:
    """One row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=1_000_000)
    parser.add_argument("--threshold", type=float, default=0.78)
    parser.add_argument("--ngram", type=int, default=1)
    options = parser.parse_args()
    texts = prompts(options.texts)
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    began = time.monotonic()
    rule = {"method": "MinHash", "threshold": options.threshold, "ngram": options.ngram}
    dropped = int((near_duplicates(texts, rule) >= 0).sum())
    seconds, peak = time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print("| prompts | near duplicates | s | peak, GB | of it the prompts, GB |\n|---|---|---|---|---|")
    print(f"| {options.texts:,} | {dropped:,} | {seconds:.0f} | {peak:.1f} | {held:.1f} |")


if __name__ == "__main__":
    main()
