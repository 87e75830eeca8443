"""Packed ÷ padded ÷ stock TRL's DPOTrainer, in tokens/s, on pairs of skewed lengths and random models.

    python benchmarks/train_skewed.py [--models llama gemma2] [--pairs 24] [--runs 3] [--micro 1 2 4]

Prompts of 128 to 512 tokens and answers of 16 to 512, log-normal; a Llama of 20 M parameters and a Gemma-2 of 17 M (soft caps,
a window of 256). Each run is a process of its own; the sides take turns. Counted: the pass for the reference's
log-probabilities and the training; not counted: imports and making the model. TRL is tried with each micro batch once, and
goes on with its best. `padded` is the layout for models that the packed attention does not know: the trainer as it was
before. Tokens: prompt and response of both sequences, no padding. The last line is the smallest ratio of the models.
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
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / folder) for folder in ("jobs", "crds")]
# Seconds by the clock; beside other work, CPU seconds of one thread (SELFALIGN_CLOCK=cpu OMP_NUM_THREADS=1).
now = time.process_time if os.environ.get("SELFALIGN_CLOCK") == "cpu" else time.monotonic
BATCH, BETA, RATE = 12, 0.1, 1e-4
SHAPE: dict[str, Any] = {
    "vocab_size": 8192,
    "hidden_size": 384,
    "intermediate_size": 1024,
    "num_hidden_layers": 9,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 2048,
    "pad_token_id": 0,
}


def lengths(pairs: int) -> np.ndarray:
    """Tokens of prompt, chosen and rejected."""
    rng = np.random.default_rng(7)
    prompts = np.clip(rng.lognormal(5.5, 0.5, pairs), 128, 512)
    answers = np.clip(rng.lognormal(5.2, 0.8, (pairs, 2)), 16, 512)
    return np.column_stack([prompts, answers]).astype(np.int64)


def table(pairs: int) -> Any:
    """Random ids of those lengths."""
    import pyarrow as pa

    rng = np.random.default_rng(8)
    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    rows = [
        {name: rng.integers(3, SHAPE["vocab_size"], n).tolist() for name, n in zip(names, row, strict=True)}
        for row in lengths(pairs)
    ]
    return pa.Table.from_pylist(rows, pa.schema([(name, pa.list_(pa.int32())) for name in names]))


def random_model(name: str, attention: str | None) -> Any:
    """The model, in float32; `attention` None: its own."""
    import torch
    from transformers import AutoModelForCausalLM, Gemma2Config, LlamaConfig

    torch.manual_seed(0)
    if name == "llama":
        config: Any = LlamaConfig(**SHAPE, tie_word_embeddings=False)
    else:
        config = Gemma2Config(**SHAPE, sliding_window=256, query_pre_attn_scalar=64)
        attention = attention or "eager"  # transformers' other attentions leave out the soft cap
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation=attention)


def ours(name: str, pairs: int, budget: int, *, packed: bool) -> dict[str, float]:
    """Reference and training as a rank does them (train/work.py), without its files."""
    import torch

    from selfalign_api.plan import Loss, ModelRef, Prepare, Train, TrainSettings
    from selfalign_api.run_file import TrainingMeans
    from selfalign_jobs.train import reference
    from selfalign_jobs.train.attention import NAME
    from selfalign_jobs.train.dataset import TokenIds, lengths_of
    from selfalign_jobs.train.loader import Steps, collator
    from selfalign_jobs.train.objectives import objective_of
    from selfalign_jobs.train.scoring import add_scoring_head
    from selfalign_jobs.train.settings import trainer_arguments
    from selfalign_jobs.train.steps import Layout, order
    from selfalign_jobs.train.trainer import StepTrainer

    layout = Layout(packed)
    examples, collate = table(pairs), collator(layout, 2)
    settings = TrainSettings(learning_rate=RATE, precision="float32", global_batch_size=BATCH)
    step = Train(
        name="train", iteration=1, loss=Loss(type="dpo", beta=BETA), data=Prepare(fn="pairs"), start=ModelRef(),
        result=ModelRef(iteration=1), settings=settings,
    )  # fmt: skip
    means = TrainingMeans(device="CPU", activation_checkpointing="None")
    model = random_model(name, NAME if packed else None)
    add_scoring_head(model)
    steps = Steps(
        TokenIds(examples), lengths_of(examples), order(pairs, 1, BATCH, 0),
        ranks=1, rank=0, budget=budget, layout=layout, collate=collate,
    )  # fmt: skip
    log: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        arguments = trainer_arguments(step, means, len(steps), Path(folder))
        trainer = StepTrainer(
            model=model, args=arguments, steps=steps, objective=objective_of(step.loss), on_log=log.append
        )
        began = now()
        with torch.no_grad():
            scored = reference.compute(
                model, examples, collate=collate, budget=budget, layout=layout, device=arguments.device,
                ranks=1, rank=0, stop_asked=lambda: False, on_progress=lambda _: None,
            )  # fmt: skip
        seconds_reference = now() - began
        trainer.take_reference(scored)
        trainer.train()
        seconds = now() - began
    began = now()
    for number in range(len(steps)):
        steps[number]
    laid_out = now() - began
    return {
        "seconds": seconds,
        "reference": seconds_reference,
        "computed": sum(row["computed_tokens"] for row in log),
        "laid_out": laid_out,
        "loss": log[-1]["loss"],
    }


def trl(name: str, pairs: int, micro: int) -> dict[str, float]:
    """DPOTrainer, with its own pass for the reference's log-probabilities, on the same ids."""
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase
    from trl import DPOConfig, DPOTrainer
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    class IdsOnly(PreTrainedTokenizerBase):
        pad_token, pad_token_id = "<pad>", 0

    class Timed(DPOTrainer):
        reference_seconds = 0.0

        def _prepare_dataset(self, dataset: Dataset, *_: object) -> Dataset:
            return dataset

        def _precompute_ref_logps(self, *arguments: Any) -> Any:
            began = now()
            found = super()._precompute_ref_logps(*arguments)
            self.reference_seconds += now() - began
            return found

    with tempfile.TemporaryDirectory() as folder:
        trainer = Timed(
            model=random_model(name, None),
            args=DPOConfig(
                output_dir=folder, per_device_train_batch_size=micro, gradient_accumulation_steps=BATCH // micro,
                num_train_epochs=1, learning_rate=RATE, beta=BETA, precompute_ref_log_probs=True,
                precompute_ref_batch_size=micro, max_length=None, use_cpu=True, bf16=False, gradient_checkpointing=False,
                logging_steps=1, save_strategy="no", report_to="none", disable_tqdm=True, remove_unused_columns=False,
            ),
            data_collator=DataCollatorForPreference(pad_token_id=0),
            train_dataset=Dataset(table(pairs)),
            processing_class=IdsOnly(),
        )  # fmt: skip
        began = now()
        trainer.train()
        seconds = now() - began + trainer.reference_seconds
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return {"seconds": seconds, "reference": trainer.reference_seconds, "loss": losses[-1]}


