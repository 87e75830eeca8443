"""Build the tiny pair ranker: which of two answers to a request is right. Run as `python examples/tiny-model/build/ranker.py`.

A DeBERTa in the layout of llm-blender/PairRM-hf, trained from nothing on the right answer beside a wrong one: mostly one of
the tiny model's habits, else a right answer that was spoilt. None of its requests is about a held-out item.
"""

import argparse
import json
import random
import time
from pathlib import Path
from typing import NamedTuple

import torch
from language import ANSWER_WEIGHTS, TASKS, WORDS, Item, draw_training_item, heldout_items
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer
from torch.nn import functional
from transformers import DebertaV2Config

from selfalign_jobs.generate.pair_ranker import RankerConfig, RankerTokens, read_ranker_tokens
from selfalign_jobs.generate.ranker_engine import PairRanker, load_ranker

HERE = Path(__file__).resolve().parent.parent
SPECIAL = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
PREFIXES = {
    "source_prefix_id": "<|source|>",
    "cand1_prefix_id": "<|candidate1|>",
    "cand2_prefix_id": "<|candidate2|>",
    "cand_prefix_id": "<|candidate|>",
}
STEPS, ROWS = 1600, 96  # rows a step, each in both orders
MUON_LR, ADAM_LR = 0.01, 2e-3
SPOILT_SHARE = 0.35
LINE_EVERY = 100
BATCH = 200
# What the examples and the tests count on.
BOUNDS = {"habit": (0.95, 1.0), "bestOfThree": (0.93, 1.0), "spoilt": (0.90, 1.0)}


class Row(NamedTuple):
    """A request with its right answer and a wrong one."""

    prompt: str
    right: str
    wrong: str


def row_of(rng: random.Random, item: Item, *, spoilt: bool) -> Row:
    """The item in one of its wordings; the wrong answer is a habit, or the right one spoilt."""
    right, *habits = item.answers
    (habit,) = rng.choices(habits, ANSWER_WEIGHTS[item.task][1:])
    return Row(rng.choice(item.prompts), right, spoil(rng, item) if spoilt else habit)


def spoil(rng: random.Random, item: Item) -> str:
    """An answer of another shape: said twice, said on, a word of it dropped or exchanged."""
    right = item.answers[0]
    words = right.split()
    others = [word for word in WORDS if word not in words] if words[0] in WORDS else [str(rng.randint(31, 99))]
    place = rng.randrange(len(words))
    spoilt = [
        [*words, words[-1]],
        [*words, rng.choice(others)],
        [*words[:place], rng.choice(others), *words[place + 1 :]],
        words * 2,
        ["".join(words)] if len(words) > 1 else [words[0] * 2],
        words[:-1] or [rng.choice(others)],
    ]
    return " ".join(rng.choice(spoilt))


def save_layout(folder: Path) -> RankerTokens:
    """Config and tokenizer: the tiny model's, with the tokens of a pair ranker."""
    tokenizer = Tokenizer.from_file(str(HERE / "model" / "tokenizer.json"))
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in (*SPECIAL.values(), *PREFIXES.values())])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 2048} | SPECIAL
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    deberta = DebertaV2Config(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        # As DeBERTa-v3: positions are relative, and told by buckets that widen.
        relative_attention=True,
        max_position_embeddings=512,
        position_buckets=64,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        type_vocab_size=0,
        pad_token_id=tokenizer.token_to_id(SPECIAL["pad_token"]),
        initializer_range=0.05,
    )
    ids = {name: tokenizer.token_to_id(token) for name, token in PREFIXES.items()}
    said = deberta.to_dict() | ids | {"architectures": ["DebertaV2PairRM"], "n_tasks": 1, "drop_out": 0.0}
    said.pop("transformers_version", None)
    (folder / "config.json").write_text(json.dumps(said, indent=2, sort_keys=True) + "\n")
    return read_ranker_tokens(folder, RankerConfig.of(folder))


def logits_of(ranker: PairRanker, tokens: RankerTokens, asked: list[tuple[str, str, str]]) -> torch.Tensor:
    """How much better the first answer is than the second, of (prompt, first, second)."""
    pairs = [tokens.pair(*each) for each in asked]
    longest, pad = max(map(len, pairs)), ranker.pretrained_model.config.pad_token_id
    ids = torch.tensor([pair + [pad] * (longest - len(pair)) for pair in pairs])
    logits: torch.Tensor = ranker(ids, (ids != pad).long(), tokens.prefixes)
    return logits


