"""Preference training of ours ÷ stock TRL's DPOTrainer, in tokens/s: same pairs, loss, batches, optimiser and threads.

    PYTHONPATH=crds:jobs python benchmarks/train_vs_trl.py [--pairs 2500] [--epochs 3] [--runs 5]

The runs alternate, each in a process of its own. Counted are the pass that computes the reference's log-probabilities
and the training itself (ours: loading the reference too, since it is loaded for that pass alone); not counted are
imports, TRL's tokenisation, loading the policy, and our export. Tokens: prompt and response of both sequences, no padding.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "jobs"))
BATCH, BETA, RATE, SEED = 32, 0.5, 3e-4, 0


def ours(pairs: int, epochs: int) -> dict[str, float]:
    """The step program's own way: agent, rank, artefacts and all."""
    import trainings

    from selfalign_api.training_values import Loss
    from selfalign_jobs.train.program import train

    settings = {"global_batch_size": BATCH, "epochs": epochs, "learning_rate": RATE, "seed": SEED}
    plan, step = trainings.training(loss=Loss(type="dpo", beta=BETA), settings=settings)
    with tempfile.TemporaryDirectory() as folder:
        manifest = train(trainings.context(plan, Path(folder), trainings.pairs(pairs)), step)
    seconds = manifest.result["seconds"]
    return {
        "tokens": manifest.tokens["train"],
        "seconds": seconds["reference"] + seconds["train"],
        "reference": seconds["reference"],
        "loss": manifest.result["loss"],
    }


def trl(pairs: int, epochs: int) -> dict[str, float]:
    """DPOTrainer from text, with its own pass for the reference's log-probabilities."""
    import datasets
    import torch
    import trainings
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    class Timed(DPOTrainer):
        reference_seconds = 0.0

        def _precompute_ref_logps(self, dataset: datasets.Dataset, name: str, batch_size: int) -> datasets.Dataset:
            began = time.monotonic()
            found = super()._precompute_ref_logps(dataset, name, batch_size)
            self.reference_seconds += time.monotonic() - began
            return found

    def turn(role: str, content: str) -> list[dict[str, str]]:
        return [{"role": role, "content": content}]

    rows = [
        {
            "prompt": turn("user", row["prompt"]),
            "chosen": turn("assistant", row["chosen"]),
            "rejected": turn("assistant", row["rejected"]),
        }
        for row in trainings.pairs(pairs).to_pylist()
    ]
    with tempfile.TemporaryDirectory() as folder:
        trainer = Timed(
            model=AutoModelForCausalLM.from_pretrained(trainings.MODEL, dtype=torch.float32),
            args=DPOConfig(
                output_dir=folder,
                per_device_train_batch_size=BATCH,
                num_train_epochs=epochs,
                learning_rate=RATE,
                lr_scheduler_type="linear",
                warmup_steps=0.1,
                weight_decay=0.0,
                beta=BETA,
                precompute_ref_log_probs=True,
                max_length=256,
                use_cpu=True,
                bf16=False,
                gradient_checkpointing=False,
                logging_steps=1,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                seed=SEED,
            ),
            train_dataset=datasets.Dataset.from_list(rows),
            processing_class=AutoTokenizer.from_pretrained(trainings.MODEL),
        )
        began = time.monotonic()
        trainer.train()
        seconds = time.monotonic() - began + trainer.reference_seconds
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    return {
        "tokens": trainer._total_train_tokens,
        "seconds": seconds,
        "reference": trainer.reference_seconds,
        "loss": logs[-1]["loss"],
    }


def run(mode: str, pairs: int, epochs: int) -> dict[str, float]:
    """One run in a fresh process; a cache folder of its own, so that TRL finds no earlier log-probabilities."""
    with tempfile.TemporaryDirectory() as cache:
        done = subprocess.run(
            [sys.executable, __file__, "--mode", mode, "--pairs", str(pairs), "--epochs", str(epochs)],
            env=os.environ | {"HF_HOME": cache, "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Alternate, and print each run and the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=2500)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--mode", choices=("ours", "trl"), help="one run in this process, its figures as JSON")
    options = parser.parse_args()
    if options.mode:
        print(json.dumps({"ours": ours, "trl": trl}[options.mode](options.pairs, options.epochs)))
        return
    rates: dict[str, list[float]] = {"trl": [], "ours": []}
    for number in range(options.runs):
        for mode, found in rates.items():
            result = run(mode, options.pairs, options.epochs)
            found.append(result["tokens"] / result["seconds"])
            figures = ", ".join(f"{name} {value:.4g}" for name, value in result.items())
            print(f"run {number + 1} {mode:>4}: {found[-1]:8.0f} tokens/s ({figures})", flush=True)
    ours_, theirs = statistics.median(rates["ours"]), statistics.median(rates["trl"])
    print(f"median of {options.runs}: ours {ours_:.0f}, TRL {theirs:.0f} tokens/s, ratio {ours_ / theirs:.3f}")
    names = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl"))
    print(f"{names}; {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}; {time.strftime('%Y-%m-%d')}")


if __name__ == "__main__":
    main()
