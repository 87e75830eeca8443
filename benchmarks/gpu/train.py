"""Packed training on one GPU: kernels against their oracle, then tokens/s and MFU, packed, padded and TRL's. Ends with a table.

    python benchmarks/gpu/train.py            # one GPU, at most eight minutes
    python benchmarks/gpu/train.py --tiny     # small shapes, on a CPU too: whether each row is filled

Needs torch ≥ 2.11 and transformers ≥ 5.17; TRL's row is there where TRL is. Models have random weights, pairs random ids with
log-normal lengths (UltraFeedback's: prompts of 178 tokens, answers of 344 on average). A step is 64 pairs: forward and
backward of DPO in bfloat16 with activations computed again, and AdamW; the reference's pass is not counted, on any side.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM, Gemma2Config, LlamaConfig, MistralConfig

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "jobs"))
from selfalign_jobs.train.attention import FLEX_MULTIPLE, NAME, backend_of
from selfalign_jobs.train.batch import Example
from selfalign_jobs.train.flops import peak_flops, training_flops
from selfalign_jobs.train.losses import PairLogProbs, dpo
from selfalign_jobs.train.oracle import hold_to_oracle
from selfalign_jobs.train.packing import pack
from selfalign_jobs.train.padding import pad
from selfalign_jobs.train.scoring import add_scoring_head, answer_scores
from selfalign_jobs.train.steps import Layout, plan_step

DPO: Any = SimpleNamespace(beta=0.1, label_smoothing=0.0)


@dataclass(frozen=True)
class Scale:
    """How large everything is."""

    pairs: int
    longest: int
    budget: int
    micro: int  # pairs of a micro batch of TRL's
    seconds: float  # of measured steps, a row
    models: dict[str, Any]


def scale(tiny: bool) -> Scale:
    """Of a GPU, or of a CPU that fills the rows."""
    small = {
        "vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 16,
    }  # fmt: skip
    one = {
        "vocab_size": 128_256, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64,
    }  # fmt: skip
    two = {
        "vocab_size": 256_000, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "query_pre_attn_scalar": 256,
    }  # fmt: skip
    llama, gemma = (small, small | {"query_pre_attn_scalar": 16}) if tiny else (one, two)
    models = {
        "Llama 1B" if not tiny else "Llama, tiny": LlamaConfig(**llama, tie_word_embeddings=True, pad_token_id=0),
        "Gemma-2 2B" if not tiny else "Gemma-2, tiny": Gemma2Config(**gemma, sliding_window=24 if tiny else 4096),
    }
    return Scale(8, 64, 256, 2, 1, models) if tiny else Scale(64, 2048, 16_384, 4, 45, models)


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


def main() -> None:
    """Try the kernels, run each row, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    sizes = scale(options.tiny)
    if device == "cpu" and not options.tiny:
        raise SystemExit("no GPU is here; --tiny fills the rows on a CPU")
    card = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    rows = [*kernel_rows(sizes, device)]
    for name, config in sizes.models.items():
        for way, run in WAYS.items():
            rows.append((name, way, *measured(run, config, sizes, device)))
            print(*rows[-1], sep=" | ", flush=True)
    print(
        f"\n{card}; torch {torch.__version__}, transformers {transformers.__version__}; {time.strftime('%Y-%m-%d')}\n"
    )
    print(
        "| model | way | tokens/s | computed places/s | MFU | peak memory, GiB | loss |\n|---|---|---|---|---|---|---|"
    )
    for row in rows:
        print("| " + " | ".join(row) + " |")


def kernel_rows(sizes: Scale, device: str) -> list[tuple[str, ...]]:
    """The largest difference of outputs and gradients from attention over each sequence alone."""
    configs = sizes.models | {"Mistral, window": MistralConfig(sliding_window=4096)}
    rows = []
    for name, config in configs.items():
        for dtype in (torch.bfloat16, torch.float32):
            softcap, head = getattr(config, "attn_logit_softcapping", None), config.head_dim or 128
            kernel = backend_of(device, dtype, softcap, head)
            try:
                found = f"{max(hold_to_oracle(config, device, dtype).values()):.1e} of the largest value"
            except Exception as error:  # the table shall say which kernels fail, all of them
                found = f"FAILED: {type(error).__name__}: {str(error).splitlines()[0][:120]}"
            rows.append((name, f"kernel {kernel}, {str(dtype).removeprefix('torch.')}", found, "", "", "", ""))
            print(*rows[-1], sep=" | ", flush=True)
    return rows


