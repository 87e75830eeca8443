"""What recipes `pairs`, `spin` and `selm` do to the tiny model, over seeds, beside controls that teach nothing.

    python benchmarks/recipes_tiny.py --seeds 0 1 2 --out out/recipes-tiny

The trainings are those of `examples/{pairs,spin,selm}-tiny.yaml`, on tables drawn with the seed; own answers are written by
transformers. Controls: of pairs, half of the labels exchanged; of spin, demonstrations that are a second own sample; of
selm, ranks drawn at random. Prints one row of Markdown a training: the accuracy at temperature 1 that is expected of the 600
held-out prompts, and what became of the chosen and (selm) of the own answers.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "jobs"))

import pyarrow.parquet as pq
from tiny_effects import MODEL, accuracy, explored, log_probabilities, own_samples, played, tables, trained


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


def of_selm(seed: int, out: Path, method: str = "score", alpha: float | None = None) -> Path:
    """Preferences of which one in five is wrong on both sides, with the model's own answers ranked among them."""
    rows = tables().mixed(seed)[: len(tables().mixed(seed)) // 2]  # as many as an iteration of the example has
    pairs = explored(rows, own_samples([row["prompt"] for row in rows], None), method)
    loss = None if alpha is None else {"type": "selm", "beta": 0.1, "alpha": alpha}
    return trained("selm-tiny.yaml", "preferences", rows, out, pairs, loss)


def own_answers(model: Path) -> str:
    """Mean log-probability of the answers that SELM keeps, before and after."""
    table = pq.read_table(model.parent / "prepared" / "pairs.parquet")
    if "kept_ids" not in table.column_names:
        return "–"
    own = list(zip(table["prompt_ids"].to_pylist(), table["kept_ids"].to_pylist(), strict=True))
    before, after = (sum(log_probabilities(each, own)) / len(own) for each in (MODEL, model))
    return f"{before:.2f} → {after:.2f}"


VARIANTS: dict[str, Callable[[int, Path], Path]] = {
    "pairs": of_pairs,
    "pairs, shuffled labels": of_shuffled,
    "spin": of_spin,
    "spin, a second own sample": of_own_samples,
    "selm": of_selm,
    "selm, α 0.5": partial(of_selm, alpha=0.5),
    "selm, α 0": partial(of_selm, alpha=0),
    "selm, random ranks": partial(of_selm, method="random"),
}


def main() -> None:
    """One training after another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--out", type=Path, default=Path("out/recipes-tiny"))
    options = parser.parse_args()
    options.out = options.out.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    before = accuracy(MODEL)
    print(
        "| training | seed | pairs | T = 1 | chosen answers, nats | own answers, nats | s |\n|---|---|---|---|---|---|---|",
        flush=True,
    )
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
                own_answers(model),
                f"{time.monotonic() - began:.0f}",
            )
            print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
