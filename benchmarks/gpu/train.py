"""Benchmark: packed training on this machine's GPU, in eight minutes or less; ends with one Markdown table.

    python benchmarks/gpu/train.py [--cpu]

Needs torch ≥ 2.11 and transformers ≥ 5.17, nothing else; TRL's row is there where TRL is. First the attention kernels against
attention over each sequence alone, values and gradients; then models with random weights trained on pairs of random ids whose
lengths are log-normal (UltraFeedback's: prompts of 178 tokens and answers of 344 on average): packed, padded, and TRL's
DPOTrainer. A step is 64 pairs: forward and backward of DPO in bfloat16 with activations computed again, and AdamW; the
reference's pass is counted on no side. Without a GPU, or with --cpu: tiny shapes, to see that each row is filled.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import device as machine
import numpy as np
import torch
from transformers import AutoModelForCausalLM, Gemma2Config, LlamaConfig, MistralConfig

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "jobs"))
from selfalign_jobs.train.attention import FLEX_MULTIPLE, NAME, backend_of
from selfalign_jobs.train.batch import Example, MicroBatch
from selfalign_jobs.train.flops import Work, peak_flops
from selfalign_jobs.train.losses import PairLogProbs, dpo
from selfalign_jobs.train.oracle import TOLERANCE, hold_to_oracle
from selfalign_jobs.train.packing import pack
from selfalign_jobs.train.padding import pad
from selfalign_jobs.train.scoring import add_scoring_head, answer_scores
from selfalign_jobs.train.steps import Layout, plan_step

DPO: Any = SimpleNamespace(beta=0.1, label_smoothing=0.0)
PACKAGES = ("torch", "transformers", "triton", "trl", "numpy")
SECONDS = 430.0  # for all rows; a last one may go over
FEWEST = 3  # measured steps of a row, however long they take
MOST = 20


@dataclass(frozen=True)
class Scale:
    """How large everything is."""

    pairs: int
    longest: int
    budget: int
    micro: int  # pairs of a micro batch of TRL's
    seconds: float  # of measured steps, a row
    models: dict[str, Any]


TINY = {
    "vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16,
}  # fmt: skip
LLAMA_1B = {
    "vocab_size": 128_256, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
    "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64,
}  # fmt: skip
GEMMA_2_2B = {
    "vocab_size": 256_000, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
    "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "query_pre_attn_scalar": 256,
}  # fmt: skip


def scale(device: str) -> Scale:
    """Of a GPU, or of a CPU that fills the rows."""
    if device == "cpu":
        tiny = {
            "Llama, tiny": LlamaConfig(**TINY, tie_word_embeddings=True, pad_token_id=0),
            "Gemma-2, tiny": Gemma2Config(**TINY, query_pre_attn_scalar=16, sliding_window=24),
        }
        return Scale(8, 64, 256, 2, 1, tiny)
    models = {
        "Llama, 1B": LlamaConfig(**LLAMA_1B, tie_word_embeddings=True, pad_token_id=0),
        "Gemma-2, 2B": Gemma2Config(**GEMMA_2_2B, sliding_window=4096),
    }
    return Scale(64, 2048, 16_384, 4, 45, models)


def pairs_of(sizes: Scale, vocabulary: int) -> tuple[list[Example], np.ndarray]:
    """Pairs, and their lengths."""
    rng = np.random.default_rng(0)
    prompts = rng.lognormal(4.6, 0.9, sizes.pairs)
    answers = rng.lognormal(5.5, 0.7, (sizes.pairs, 2))
    lengths = np.column_stack([np.clip(prompts, 4, sizes.longest // 2), np.clip(answers, 2, sizes.longest // 2)])
    lengths = lengths.astype(np.int64)
    examples = [
        (rng.integers(3, vocabulary, p), [rng.integers(3, vocabulary, a) for a in both]) for p, *both in lengths
    ]
    return examples, lengths


# --- kernels ----------------------------------------------------------------------------------------------------------


def kernel_rows(device: str) -> Iterator[tuple[str, str]]:
    """Each kernel, with and without window and soft cap, and how far outputs and gradients are from the oracle's."""
    heads = {"num_attention_heads": 8, "num_key_value_heads": 2, "hidden_size": 512}
    plain, windowed = LlamaConfig(**heads, head_dim=64), MistralConfig(**heads, head_dim=128, sliding_window=4096)
    capped = Gemma2Config(**heads, head_dim=256, num_hidden_layers=2, sliding_window=4096)
    half, full = torch.bfloat16, torch.float32
    tries = [("flex", config, dtype) for config in (plain, windowed, capped) for dtype in (half, full)]
    own = (
        [("varlen", config, half) for config in (plain, windowed)] if device == "cuda" else [("batched", capped, half)]
    )
    for kernel, config, dtype in [*own, *tries]:
        try:
            found = hold_to_oracle(config, device, dtype, kernel)
            words = "; ".join(f"{name}: {difference:.1e}" for name, difference in found.items())
        except Exception as error:  # the table shall say which kernels fail, all of them
            words = _failed(error)
        bits = str(dtype).removeprefix("torch.")
        yield f"{kernel}, {bits}, heads of {config.head_dim}", f"{words} (at most {TOLERANCE[dtype]:.0e})"