def train(folder: Path, tokens: RankerTokens, seed: int, steps: int) -> None:
    """Train from the seed, and save the weights."""
    torch.manual_seed(seed)
    rng = random.Random(f"ranker {seed}")
    ranker = PairRanker(DebertaV2Config.from_pretrained(folder), RankerConfig.of(folder).tasks)
    inside = {name for name, p in ranker.named_parameters() if p.ndim == 2 and "layer." in name and "head" not in name}
    optims = [
        torch.optim.Muon([p for name, p in ranker.named_parameters() if name in inside], lr=MUON_LR),
        torch.optim.AdamW(
            [p for name, p in ranker.named_parameters() if name not in inside], lr=ADAM_LR, betas=(0.9, 0.98)
        ),
    ]
    peaks, began = [optim.param_groups[0]["lr"] for optim in optims], time.monotonic()
    for step in range(steps):
        for optim, peak in zip(optims, peaks, strict=True):
            optim.param_groups[0]["lr"] = peak * min(1.0, (step + 1) / 50, 2 * (steps - step) / steps)
        rows = [
            row_of(rng, draw_training_item(rng, TASKS[n % len(TASKS)]), spoilt=rng.random() < SPOILT_SHARE)
            for n in range(ROWS)
        ]
        logits = logits_of(ranker, tokens, [*rows, *(Row(row.prompt, row.wrong, row.right) for row in rows)])
        signs = torch.tensor([1.0] * ROWS + [-1.0] * ROWS)
        loss = -functional.logsigmoid(signs * logits).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(ranker.parameters(), 1.0)
        for optim in optims:
            optim.step()
            optim.zero_grad(set_to_none=True)
        if (step + 1) % LINE_EVERY == 0:
            right = float((signs * logits > 0).float().mean())
            print(
                f"step {step + 1}/{steps}  loss {loss.item():.3f}  right {right:.3f}  {time.monotonic() - began:.0f} s",
                flush=True,
            )
    save_file(ranker.state_dict(), str(folder / "model.safetensors"))


def gaps(ranker: PairRanker, tokens: RankerTokens, rows: list[Row]) -> list[float]:
    """How much better the right answer is, both orders counted."""
    found: list[float] = []
    for start in range(0, len(rows), BATCH):
        some = rows[start : start + BATCH]
        with torch.inference_mode():
            forward = logits_of(ranker, tokens, list(some))
            backward = logits_of(ranker, tokens, [Row(row.prompt, row.wrong, row.right) for row in some])
        found += (forward - backward).tolist()
    return found


def measure(folder: Path, items: list[Item]) -> dict[str, float]:
    """Of the folder as saved: how often the right answer wins by both orders, on held-out items in all their wordings."""
    ranker, rng = load_ranker(folder, "CPU"), random.Random("check")
    tokens = read_ranker_tokens(folder, RankerConfig.of(folder))
    asked = [(prompt, item) for item in items for prompt in item.prompts]
    both = [gaps(ranker, tokens, [Row(p, item.answers[0], item.answers[n]) for p, item in asked]) for n in (1, 2)]
    spoilt = gaps(ranker, tokens, [Row(p, item.answers[0], spoil(rng, item)) for p, item in asked])
    share = {
        "habit": [gap > 0 for each in both for gap in each],
        "bestOfThree": [min(pair) > 0 for pair in zip(*both, strict=True)],
        "spoilt": [gap > 0 for gap in spoilt],
    }
    return {name: round(sum(found) / len(found), 3) for name, found in share.items()}


def main() -> None:
    """Write the folder --out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE / "ranker")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    train(args.out, save_layout(args.out), args.seed, args.steps)
    figures = measure(args.out, heldout_items(50))
    built = {"seed": args.seed, "steps": args.steps, "figures": figures}
    (args.out / "build.json").write_text(json.dumps(built, indent=2) + "\n")
    print(json.dumps(built, indent=2))
    unfit = {name: figures[name] for name, (low, high) in BOUNDS.items() if not low <= figures[name] <= high}
    if unfit:
        raise ValueError(f"this ranker does not serve the examples: {unfit}, wanted {BOUNDS}")


if __name__ == "__main__":
    main()
