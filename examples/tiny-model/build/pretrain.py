"""Train the tiny model's weights: first on clean answers until it can judge, then on sloppy answers.

Phase 1 ends when the judge's loss says that the verdict is learnt, not when the clock says so; phase 2 has a fixed
length and brings the learning rate to zero. Label noise from the first step on would slow everything, and the habits
of phase 2 are learnt in a few hundred steps.
"""

import random
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import torch
from batches import make_batch
from samples import Sample, draw_step
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

HIDDEN_LR, OTHER_LR = 0.01, 1e-3
LABEL_WEIGHT, COPY_WEIGHT = 2.0, 0.5
JUDGE_WINDOW, JUDGE_TARGET = 50, 0.35
CHECKPOINT_EVERY, LINE_EVERY = 200, 25


@dataclass
class Lengths:
    """Steps of the two phases; the first is an upper bound until the judge's loss ends it."""

    clean: int
    sloppy: int


@dataclass
class Progress:
    """Where a training is. `clean_steps` is None until phase 1 has ended."""

    rng: random.Random
    step: int = 0
    clean_steps: int | None = None
    judge_losses: deque[float] = field(default_factory=lambda: deque(maxlen=JUDGE_WINDOW))


def new_model(tokenizer: PreTrainedTokenizerFast, max_length: int) -> LlamaForCausalLM:
    """0.75 M parameters. Not Qwen2: AutoTokenizer would replace our tokenizer by that model type's own."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=4,
            head_dim=32,
            tie_word_embeddings=True,
            rope_parameters={"rope_type": "default", "rope_theta": 1000.0},
            initializer_range=0.05,
            max_position_embeddings=max_length,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def optimizers(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for the embeddings and the norms."""
    hidden = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    other = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(hidden, lr=HIDDEN_LR),
        torch.optim.AdamW(other, lr=OTHER_LR, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def loss_of(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, samples: list[Sample]
) -> tuple[torch.Tensor, int]:
    """Mean over the samples of the summed token losses (nats), and how many tokens were read."""
    batch = make_batch(tokenizer, samples, LABEL_WEIGHT)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model.model(input_ids=batch.ids[:, :-1], use_cache=False).last_hidden_state
        learnt = batch.weights > 0
        logits = model.lm_head(hidden[learnt])
    losses = functional.cross_entropy(logits.float(), batch.ids[:, 1:][learnt], reduction="none")
    return (losses * batch.weights[learnt]).sum() / len(samples), int((batch.ids != tokenizer.pad_token_id).sum())


def train_step(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    optims: list[torch.optim.Optimizer],
    rng: random.Random,
    *,
    sloppy: bool,
) -> tuple[dict[str, float], int]:
    """One step: a pass for each kind of sample, so that little is padded. Returns their losses and the tokens read."""
    step = draw_step(rng, sloppy=sloppy)
    losses, tokens = {}, 0
    for kind, samples, weight in (
        ("short", step.short, 1.0),
        ("judge", step.judge, 1.0),
        ("copy", step.copy, COPY_WEIGHT),
    ):
        if not samples:
            continue
        loss, read = loss_of(model, tokenizer, samples)
        (loss * weight).backward()
        losses[kind], tokens = loss.item(), tokens + read
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optim in optims:
        optim.step()
        optim.zero_grad(set_to_none=True)
    return losses, tokens


def save_checkpoint(
    path: Path, model: LlamaForCausalLM, optims: list[torch.optim.Optimizer], progress: Progress
) -> None:
    """Write the whole state beside its name and rename it, so that a kill leaves the last checkpoint whole."""
    part = path.with_suffix(".part")
    torch.save({"model": model.state_dict(), "optims": [o.state_dict() for o in optims], "progress": progress}, part)
    part.rename(path)


def load_checkpoint(path: Path, model: LlamaForCausalLM, optims: list[torch.optim.Optimizer]) -> Progress:
    """Put a saved state into the model and its optimisers."""
    state = torch.load(path, weights_only=False)
    model.load_state_dict(state["model"])
    for optim, saved in zip(optims, state["optims"], strict=True):
        optim.load_state_dict(saved)
    progress: Progress = state["progress"]
    return progress


def set_learning_rate(optims: list[torch.optim.Optimizer], share: float) -> None:
    """Set both optimisers to a share of their peak."""
    for optim, peak in zip(optims, (HIDDEN_LR, OTHER_LR), strict=True):
        for group in optim.param_groups:
            group["lr"] = peak * share


def phase_is_learnt(progress: Progress, lengths: Lengths) -> bool:
    """Phase 1 ends when the verdict is learnt, or at its bound."""
    losses = progress.judge_losses
    learnt = len(losses) == JUDGE_WINDOW and sum(losses) / JUDGE_WINDOW < JUDGE_TARGET
    return learnt or progress.step >= lengths.clean


def pretrain(
    tokenizer: PreTrainedTokenizerFast, seed: int, lengths: Lengths, max_length: int, work: Path
) -> tuple[LlamaForCausalLM, Lengths]:
    """Train from the seed, or on from the checkpoint in `work`. Returns the model and the steps that it took."""
    torch.manual_seed(seed)
    model = new_model(tokenizer, max_length)
    optims = optimizers(model)
    progress = Progress(random.Random(seed))
    checkpoint = work / f"seed-{seed}.pt"
    if checkpoint.exists():
        progress = load_checkpoint(checkpoint, model, optims)
        print(f"going on from step {progress.step} of {checkpoint}", flush=True)
    shown, tokens = time.monotonic(), 0
    while (total := (progress.clean_steps or lengths.clean) + lengths.sloppy) > progress.step:
        sloppy = progress.clean_steps is not None
        set_learning_rate(optims, (total - progress.step) / lengths.sloppy if sloppy else 1.0)
        losses, read = train_step(model, tokenizer, optims, progress.rng, sloppy=sloppy)
        tokens += read
        progress.step += 1
        progress.judge_losses.append(losses["judge"])
        if progress.step % LINE_EVERY == 0:
            seconds = time.monotonic() - shown
            shown_losses = "  ".join(f"{kind} {loss:.3f}" for kind, loss in losses.items())
            print(
                f"step {progress.step}/{total}  {'sloppy' if sloppy else 'clean'}  {shown_losses}  "
                f"{tokens / seconds:,.0f} tok/s  ETA {(total - progress.step) * seconds / LINE_EVERY:.0f} s",
                flush=True,
            )
            shown, tokens = time.monotonic(), 0
        if not sloppy and phase_is_learnt(progress, lengths):
            progress.clean_steps = progress.step
            save_checkpoint(work / f"seed-{seed}-clean.pt", model, optims, progress)
        if progress.step % CHECKPOINT_EVERY == 0:
            save_checkpoint(checkpoint, model, optims, progress)
    return model, Lengths(clean=progress.clean_steps or lengths.clean, sloppy=lengths.sloppy)
