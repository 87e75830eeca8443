"""What recipes `pairs` and `spin` do to the tiny model, over run seeds, beside controls from which nothing can be learned.

    python benchmarks/recipes_tiny.py --seeds 0 1 2 --out out/recipes-tiny

Controls: of pairs, half of the labels exchanged; of spin, demonstrations that are a second own sample of the model. Prints one
row of Markdown a run, from its `summary.json`. Run again, it goes on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[1] / "examples"
TINY = EXAMPLES / "tiny-model"
sys.path.insert(0, str(TINY / "build"))

import tables  # noqa: E402

from selfalign_api.kubectl_yaml import read_yaml  # noqa: E402

Rows = list[dict[str, str]]


def own_answers(rows: Rows, seed: int) -> Rows:
    """The same prompts with an own answer each of the model's, at temperature 1."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(seed)
    policy, tokenizer = (
        AutoModelForCausalLM.from_pretrained(TINY / "model"),
        AutoTokenizer.from_pretrained(TINY / "model"),
    )
    found = []
    for row in rows:
        turn = [{"role": "user", "content": row["prompt"]}]
        asked = tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        whole = policy.generate(**asked, do_sample=True, top_k=0, max_new_tokens=16)
        text = tokenizer.decode(whole[0, asked["input_ids"].shape[1] :], skip_special_tokens=True).strip()
        found += [{"prompt": row["prompt"], "response": text}] if text else []
    return found


VARIANTS: dict[str, tuple[str, str, Callable[[int], Rows]]] = {  # example, kind of data, rows by seed
    "pairs": ("pairs-tiny.yaml", "preferences", lambda seed: tables.preferences(seed)),
    "pairs, shuffled labels": (
        "pairs-tiny.yaml",
        "preferences",
        lambda seed: tables.shuffled(tables.preferences(seed), seed),
    ),
    "spin": ("spin-tiny.yaml", "demonstrations", lambda seed: tables.demonstrations(seed)),
    "spin, a second own sample": (
        "spin-tiny.yaml",
        "demonstrations",
        lambda seed: own_answers(tables.demonstrations(seed), seed),
    ),
}


def run_file(out: Path, variant: str, seed: int) -> Path:
    """The example with a variant's rows, a seed, and a name of its own."""
    example, kind, rows = VARIANTS[variant]
    document: dict[str, Any] = read_yaml((EXAMPLES / example).read_text(), example)
    name = f"{variant.replace(',', '').replace(' ', '-')}-{seed}"
    document["metadata"]["name"] = name
    document["spec"]["seed"] = seed
    data = out / f"{name}.jsonl"
    if not data.exists():
        data.write_text("".join(json.dumps(row) + "\n" for row in rows(seed)))
    document["spec"]["data"][kind]["url"] = data.resolve().as_uri()
    file = out / f"{name}.yaml"
    file.write_text(json.dumps(document))
    return file


def row(folder: Path, variant: str, seed: int) -> str:
    """A finished run's figures."""
    summary = json.loads((folder / "summary.json").read_text())
    cells = []
    for role in ("greedy", "sampled"):
        figure = summary["accuracy"][role]
        low, high = figure["gainInterval"]
        cells.append(f"{figure['before']:.3f} → {figure['after']:.3f} ({low:+.3f} … {high:+.3f})")
    rose = summary["effect"]["i1-train.chosenLogProbability"]
    return f"| {variant} | {seed} | {summary['trained']['i1-train']:,} | {cells[0]} | {cells[1]} | {rose:+.2f} |"


def main() -> None:
    """Run what is not finished, one after another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--out", type=Path, default=Path("out/recipes-tiny"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    heads = ("run", "seed", "pairs", "greedy (gain, 95 %)", "T = 1 (gain, 95 %)", "chosen, nats")
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}", flush=True)
    for seed in options.seeds:
        for variant in options.variants:
            file = run_file(options.out, variant, seed)
            command = [sys.executable, "-m", "selfalign_jobs.local.start", "run", str(file)]
            command += ["--mount", f"selfalign={EXAMPLES}", "--out", str(options.out)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            print(row(options.out / "default" / file.stem, variant, seed), flush=True)


if __name__ == "__main__":
    main()
