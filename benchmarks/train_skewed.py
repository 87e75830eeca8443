"""Packed ÷ padded ÷ stock TRL, in tokens/s: pairs of skewed lengths, targets alone, and the tiny model's own pairs.

    python benchmarks/train_skewed.py [--cases llama gemma2 tiny sft shots] [--pairs 12] [--runs 3] [--micro 1 2 4]

llama, gemma2: DPO on prompts of 128 to 512 tokens and answers of 16 to 512, log-normal; a random Llama of 20 M parameters
and a random Gemma-2 of 17 M (soft caps, a window of 256). sft: that Llama on prompts and chosen answers of twice as many
rows, loss on the answers; TRL's SFTTrainer with `packing`. shots (by name only, with `--budget 8192`): IPO by that Llama on
prompts of 1 024 to 4 096 tokens with answers of 16 to 256, as FSPO's windows are; TRL's `ipo` divides by length, which costs
nothing. tiny: DPO on 80 times as many pairs in the tiny model's language.

Each run is a process of its own; the sides take turns. Counted: the pass for the reference's log-probabilities, where there
is one, and the training; not counted: imports and making the model. TRL is tried in each of its ways (micro batches;
strategies of packing) once, and goes on with its best. `padded` is the layout for models that the packed attention does not
know: the trainer as it was before. Tokens: prompt and response of both sequences, no padding. `layout`: planning and
collating, as a share of the training. The last line is the smallest ratio of the skewed pairs.
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
from typing import Any, Literal

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / folder) for folder in ("jobs", "crds", "tests/jobs")]
# Seconds by the clock; beside other work, CPU seconds of one thread (SELFALIGN_CLOCK=cpu OMP_NUM_THREADS=1).
now = time.process_time if os.environ.get("SELFALIGN_CLOCK") == "cpu" else time.monotonic
BETA, RATE = 0.1, 1e-4
CASES = ("llama", "gemma2", "tiny", "sft", "shots")
BATCH = {"llama": 12, "gemma2": 12, "tiny": 32, "sft": 12, "shots": 12}
SHAPE: dict[str, Any] = {
    "vocab_size": 8192,
    "hidden_size": 384,
    "intermediate_size": 1024,
    "num_hidden_layers": 9,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 8192,
    "pad_token_id": 0,
}


def lengths(case: str, pairs: int) -> np.ndarray:
    """Tokens of prompt, chosen and rejected."""
    rng = np.random.default_rng(7)
    if case == "shots":
        prompts = np.clip(rng.lognormal(7.6, 0.4, pairs), 1024, 4096)
        answers = np.clip(rng.lognormal(4.4, 0.7, (pairs, 2)), 16, 256)
        return np.column_stack([prompts, answers]).astype(np.int64)
    prompts = np.clip(rng.lognormal(5.5, 0.5, pairs), 128, 512)
    answers = np.clip(rng.lognormal(5.2, 0.8, (pairs, 2)), 16, 512)
    return np.column_stack([prompts, answers]).astype(np.int64)


def table(case: str, pairs: int) -> Any:
    """Token ids: the tiny model's own, or random ones of those lengths."""
    import pyarrow as pa
    import trainings

    names = ["prompt_ids", "chosen_ids", "rejected_ids"]
    if case == "tiny":
        return trainings.pairs(80 * pairs).select(names)
    if case == "sft":
        names, pairs = ["prompt_ids", "target_ids"], 2 * pairs
    rng = np.random.default_rng(8)
    rows = [
        {name: rng.integers(3, SHAPE["vocab_size"], n).tolist() for name, n in zip(names, row, strict=False)}
        for row in lengths(case, pairs)
    ]
    return pa.Table.from_pylist(rows, pa.schema([(name, pa.list_(pa.int32())) for name in names]))


def pairwise(case: str) -> Literal["dpo", "ipo"]:
    """The loss of a case of pairs."""
    return "ipo" if case == "shots" else "dpo"


def model_of(case: str, attention: str | None) -> Any:
    """The model, in float32; `attention` None: its own."""
    import torch
    import trainings
    from transformers import AutoModelForCausalLM, Gemma2Config, LlamaConfig

    if case == "tiny":
        return AutoModelForCausalLM.from_pretrained(trainings.MODEL, dtype=torch.float32, attn_implementation=attention)
    torch.manual_seed(0)
    if case == "gemma2":
        config: Any = Gemma2Config(**SHAPE, sliding_window=256, query_pre_attn_scalar=64)
        attention = attention or "eager"  # transformers' other attentions leave out the soft cap
    else:
        config = LlamaConfig(**SHAPE, tie_word_embeddings=False)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation=attention)