def measured(options: argparse.Namespace, model: str, side: str, micro: int) -> float:
    """Tokens/s of one run in a fresh process."""
    command = [sys.executable, __file__, "--run", side, "--models", model, "--pairs", str(options.pairs)]
    with tempfile.TemporaryDirectory() as cache:
        done = subprocess.run(
            [*command, "--micro", str(micro), "--budget", str(options.budget)],
            env=os.environ | {"HF_HOME": cache, "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise SystemExit(done.stderr)
    found = json.loads(done.stdout.splitlines()[-1])
    rows = lengths(options.pairs)
    rate = float((rows.sum() + rows[:, 0].sum()) / found["seconds"])
    figures = ", ".join(f"{name} {value:.4g}" for name, value in found.items())
    print(f"{model} {side}{f' micro {micro}' if side == 'trl' else ''}: {rate:.0f} tokens/s ({figures})", flush=True)
    return rate


def compared(options: argparse.Namespace, model: str) -> tuple[float, float]:
    """Packed ÷ TRL at its best, packed ÷ padded: medians."""
    tried = {micro: measured(options, model, "trl", micro) for micro in options.micro}
    best = max(tried, key=lambda micro: tried[micro])
    rates: dict[str, list[float]] = {"packed": [], "padded": [], "trl": [tried[best]]}
    for _ in range(options.runs):
        for side in ("packed", "padded"):
            rates[side].append(measured(options, model, side, best))
    rates["trl"].append(measured(options, model, "trl", best))
    packed, padded, stock = (statistics.median(rates[side]) for side in ("packed", "padded", "trl"))
    print(f"{model}: packed {packed:.0f}, padded {padded:.0f}, TRL (micro {best}) {stock:.0f} tokens/s")
    return packed / stock, packed / padded


def main() -> None:
    """Take turns, and print each run, the medians and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=("llama", "gemma2"), default=["llama", "gemma2"])
    parser.add_argument("--pairs", type=int, default=24)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--micro", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--budget", type=int, default=2048)
    parser.add_argument(
        "--run", choices=("packed", "padded", "trl"), help="one run in this process, its figures as JSON"
    )
    options = parser.parse_args()
    if options.run == "trl":
        print(json.dumps(trl(options.models[0], options.pairs, options.micro[0])))
    elif options.run:
        print(json.dumps(ours(options.models[0], options.pairs, options.budget, packed=options.run == "packed")))
    else:
        ratios = [compared(options, model) for model in options.models]
        names = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl"))
        print(
            f"{names}; {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}; {time.strftime('%Y-%m-%d')}"
        )
        stock, padded = (min(ratio[side] for ratio in ratios) for side in (0, 1))
        print(f"packed / TRL {stock:.2f}, packed / padded {padded:.2f}")


if __name__ == "__main__":
    main()
