"""Train the tiny verifier: is this a request of the language? Run as `python examples/tiny-model/build/verifier.py`.

A LlamaForSequenceClassification with the labels `invalid` and `valid`, trained from nothing on requests and on what is
nearly one; `language.parse` says which is which. It has no chat template: it reads a text alone. Writes `verifier/`.
"""

import argparse
import json
import random
import time
from collections.abc import Callable
from pathlib import Path

import torch
from check import refuse_unfit
from language import KINDS, NUMBERS, TASKS, WORDINGS, WORDS, draw_item, draw_training_item, parse
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from torch.nn import functional
from transformers import LlamaConfig, LlamaForSequenceClassification

HERE = Path(__file__).resolve().parent.parent
END, PAD = "<|im_end|>", "<|endoftext|>"
LABELS = {0: "invalid", 1: "valid"}
STEPS, ROWS, MUON_LR, ADAM_LR = 2400, 128, 0.01, 2e-3
LINE_EVERY = 100
CHECKED = 2000  # texts of each kind
BOUNDS = {"valid": (0.97, 1.0), "invalid": (0.90, 1.0)}


def request(rng: random.Random, *, held_out: bool = False) -> str:
    """A request that the language has."""
    task = rng.choice(TASKS)
    item = draw_item(rng, task) if held_out else draw_training_item(rng, task)
    return rng.choice(item.prompts)


def near_request(rng: random.Random) -> str:
    """What is nearly a request, and none: as a proposer writes it that has not learned the language yet."""
    while True:
        text = request(rng)
        for _ in range(rng.choice((1, 1, 1, 2))):
            text = rng.choice(SPOILT)(rng, text)
        if parse(text) is None and text.strip():
            return text


def _words(rng: random.Random, text: str, change: Callable[[random.Random, list[str]], None]) -> str:
    """The request with its list changed."""
    head, colon, rest = text.partition(": ")
    words = (rest if colon else head).split(" ")
    change(rng, words)
    return f"{head}{colon}{' '.join(words)}" if colon else " ".join(words)


def _repeat(rng: random.Random, words: list[str]) -> None:
    words[rng.randrange(len(words))] = rng.choice(words)


def _add(rng: random.Random, words: list[str]) -> None:
    for _ in range(rng.randint(1, 3)):
        words.insert(rng.randint(0, len(words)), rng.choice((rng.choice(WORDS), str(rng.choice(NUMBERS)))))


def _drop(rng: random.Random, words: list[str]) -> None:
    for _ in range(rng.randint(1, 2)):
        if words:
            words.pop(rng.randrange(len(words)))


def _exchange(rng: random.Random, words: list[str]) -> None:
    number, word = str(rng.choice((rng.choice(NUMBERS), rng.randint(31, 99)))), rng.choice(WORDS)
    words[rng.randrange(len(words))] = rng.choice((number, word, rng.choice(tuple(KINDS)), "word", "two"))


def _glue(rng: random.Random, words: list[str]) -> None:
    place = rng.randrange(len(words))
    words[place] = rng.choice((words[place] + rng.choice(WORDS), words[place] * 2, words[place][:-1] or "a"))


def _other_head(rng: random.Random, text: str) -> str:
    """The list of one task after the words of another."""
    head = rng.choice(WORDINGS[rng.choice(TASKS)]).replace("{kind}", rng.choice((*KINDS, *WORDS)))
    return head.replace("{list}", text.rpartition(": ")[2])


def _mixed(rng: random.Random, text: str) -> str:
    """The beginning of one request and the end of another."""
    one, other = text.split(" "), request(rng).split(" ")
    return " ".join(one[: rng.randint(1, len(one))] + other[rng.randint(0, len(other) - 1) :])


def _cut(rng: random.Random, text: str) -> str:
    """A request without a word of it."""
    words = text.split(" ")
    words.pop(rng.randrange(len(words)))
    return " ".join(words)


def _stirred(rng: random.Random, text: str) -> str:
    words = text.split(" ")
    one, other = rng.randrange(len(words)), rng.randrange(len(words))
    words[one], words[other] = words[other], words[one]
    return " ".join(words)


SPOILT: tuple[Callable[[random.Random, str], str], ...] = (
    *(lambda rng, text, change=change: _words(rng, text, change) for change in (_repeat, _add, _drop, _exchange, _glue)),
    _other_head,
    _mixed,
    _cut,
    _stirred,
)  # fmt: skip