def ours(case: str, pairs: int, budget: int, *, packed: bool) -> dict[str, float]:
    """Reference and training as a rank does them (train/work.py), without its files."""
    import torch

    from selfalign_api.plan import ModelRef, Prepare, Train
    from selfalign_api.run_file import TrainingMeans
    from selfalign_api.training_values import Loss, TrainSettings
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
    examples = table(case, pairs)
    rows, columns = len(examples), examples.num_columns
    collate, counts = collator(layout, columns - 1), lengths_of(examples)
    settings = TrainSettings(learning_rate=RATE, precision="float32", global_batch_size=BATCH[case])
    step = Train(
        name="train", iteration=1, loss=Loss(type="sft") if case == "sft" else Loss(type=pairwise(case), beta=BETA),
        data=Prepare(fn="pairs"), start=ModelRef(), result=ModelRef(iteration=1), settings=settings,
    )  # fmt: skip
    means = TrainingMeans(device="CPU", activation_checkpointing="None")
    model = model_of(case, NAME if packed else None)
    add_scoring_head(model)
    steps = Steps(
        TokenIds(examples), counts, order(rows, 1, BATCH[case], 0),
        ranks=1, rank=0, budget=budget, layout=layout, collate=collate,
    )  # fmt: skip
    log: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        arguments = trainer_arguments(step, means, len(steps), Path(folder))
        trainer = StepTrainer(
            model=model, args=arguments, steps=steps, objective=objective_of(step.loss), on_log=log.append
        )
        began = now()
        if case != "sft":
            with torch.no_grad():
                scored = reference.compute(
                    model, examples, collate=collate, budget=budget, layout=layout, device=arguments.device,
                    ranks=1, rank=0, stop_asked=lambda: False, on_progress=lambda _: None,
                )  # fmt: skip
            trainer.take_reference(scored)
        seconds_reference = now() - began
        trainer.train()
        seconds = now() - began
    began = now()
    for number in range(len(steps)):
        steps[number]
    laid_out = now() - began
    return {
        "tokens": float(counts.sum() + counts[:, 0].sum() * (columns - 2)),
        "seconds": seconds,
        "reference": seconds_reference,
        "computed": sum(row["computed_tokens"] for row in log),
        "layout": laid_out / (seconds - seconds_reference),
        "loss": log[-1]["loss"],
    }


def trl_pairs(case: str, pairs: int, way: str) -> dict[str, float]:
    """DPOTrainer, with its own pass for the reference's log-probabilities, on the same ids; `way`: pairs of a micro batch."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    class Timed(DPOTrainer):
        reference_seconds = 0.0

        def _prepare_dataset(self, dataset: Dataset, *_: object) -> Dataset:
            return dataset

        def _precompute_ref_logps(self, *arguments: Any) -> Any:
            began = now()
            found = super()._precompute_ref_logps(*arguments)
            self.reference_seconds += now() - began
            return found

    examples, micro = table(case, pairs), int(way)
    theirs = "sigmoid" if pairwise(case) == "dpo" else "ipo"
    with tempfile.TemporaryDirectory() as folder:
        trainer = Timed(
            model=model_of(case, None),
            args=DPOConfig(
                **trl_arguments(folder), per_device_train_batch_size=micro,
                gradient_accumulation_steps=BATCH[case] // micro, beta=BETA, loss_type=theirs, precompute_ref_log_probs=True,
                precompute_ref_batch_size=micro, max_length=None, remove_unused_columns=False,
            ),
            data_collator=DataCollatorForPreference(pad_token_id=0),
            train_dataset=Dataset(examples),
            processing_class=ids_only(),
        )  # fmt: skip
        return trl_figures(trainer, examples, trainer.reference_seconds)


def trl_targets(case: str, pairs: int, way: str) -> dict[str, float]:
    """SFTTrainer, packing on the same ids; `way`: its strategy and the tokens of a pack, such as `bfd-1024`."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    examples, (strategy, longest) = table(case, pairs), way.split("-")
    rows = [
        {
            "input_ids": row["prompt_ids"] + row["target_ids"],
            "labels": [-100] * len(row["prompt_ids"]) + row["target_ids"],
        }
        for row in examples.to_pylist()
    ]
    tokens = sum(len(row["input_ids"]) for row in rows)
    packs = max(1, round(BATCH[case] * tokens / len(rows) / int(longest)))  # that hold about a step's examples
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=model_of(case, None),
            args=SFTConfig(
                **trl_arguments(folder), per_device_train_batch_size=1, gradient_accumulation_steps=packs, packing=True,
                packing_strategy=strategy, max_length=int(longest),
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=ids_only(),
        )  # fmt: skip
        return trl_figures(trainer, examples, 0.0)


