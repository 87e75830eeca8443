"""Build the tiny model: data files, tokenizer, weights, figures. Run as `python examples/tiny-model/build --seed 0`."""

import argparse
import json
from pathlib import Path

import torch
from check import measure, refuse_unfit
from language import heldout_items, personas
from pretrain import Lengths, pretrain
from tokenizer import MAX_LENGTH, train_tokenizer
from transformers import GenerationConfig

HELD_OUT_PER_TASK = 50


def write_lines(path: Path, rows: list[dict[str, str]]) -> None:
    """Write JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def main() -> None:
    """Write everything into --out; what a killed build had trained is in --work."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clean-steps", type=int, default=1600, help="bound on phase 1; the judge's loss ends it")
    parser.add_argument("--sloppy-steps", type=int, default=600, help="length of phase 2")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent.parent)
    parser.add_argument("--work", type=Path, default=Path("out/tiny-model"), help="checkpoints")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    args.out.mkdir(parents=True, exist_ok=True)

    items = heldout_items(HELD_OUT_PER_TASK)
    write_lines(args.out / "personas.jsonl", [{"persona": text} for text, _ in personas()])
    write_lines(
        args.out / "heldout.jsonl",
        [{"prompt": p, "reference": item.answers[0]} for item in items for p in item.prompts],
    )
    tokenizer = train_tokenizer(args.seed)
    lengths = Lengths(args.clean_steps, args.sloppy_steps)
    model, taken = pretrain(tokenizer, args.seed, lengths, MAX_LENGTH, args.work)
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    model.save_pretrained(args.out / "model")
    tokenizer.save_pretrained(args.out / "model")
    figures = measure(args.out / "model", items)
    built = {"seed": args.seed, "steps": {"clean": taken.clean, "sloppy": taken.sloppy}, "figures": figures}
    (args.out / "build.json").write_text(json.dumps(built, indent=2) + "\n")
    print(json.dumps(built, indent=2))
    refuse_unfit(figures)


if __name__ == "__main__":
    main()