def save_layout(folder: Path) -> Tokenizer:
    """Config and tokenizer: the tiny model's, with the end token after each text, where the labels are read."""
    tokenizer = Tokenizer.from_file(str(HERE / "model" / "tokenizer.json"))
    tokenizer.post_processor = TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, tokenizer.token_to_id(END))]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    said = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 256, "eos_token": END, "pad_token": PAD}
    (folder / "tokenizer_config.json").write_text(json.dumps(said, indent=2) + "\n")
    return tokenizer


def new_model(tokenizer: Tokenizer) -> LlamaForSequenceClassification:
    """Two layers of half the tiny model's width."""
    return LlamaForSequenceClassification(
        LlamaConfig(
            vocab_size=tokenizer.get_vocab_size(),
            hidden_size=64,
            intermediate_size=192,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=256,
            rope_theta=1000.0,
            initializer_range=0.05,
            eos_token_id=tokenizer.token_to_id(END),
            bos_token_id=None,
            pad_token_id=tokenizer.token_to_id(PAD),
            id2label=LABELS,
            label2id={label: number for number, label in LABELS.items()},
        )
    )


def logits_of(model: LlamaForSequenceClassification, tokenizer: Tokenizer, texts: list[str]) -> torch.Tensor:
    """The raw outputs, a row a text."""
    ids = [tokenizer.encode(text).ids for text in texts]
    longest, pad = max(map(len, ids)), model.config.pad_token_id
    batch = torch.tensor([each + [pad] * (longest - len(each)) for each in ids])
    logits: torch.Tensor = model(batch, attention_mask=(batch != pad).long()).logits
    return logits


def train(folder: Path, tokenizer: Tokenizer, seed: int, steps: int) -> None:
    """Train from the seed, and save it in bfloat16."""
    torch.manual_seed(seed)
    rng = random.Random(f"verifier {seed}")
    model = new_model(tokenizer)
    inside = {name for name, p in model.named_parameters() if p.ndim == 2 and "layers." in name}
    optims = [
        torch.optim.Muon([p for name, p in model.named_parameters() if name in inside], lr=MUON_LR),
        torch.optim.AdamW(
            [p for name, p in model.named_parameters() if name not in inside], lr=ADAM_LR, betas=(0.9, 0.98)
        ),
    ]
    peaks, began = [optim.param_groups[0]["lr"] for optim in optims], time.monotonic()
    truth = torch.tensor([1] * (ROWS // 2) + [0] * (ROWS // 2))
    for step in range(steps):
        for optim, peak in zip(optims, peaks, strict=True):
            optim.param_groups[0]["lr"] = peak * min(1.0, (step + 1) / 50, 2 * (steps - step) / steps)
        texts = [request(rng) for _ in range(ROWS // 2)] + [near_request(rng) for _ in range(ROWS // 2)]
        logits = logits_of(model, tokenizer, texts)
        loss = functional.cross_entropy(logits, truth)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optim in optims:
            optim.step()
            optim.zero_grad(set_to_none=True)
        if (step + 1) % LINE_EVERY == 0:
            right = float((logits.argmax(1) == truth).float().mean())
            told = f"step {step + 1}/{steps}  loss {loss.item():.3f}  right {right:.3f}"
            print(f"{told}  {time.monotonic() - began:.0f} s", flush=True)
    model.to(torch.bfloat16).save_pretrained(folder)


class Verifier:
    """Says which texts are requests."""

    def __init__(self, folder: Path) -> None:
        """Load the model of the folder."""
        self._model = LlamaForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def __call__(self, texts: list[str]) -> list[bool]:
        """Of each whether it is one."""
        with torch.inference_mode():
            logits = logits_of(self._model, self._tokenizer, texts)
        return [bool(each[1] >= each[0]) for each in logits]


def measure(folder: Path, count: int = CHECKED) -> dict[str, float]:
    """Of the folder as saved: the share of requests that are found valid, and of what is none that is found invalid."""
    verifier, rng = Verifier(folder), random.Random("check")
    valid = verifier([request(rng, held_out=True) for _ in range(count)])
    invalid = verifier([near_request(rng) for _ in range(count)])
    return {"valid": round(sum(valid) / count, 3), "invalid": round(1 - sum(invalid) / count, 3)}


def main() -> None:
    """Write the folder --out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE / "verifier")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    train(args.out, save_layout(args.out), args.seed, args.steps)
    figures = measure(args.out)
    built = {"seed": args.seed, "steps": args.steps, "figures": figures}
    (args.out / "build.json").write_text(json.dumps(built, indent=2) + "\n")
    print(json.dumps(built, indent=2))
    refuse_unfit(figures, BOUNDS)


if __name__ == "__main__":
    main()
