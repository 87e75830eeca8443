"""How long it takes to find the near duplicates of a million prompts, and in how much memory.

    python benchmarks/near_duplicates.py --texts 1000000 [--width 384 --threshold 0.9]

Prompts of 12 to 40 words, of 50 000 by Zipf's law; one in ten is an earlier one with one word changed. With --width, vectors of
so many numbers instead, as an embedder gives them: drawn at random, one in ten an earlier one turned a little (cosine .95).
Prints one row of Markdown.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
import numpy.typing as npt

from selfalign_jobs.recipes.near_duplicates import near_duplicates

WORDS = 50_000
CHANGED = 0.1
COSINE = 0.95  # of a turned vector with what it was
AT_A_TIME = 65_536  # vectors


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


def vectors(count: int, width: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """The vectors, of length 1, the same each time."""
    rng = np.random.default_rng(seed)
    found = np.empty((count, width), np.float32)
    for at in range(0, count, AT_A_TIME):
        part = rng.standard_normal((min(AT_A_TIME, count - at), width), np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
        found[at : at + len(part)] = part
    turned = np.flatnonzero(rng.random(count) < CHANGED)
    turned = turned[turned > 0]
    earlier = (rng.random(len(turned)) * turned).astype(np.int64)
    for one, other in zip(turned, earlier, strict=True):
        away = found[one] - (found[one] @ found[other]) * found[other]
        found[one] = COSINE * found[other] + (1 - COSINE**2) ** 0.5 * away / np.linalg.norm(away)
    return found


def main() -> None:
    """One row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=1_000_000)
    parser.add_argument("--threshold", type=float, default=0.78)
    parser.add_argument("--ngram", type=int, default=1)
    parser.add_argument("--width", type=int, help="vectors instead, of so many numbers")
    options = parser.parse_args()
    embedded = None if options.width is None else vectors(options.texts, options.width)
    texts = prompts(options.texts) if embedded is None else [""] * options.texts
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    began = time.monotonic()
    method = "MinHash" if embedded is None else "Embedding"
    rule = {"method": method, "threshold": options.threshold, "ngram": options.ngram}
    dropped = int((near_duplicates(texts, rule, embedded) >= 0).sum())
    seconds, peak = time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print("| prompts | near duplicates | s | peak, GB | of it what is compared, GB |\n|---|---|---|---|---|")
    print(f"| {options.texts:,} | {dropped:,} | {seconds:.0f} | {peak:.1f} | {held:.1f} |")


if __name__ == "__main__":
    main()