def trl_arguments(folder: str) -> dict[str, Any]:
    """What both of its trainers are told: one epoch on the CPU in float32, and nothing saved."""
    return {
        "output_dir": folder, "num_train_epochs": 1, "learning_rate": RATE, "use_cpu": True, "bf16": False,
        "gradient_checkpointing": False, "logging_steps": 1, "save_strategy": "no", "report_to": "none", "disable_tqdm": True,
    }  # fmt: skip


def ids_only() -> Any:
    """What TRL gets for a tokenizer: ids need none."""
    from transformers import PreTrainedTokenizerBase

    class IdsOnly(PreTrainedTokenizerBase):
        pad_token, eos_token = "<pad>", "<eos>"
        pad_token_id, eos_token_id = 0, 1

        def get_vocab(self) -> dict[str, int]:
            return {"<pad>": 0, "<eos>": 1}

    return IdsOnly()


def trl_figures(trainer: Any, examples: Any, seconds_reference: float) -> dict[str, float]:
    """Train, and count as for ours."""
    from selfalign_jobs.train.dataset import lengths_of

    began = now()
    trainer.train()
    seconds, counts = now() - began + seconds_reference, lengths_of(examples)
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return {
        "tokens": float(counts.sum() + counts[:, 0].sum() * (counts.shape[1] - 2)),
        "seconds": seconds,
        "reference": seconds_reference,
        "loss": losses[-1],
    }


def measured(options: argparse.Namespace, case: str, side: str) -> float:
    """Tokens/s of one run in a fresh process."""
    command = [sys.executable, __file__, "--run", side, "--cases", case, "--pairs", str(options.pairs)]
    with tempfile.TemporaryDirectory() as cache:
        done = subprocess.run(
            [*command, "--budget", str(options.budget)],
            env=os.environ | {"HF_HOME": cache, "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise SystemExit(done.stderr)
    found = json.loads(done.stdout.splitlines()[-1])
    rate: float = found["tokens"] / found["seconds"]
    figures = ", ".join(f"{name} {value:.4g}" for name, value in found.items())
    print(f"{case} {side}: {rate:.0f} tokens/s ({figures})", flush=True)
    return rate


def compared(options: argparse.Namespace, case: str) -> tuple[float, float]:
    """Packed ÷ TRL at its best, packed ÷ padded: medians."""
    ways = {"sft": ["bfd-1024", "wrapped-1024"], "tiny": ["32"]}.get(case, list(map(str, options.micro)))
    tried = {way: measured(options, case, f"trl-{way}") for way in ways}
    best = max(tried, key=lambda way: tried[way])
    rates: dict[str, list[float]] = {"packed": [], "padded": [], f"trl-{best}": [tried[best]]}
    for number in range(options.runs):
        for side, found in rates.items():
            if len(found) == number:
                found.append(measured(options, case, side))
    packed, padded, stock = (statistics.median(found) for found in rates.values())
    print(
        f"{case}: packed {packed:.0f}, padded {padded:.0f}, TRL ({best}) {stock:.0f} tokens/s: "
        f"packed / TRL {packed / stock:.2f}, packed / padded {packed / padded:.2f}",
        flush=True,
    )
    return packed / stock, packed / padded


def main() -> None:
    """Take turns, and print each run, the medians and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES[:-1])
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--micro", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--budget", type=int, default=2048)
    parser.add_argument(
        "--run", help="one side in this process, its figures as JSON: packed, padded, or trl- and its way"
    )
    options = parser.parse_args()
    if options.run:
        case, (side, _, way) = options.cases[0], options.run.partition("-")
        if side == "trl":
            found = (trl_targets if case == "sft" else trl_pairs)(case, options.pairs, way)
        else:
            found = ours(case, options.pairs, options.budget, packed=side == "packed")
        print(json.dumps(found))
        return
    ratios = {case: compared(options, case) for case in options.cases}
    names = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl"))
    clock = "CPU seconds" if now is time.process_time else "seconds by the clock"
    cores = len(os.sched_getaffinity(0))
    print(f"{names}; {clock}, {cores} cores, load {os.getloadavg()[0]:.1f}; {time.strftime('%Y-%m-%d')}")
    skewed = [ratio for case, ratio in ratios.items() if case in ("llama", "gemma2")] or list(ratios.values())
    stock, padded = (min(ratio[side] for ratio in skewed) for side in (0, 1))
    print(f"packed / TRL {stock:.2f}, packed / padded {padded:.2f}")


if __name__ == "__main__":
    main()
