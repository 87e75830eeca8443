"""What recipes `pairs` and `spin` do to the tiny model, over seeds, beside controls from which nothing can be learned.

    python benchmarks/recipes_tiny.py --seeds 0 1 2 --out out/recipes-tiny

The trainings are those of `examples/pairs-tiny.yaml` and `examples/spin-tiny.yaml`, on tables drawn with the seed; own answers are
sampled by transformers. Controls: of pairs, half of the labels exchanged; of spin, demonstrations that are a second own
sample. Prints one row of Markdown a training: the accuracy at temperature 1 that is expected of the 600 held-out prompts.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "jobs"))

from tiny_effects import MODEL, accuracy, own_samples, played, tables, trained


def of_pairs(seed: int, out: Path) -> Path:
    """Right answers before habits."""
    return trained("pairs-tiny.yaml", "preferences", tables().preferences(seed), out)


def of_shuffled(seed: int, out: Path) -> Path:
    """The same pairs, half of them the wrong way round."""
    return trained("pairs-tiny.yaml", "preferences", tables().shuffled(tables().preferences(seed), seed), out)


def of_spin(seed: int, out: Path, control: bool = False) -> Path:
    """Right answers, or a second own sample, against own answers."""
    rows = tables().demonstrations(seed)
    prompts = [row["prompt"] for row in rows]
    own = own_samples(prompts, 2 * seed + 1)
    if control:
        again = own_samples(prompts, 2 * seed + 2)
        rows = [row | {"response": answer} for row, answer in zip(rows, again, strict=True)]
    told = [row for row in rows if row["response"].strip()]
    return trained("spin-tiny.yaml", "demonstrations", told, out, played(rows, own))


def of_own_samples(seed: int, out: Path) -> Path:
    """SPIN's control."""
    return of_spin(seed, out, control=True)


VARIANTS: dict[str, Callable[[int, Path], Path]] = {
    "pairs": of_pairs,
    "pairs, shuffled labels": of_shuffled,
    "spin": of_spin,
    "spin, a second own sample": of_own_samples,
}


def main() -> None:
    """One training after another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--out", type=Path, default=Path("out/recipes-tiny"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    before = accuracy(MODEL)
    print("| training | seed | pairs | T = 1 | chosen answers, nats | s |\n|---|---|---|---|---|---|", flush=True)
    for seed in options.seeds:
        for variant in options.variants:
            folder, began = options.out / f"{variant.replace(', ', '-').replace(' ', '-')}-{seed}", time.monotonic()
            shutil.rmtree(folder, ignore_errors=True)
            model = VARIANTS[variant](seed, folder)
            result = json.loads((model.parent / "manifest.json").read_text())["result"]
            chosen, after = result["chosenLogProbability"], accuracy(model)
            cells = (
                variant,
                seed,
                f"{result['pairs']:,}",
                f"{before:.3f} → {after:.3f} ({after - before:+.3f})",
                f"{chosen['before']:.2f} → {chosen['after']:.2f}",
                f"{time.monotonic() - began:.0f}",
            )
            print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
