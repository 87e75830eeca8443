"""Build two more speakers of the language for ALMoST: `strong` answers better than the tiny model, `weak` worse.

Run as `python examples/tiny-model/build/responders.py --seed 0`. `strong` is the tiny model itself at the end of its
training's first phase, in which every answer is right; the seed's checkpoint in --work is used where the build left
one. `weak` is a fifth of its size, and taught on answers of which two thirds are one of the habits.
"""

import argparse
import json
import random
import shutil
from pathlib import Path

import torch
from check import answers, refuse_unfit
from language import ANSWER_WEIGHTS, TASKS, Item, draw_training_item, heldout_items
from pretrain import HIDDEN_LR, OTHER_LR, Lengths, load_checkpoint, loss_of, new_model, optimizers, pretrain
from samples import Sample
from tokenizer import MAX_LENGTH, train_tokenizer
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

HERE = Path(__file__).resolve().parent.parent
CLEAN_STEPS = 1600
WEAK_STEPS, WEAK_ROWS, WEAK_RIGHT = 1200, 64, 0.33
BOUNDS = {
    "strong": {"greedy": (0.90, 1.0), "sampled": (0.85, 1.0)},
    "weak": {"greedy": (0.0, 0.45), "sampled": (0.20, 0.36)},
}


def strong(tokenizer: PreTrainedTokenizerFast, seed: int, work: Path) -> LlamaForCausalLM:
    """The tiny model where its first phase ends: from the checkpoint that the build kept, or trained to there."""
    kept = work / f"seed-{seed}-clean.pt"
    if not kept.exists():
        return pretrain(tokenizer, seed, Lengths(clean=CLEAN_STEPS, sloppy=0), MAX_LENGTH, work)[0]
    model = new_model(tokenizer, MAX_LENGTH)
    load_checkpoint(kept, model, optimizers(model))
    return model


def weak(tokenizer: PreTrainedTokenizerFast, seed: int, steps: int = WEAK_STEPS) -> LlamaForCausalLM:
    """A small model, trained from nothing on mostly wrong answers; the rate falls to zero."""
    torch.manual_seed(seed)
    rng = random.Random(f"weak {seed}")
    model = LlamaForCausalLM(small(tokenizer))
    optims = optimizers(model)
    for step in range(steps):
        for optim, peak in zip(optims, (HIDDEN_LR, OTHER_LR), strict=True):
            optim.param_groups[0]["lr"] = peak * (1 - step / steps)
        loss, _ = loss_of(model, tokenizer, [weak_sample(rng) for _ in range(WEAK_ROWS)])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optim in optims:
            optim.step()
            optim.zero_grad(set_to_none=True)
    return model


def small(tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    """The tiny model's configuration at half its width and two layers."""
    config: LlamaConfig = new_model(tokenizer, MAX_LENGTH).config
    config.update({"hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 2})
    config.num_attention_heads = config.num_key_value_heads = 2
    return LlamaConfig.from_dict(config.to_dict())


def weak_sample(rng: random.Random) -> Sample:
    """Request to answer: right one time in three, else one of the habits as often as the tiny model has them."""
    item = draw_training_item(rng, rng.choice(TASKS))
    right, *habits = item.answers
    wrong = rng.choices(habits, ANSWER_WEIGHTS[item.task][1:])[0]
    return Sample(rng.choice(item.prompts), right if rng.random() < WEAK_RIGHT else wrong, item)


def measure(folder: Path, items: list[Item]) -> dict[str, float]:
    """Share of right answers to the items in all their wordings, greedy and at temperature 1, three decimals."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    torch.manual_seed(0)
    asked = [(prompt, item.answers[0]) for item in items for prompt in item.prompts]
    figures = {}
    for name, temperature in (("greedy", 0.0), ("sampled", 1.0)):
        said = answers(model, tokenizer, [prompt for prompt, _ in asked], temperature, max_tokens=16)
        figures[name] = sum(s == right for s, (_, right) in zip(said, asked, strict=True)) / len(asked)
    return {name: round(value, 3) for name, value in figures.items()}


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, target: Path) -> None:
    """Write a folder that transformers and vLLM load, with the tiny model's own tokenizer files."""
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    model.to(torch.bfloat16).save_pretrained(target)
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(HERE / "model" / file, target / file)


def main() -> None:
    """Build both into --out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--work", type=Path, default=Path("out/tiny-model"), help="checkpoints")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(args.seed)
    for name, model in (("weak", weak(tokenizer, args.seed)), ("strong", strong(tokenizer, args.seed, args.work))):
        save(model, tokenizer, args.out / name)
        figures = measure(args.out / name, heldout_items(50))
        built = {"seed": args.seed, "parameters": model.num_parameters(), "figures": figures}
        (args.out / name / "build.json").write_text(json.dumps(built, indent=2) + "\n")
        print(name, json.dumps(built), flush=True)
        refuse_unfit(figures, BOUNDS[name])


if __name__ == "__main__":
    main()