def measured(run: Callable[..., dict[str, float]], config: Any, sizes: Scale, device: str) -> tuple[str, ...]:
    """A row's figures; what fails is told in its place."""
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        found = run(config, sizes, device)
    except Exception as error:
        return (f"{type(error).__name__}: {str(error).splitlines()[0][:120]}", "", "", "", "")
    peak = peak_flops(torch.cuda.get_device_name()) if device == "cuda" else None
    mfu = f"{100 * found['flops'] / found['seconds'] / peak:.1f} %" if peak else "unknown"
    memory = f"{torch.cuda.max_memory_allocated() / 2**30:.1f}" if device == "cuda" else "not told"
    return (
        f"{found['tokens'] / found['seconds']:.0f}",
        f"{found['places'] / found['seconds']:.0f}",
        mfu,
        memory,
        f"{found['loss']:.4f}",
    )


def trained(config: Any, sizes: Scale, device: str, *, packed: bool) -> dict[str, float]:
    """Steps over the same pairs, for so many seconds after the first two."""
    torch.manual_seed(0)
    softcap = getattr(config, "attn_logit_softcapping", None)
    own = "eager" if softcap else "sdpa"
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(
            config, dtype=torch.bfloat16, attn_implementation=NAME if packed else own
        )
    add_scoring_head(model)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
    examples, lengths = pairs_of(sizes, config.vocab_size)
    flex = backend_of(device, torch.bfloat16, softcap, config.head_dim) == "flex"
    (plan,) = plan_step(lengths, 1, sizes.budget, Layout(packed))
    batches = [
        (
            pack([examples[row] for row in held], held, 2, multiple=FLEX_MULTIPLE if flex else 1)
            if packed
            else pad([examples[row] for row in held], held, 2)
        ).to(torch.device(device))
        for held in plan
    ]
    flops = sum(training_flops(model, batch.places, len(batch.targets)) for batch in batches)

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

    losses, seconds = [step(), step()], []
    while not seconds or (sum(seconds) < sizes.seconds and len(seconds) < 20):
        began = time.monotonic()
        losses.append(step())  # ends with the loss on the CPU, so all is done
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.monotonic() - began)
    return {
        "tokens": float(sum(batch.tokens for batch in batches)),
        "places": float(sum(batch.places for batch in batches)),
        "flops": flops,
        "seconds": statistics.median(seconds),
        "loss": losses[0],
    }


def packed(config: Any, sizes: Scale, device: str) -> dict[str, float]:
    """One flat sequence a micro batch, prompts shared."""
    return trained(config, sizes, device, packed=True)


def padded(config: Any, sizes: Scale, device: str) -> dict[str, float]:
    """Two sequences a pair, padded to the longest."""
    return trained(config, sizes, device, packed=False)


def trl(config: Any, sizes: Scale, device: str) -> dict[str, float]:
    """Stock DPOTrainer, with precomputed reference log-probabilities that are 0, as those of the others."""
    import tempfile

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

        def on_step_end(self, *_: Any, **__: Any) -> None:
            if device == "cuda":
                torch.cuda.synchronize()
            self.ends.append(time.monotonic())

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        config,
        dtype=torch.bfloat16,
        attn_implementation="eager" if getattr(config, "attn_logit_softcapping", None) else "sdpa",
    )
    examples, lengths = pairs_of(sizes, config.vocab_size)
    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    rows = [dict(zip(names, [p.tolist(), a.tolist(), b.tolist()], strict=True)) for p, (a, b) in examples]
    clock, steps = Clock(), 3 if sizes.seconds == 1 else 6
    with tempfile.TemporaryDirectory() as folder:
        trainer = Stock(
            model=model,
            args=DPOConfig(
                output_dir=folder, per_device_train_batch_size=sizes.micro,
                gradient_accumulation_steps=sizes.pairs // sizes.micro, max_steps=steps, learning_rate=1e-6, beta=0.1,
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
    longest = (lengths[:, 0] + lengths[:, 1:].max(axis=1)).reshape(-1, sizes.micro).max(axis=1)
    places = float((2 * sizes.micro * longest).sum())
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return {
        "tokens": float(lengths.sum() + lengths[:, 0].sum()),
        "places": places,
        "flops": training_flops(model, places, float(lengths[:, 1:].sum())),
        "seconds": statistics.median(np.diff(clock.ends[1:]).tolist()),
        "loss": losses[0],
    }


WAYS = {"packed, prompt shared": packed, "padded": padded, "TRL, stock": trl}


if __name__ == "__main__":
    main()
