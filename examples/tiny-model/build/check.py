"""Measure a model folder as its users load it: held-out accuracy, persona prompts, and verdicts in both orders."""

import random
from pathlib import Path

import torch
from language import (
    ANSWER_WEIGHTS,
    JUDGE_PROMPT,
    KINDS,
    LABELS,
    PERSONA_PROMPT,
    PROMPT_PREFIX,
    WORDINGS,
    Item,
    personas,
)
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

BATCH = 200
# What the examples and the tests count on: a base that is bad enough to improve, and a verifier better than it.
BOUNDS = {
    "greedy": (0.60, 0.80),
    "sampled": (0.38, 0.50),
    "judge": (0.97, 1.0),
    "prefix": (0.95, 0.999),
    "known": (0.75, 1.0),
}


def render(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
    """A user turn by the folder's own chat template, up to where the assistant speaks."""
    turn = [{"role": "user", "content": prompt}]
    ids: list[int] = tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_dict=False)
    return ids


def answers(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[str], temperature: float, max_tokens: int
) -> list[str]:
    """One answer to each prompt; temperature 0 is greedy."""
    found: list[str] = []
    for start in range(0, len(prompts), BATCH):
        rows = [{"input_ids": render(tokenizer, prompt)} for prompt in prompts[start : start + BATCH]]
        batch = tokenizer.pad(rows, return_tensors="pt", padding_side="left")
        sampling = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
        with torch.inference_mode():
            ids = model.generate(**batch, **sampling, max_new_tokens=max_tokens)
        found += tokenizer.batch_decode(ids[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    return found


def candidate_margins(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, asked: list[tuple[str, str, str]]
) -> list[float]:
    """Log p(first is better) - log p(second is better), in nats, of (prompt, first, second).

    The two candidate verdicts are compared at their first differing token.
    """
    margins: list[float] = []
    for start in range(0, len(asked), BATCH):
        contexts, tokens = [], []
        for prompt, first, second in asked[start : start + BATCH]:
            judge = render(tokenizer, JUDGE_PROMPT.format(prompt=prompt, first=first, second=second))
            a, b = (tokenizer.encode(answer + label) for answer, label in zip((first, second), LABELS, strict=True))
            common = next(i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
            contexts.append({"input_ids": judge + a[:common]})
            tokens.append([a[common], b[common]])
        batch = tokenizer.pad(contexts, return_tensors="pt", padding_side="left")
        positions = (batch["attention_mask"].cumsum(1) - 1).clamp(min=0)
        with torch.inference_mode():
            logits = model(**batch, position_ids=positions, logits_to_keep=1).logits[:, -1]
        chosen = logits.gather(1, torch.tensor(tokens))
        margins += (chosen[:, 0] - chosen[:, 1]).tolist()
    return margins


def judge_figures(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, items: list[Item], rng: random.Random
) -> dict[str, float]:
    """Share of verdicts for the right answer against a habit: one order, both orders, and the generated verdict."""
    forward, backward = [], []
    for item in items:
        right, *habits = item.answers
        wrong = rng.choices(habits, ANSWER_WEIGHTS[item.task][1:])[0]
        prompt = rng.choice(item.prompts)
        forward.append((prompt, right, wrong))
        backward.append((prompt, wrong, right))
    ahead = candidate_margins(model, tokenizer, forward)
    behind = candidate_margins(model, tokenizer, backward)
    asked = [JUDGE_PROMPT.format(prompt=p, first=a, second=b) for p, a, b in forward + backward]
    said = answers(model, tokenizer, asked, temperature=0, max_tokens=24)
    wanted = [LABELS[0]] * len(forward) + [LABELS[1]] * len(backward)
    return {
        "judge": sum(m > 0 for m in ahead + [-m for m in behind]) / (2 * len(items)),
        "judgeBothOrders": sum(a > 0 > b for a, b in zip(ahead, behind, strict=True)) / len(items),
        "judgeGenerated": sum(s.endswith(w) for s, w in zip(said, wanted, strict=True)) / len(said),
    }


def persona_figures(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rng: random.Random) -> dict[str, float]:
    """Share of persona prompts that begin with the prefix, and of those that have one of the language's wordings."""
    some = rng.sample([text for text, _ in personas()], 400)
    said = answers(model, tokenizer, [PERSONA_PROMPT.format(persona=p) for p in some], temperature=1, max_tokens=32)
    requests = [s.removeprefix(PROMPT_PREFIX) for s in said if s.startswith(PROMPT_PREFIX)]
    openings = {w.split(":")[0].format(kind=kind) for pair in WORDINGS.values() for w in pair for kind in KINDS}
    return {
        "prefix": len(requests) / len(said),
        "known": sum(r.split(":")[0] in openings for r in requests) / len(requests),
        "distinct": len(set(requests)) / len(requests),
    }


def measure(folder: Path, items: list[Item]) -> dict[str, float]:
    """All figures of the model in the folder, on held-out items in all their wordings, three decimals."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    torch.manual_seed(0)
    rng = random.Random("check")
    prompts = [(prompt, item.answers[0]) for item in items for prompt in item.prompts]
    figures = {}
    for name, temperature in (("greedy", 0.0), ("sampled", 1.0)):
        said = answers(model, tokenizer, [p for p, _ in prompts], temperature, max_tokens=16)
        right = [s == reference for s, (_, reference) in zip(said, prompts, strict=True)]
        figures[name] = sum(right) / len(right)
    figures |= judge_figures(model, tokenizer, items, rng) | persona_figures(model, tokenizer, rng)
    return {name: round(value, 3) for name, value in figures.items()}


def refuse_unfit(figures: dict[str, float], bounds: dict[str, tuple[float, float]] = BOUNDS) -> None:
    """Raise ValueError, naming the figures, where one is outside its bounds."""
    wrong = [
        f"{name} {figures[name]} is not within {low}..{high}"
        for name, (low, high) in bounds.items()
        if not low <= figures[name] <= high
    ]
    if wrong:
        raise ValueError("this model does not serve the examples: " + "; ".join(wrong))