def _failed(error: Exception) -> str:
    return f"**failed**: {type(error).__name__}: {(str(error).splitlines() or [''])[0][:120]}"


# --- training ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """A side's step."""

    tokens: float  # of prompts and answers, a prompt once an answer
    places: float  # computed
    flops: float
    seconds: float
    loss: float  # of the first step


def trained(config: Any, sizes: Scale, device: str, seconds: float, *, packed: bool) -> Measured:
    """Ours: steps over the same pairs for so many seconds, after two that compile."""
    model = _model(config, device, NAME if packed else None)
    add_scoring_head(model)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
    examples, lengths = pairs_of(sizes, config.vocab_size)
    softcap = getattr(config, "attn_logit_softcapping", None)
    multiple = FLEX_MULTIPLE if backend_of(device, torch.bfloat16, softcap, config.head_dim) == "flex" else 1
    (plan,) = plan_step(lengths, 1, sizes.budget, Layout(packed))

    def laid_out(held: np.ndarray) -> MicroBatch:
        of_these = [examples[row] for row in held]
        found = pack(of_these, held, 2, multiple=multiple) if packed else pad(of_these, held, 2)
        return found.to(torch.device(device))

    batches = [laid_out(held) for held in plan]

    def step() -> float:
        total = 0.0
        for batch in batches:
            scores, counts = answer_scores(model, batch), batch.answer_lengths
            pairs = PairLogProbs(*scores.unbind(1), *counts.unbind(1), *torch.zeros_like(scores).unbind(1))
            loss = dpo(pairs, DPO).loss.sum() / sizes.pairs
            loss.backward()
            total += float(loss.detach())
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return total

    losses, took = [step(), step()], list[float]()
    while len(took) < FEWEST or (sum(took) < seconds and len(took) < MOST):
        _wait(device)
        began = time.monotonic()
        losses.append(step())
        _wait(device)
        took.append(time.monotonic() - began)
    return _measured(Work.of(model), batches, statistics.median(took), losses[0])


def trl(config: Any, sizes: Scale, device: str, seconds: float) -> Measured:
    """Stock DPOTrainer, with reference log-probabilities that are 0 as those of the others, in the pairs' own order."""
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase, TrainerCallback
    from trl import DPOConfig, DPOTrainer
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    class IdsOnly(PreTrainedTokenizerBase):
        pad_token, pad_token_id = "<pad>", 0

    class Stock(DPOTrainer):
        def _prepare_dataset(self, dataset: Dataset, *_: object) -> Dataset:
            return dataset

        def _precompute_ref_logps(self, dataset: Dataset, *_: object) -> Dataset:
            zeros = [0.0] * len(dataset)
            return dataset.add_column("ref_chosen_logps", zeros).add_column("ref_rejected_logps", zeros)

    class Clock(TrainerCallback):
        ends: list[float] = []

        def on_step_end(self, *given: Any, **_: Any) -> Any:
            _wait(device)
            self.ends.append(time.monotonic())
            control, measured = given[2], self.ends[-1] - self.ends[0]  # the first step is not counted
            control.should_training_stop = len(self.ends) > FEWEST and measured > seconds
            return control

    examples, _ = pairs_of(sizes, config.vocab_size)
    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    rows = [dict(zip(names, [p.tolist(), a.tolist(), b.tolist()], strict=True)) for p, (a, b) in examples]
    model, clock = _model(config, device, None), Clock()
    work = Work.of(model)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Stock(
            model=model,
            args=DPOConfig(
                output_dir=folder, per_device_train_batch_size=sizes.micro,
                gradient_accumulation_steps=sizes.pairs // sizes.micro, max_steps=MOST, learning_rate=1e-6, beta=0.1,
                precompute_ref_log_probs=True, max_length=None, use_cpu=device == "cpu", bf16=True,
                gradient_checkpointing=True, logging_steps=1, save_strategy="no", report_to="none", disable_tqdm=True,
                remove_unused_columns=False,
            ),
            data_collator=DataCollatorForPreference(pad_token_id=0),
            train_dataset=Dataset.from_list(rows),
            processing_class=IdsOnly(),
            callbacks=[clock],
        )  # fmt: skip
        trainer.train()
    held = np.arange(sizes.pairs).reshape(-1, sizes.micro)  # as if in this order: the trainer draws one as good
    batches = [pad([examples[row] for row in of_these], of_these, 2) for of_these in held]
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return _measured(work, batches, statistics.median(np.diff(clock.ends).tolist()), losses[0])


