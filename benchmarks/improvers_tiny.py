"""What SynPO's trainings do to the tiny model, over seeds: improvers, beside one of own answers, and the policy of their pairs.

    python benchmarks/improvers_tiny.py --seeds 0 1 2 --out out/improvers-tiny

The trainings are those of `examples/synpo-tiny.yaml`, without an engine: seeds are drawn with the seed, drafts and answers
sampled by transformers. The control is an improver whose targets are a second own sample. Prints one row of Markdown a seed:
right drafts of the 600 held-out prompts, what is expected of both improvers at temperature 1, the pairs that are kept of
1 500 fresh requests, and the policy's accuracy at temperature 1 as it is expected.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "jobs"))

import improvers
from tiny_effects import MODEL, accuracy, own_samples, tables
from trainings import TINY

REQUESTS = 1500


def row(seed: int, out: Path) -> tuple[object, ...]:
    """The figures of a seed."""
    rows = tables().demonstrations(seed)
    prompts, right = [each["prompt"] for each in rows], [each["response"] for each in rows]
    own, again = (own_samples(prompts, 10 * seed + number) for number in (1, 2))
    worse = improvers.where(lambda draft, target: draft != target, prompts, own, right)
    said = improvers.where(lambda _, target: target != "", prompts, own, again)
    model, control = improvers.improver(*worse, out / "improver"), improvers.improver(*said, out / "control")
    asked = [json.loads(line) for line in (TINY / "heldout.jsonl").read_text().splitlines()]
    drafts = own_samples([each["prompt"] for each in asked], 10 * seed + 3)
    drafted = sum(draft == each["reference"] for draft, each in zip(drafts, asked, strict=True)) / len(asked)
    better, same = (improvers.improved(each, asked, drafts) for each in (model, control))
    pairs = improvers.pairs(model, seed + 100, REQUESTS)
    before, after = accuracy(MODEL), accuracy(improvers.trained("i1-train", pairs, out / "policy"))
    kept = f"{len(pairs):,} ({len(pairs) / REQUESTS:.2f})"
    return f"{drafted:.3f}", f"{better:.3f}", f"{same:.3f}", kept, f"{before:.3f} → {after:.3f} ({after - before:+.3f})"


def main() -> None:
    """One seed after another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("out/improvers-tiny"))
    options = parser.parse_args()
    print("| seed | drafts | improved | control | pairs kept | T = 1 | s |\n|---|---|---|---|---|---|---|", flush=True)
    for seed in options.seeds:
        folder, began = options.out / str(seed), time.monotonic()
        shutil.rmtree(folder, ignore_errors=True)
        cells = (seed, *row(seed, folder), f"{time.monotonic() - began:.0f}")
        print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