WAYS: dict[str, Callable[..., Measured]] = {
    "packed": lambda *given: trained(*given, packed=True),
    "padded": lambda *given: trained(*given, packed=False),
    "TRL": trl,
}


def _model(config: Any, device: str, attention: str | None) -> Any:
    """Random weights; an attention that knows the model's soft cap."""
    torch.manual_seed(0)
    own = "eager" if getattr(config, "attn_logit_softcapping", None) else "sdpa"
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation=attention or own)


def _measured(work: Work, batches: list[MicroBatch], seconds: float, loss: float) -> Measured:
    tokens, places = (float(sum(getattr(batch, name) for batch in batches)) for name in ("tokens", "places"))
    return Measured(tokens, places, sum(work.flops(batch) for batch in batches), seconds, loss)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def row_of(way: str, config: Any, sizes: Scale, device: str, left: float) -> str:
    """A row's figures; what fails is told in its place."""
    if way == "TRL" and importlib.util.find_spec("trl") is None:
        return "not installed"
    if left < 0:
        return "not measured: the time was up"
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        found = WAYS[way](config, sizes, device, min(sizes.seconds, left))
    except Exception as error:
        return _failed(error)
    peak = peak_flops(torch.cuda.get_device_name()) if device == "cuda" else None
    mfu = f"MFU {found.flops / found.seconds / peak:.1%}" if peak else "no MFU: the peak is not known"
    memory = [f"{torch.cuda.max_memory_allocated() / machine.GIB:.1f} GiB"] if device == "cuda" else []
    rates = f"**{found.tokens / found.seconds:,.0f}** tokens/s, {found.places / found.seconds:,.0f} computed"
    speed = f"{found.flops / found.seconds / 1e12:,.3g} TFLOP/s"
    return ", ".join([rates, speed, mfu, *memory, f"a step {found.seconds:.2f} s", f"first loss {found.loss:.3f}"])


# --- the table --------------------------------------------------------------------------------------------------------


def rows(device: str) -> Iterator[tuple[str, str]]:
    """The rows of the table, each as soon as it is there."""
    start, sizes = time.monotonic(), scale(device)
    yield "device", _device(device)
    yield "versions", machine.today(PACKAGES)
    for kernel, words in kernel_rows(device):
        yield f"kernel {kernel}", words
    waiting = [(name, way) for name in sizes.models for way in WAYS]
    for number, (name, way) in enumerate(waiting):
        left = (SECONDS - (time.monotonic() - start)) / (len(waiting) - number)
        yield f"{name}: {way}", row_of(way, sizes.models[name], sizes, device, left)
    yield "all of this took", f"{time.monotonic() - start:.0f} s"


def _device(device: str) -> str:
    if device == "cpu":
        return machine.find(cpu=True).line
    facts = torch.cuda.get_device_properties(0)
    try:
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        driver = "unknown"
    memory = f"{facts.total_memory / machine.GIB:.0f} GiB, compute capability {facts.major}.{facts.minor}"
    return f"{facts.name}, {memory}, driver {driver}, CUDA {torch.version.cuda}"


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu", action="store_true", help="not on the GPU, should there be one")
    device = "cuda" if torch.cuda.is_available() and not parser.parse_args().cpu else "cpu"
    found = []
    for row in rows(device):
        print(": ".join(row), flush=True)
        found.append(row)
    if device == "cpu":
        print("\nThese figures are a CPU's: they show that the table can be filled, and nothing about a GPU.")
    print("\n| what | measured |\n|---|---|")
    for what, measured in found:
        print(f"| {what} | {measured} |")


if __name__ == "__main__":
    main()
