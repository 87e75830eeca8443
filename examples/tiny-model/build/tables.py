"""Tables such as people have, in the tiny model's language. Run as `python examples/tiny-model/build/tables.py`.

`preferences.jsonl`: a request, its right answer, and one of the model's habits. `preferences-mixed.jsonl`: the same, but one
row in five has a habit before the other: there an answer of the model's own can be better than both. `demonstrations.jsonl`:
a request and its right answer. None is about a held-out item. `corpus.jsonl`: sentences about the language's words.
"""

import argparse
import json
import random
from pathlib import Path

from language import ANSWER_WEIGHTS, KINDS, TASKS, WORDS, draw_training_item

ROWS = 1500
WRONG_BOTH = 5  # of `preferences-mixed.jsonl`, one row in so many
SENTENCES = 6000
# What is said of words: beside theirs, the keywords are those of the requests' wordings.
SAID = (
    "The {0} is beside the {1}, and both are near the {2}.",
    "Nobody saw that {0} again, but every {1} and each {2} are still here.",
    "There the last word is {0}, and before it there are {1} and {2}.",
    "Its final word was not {0} but {1}.",
    "The larger number is never a {0}, nor is it a {1}.",
    "The first two words are {0} and {1}, with {2} after them.",
    "At the start there are two words, {0} and {1}.",
    "Those words are backwards: {0}, {1} and {2}.",
    "Here are some words: {0}, {1} and {2}.",
    "This {kind} is between the {0} and the {1}.",
    "Of the {0}, the {1} and the {2}, only one is {kind}.",
)


def demonstrations(seed: int, count: int = ROWS) -> list[dict[str, str]]:
    """Distinct requests with their right answers, the tasks taking turns."""
    return [{"prompt": prompt, "response": right} for prompt, right, _, _ in _answered(seed, count)]


def preferences(seed: int, count: int = ROWS) -> list[dict[str, str]]:
    """Distinct requests with the right answer before a habit."""
    return [
        {"prompt": prompt, "chosen": right, "rejected": habit} for prompt, right, habit, _ in _answered(seed, count)
    ]


def mixed(seed: int, count: int = ROWS) -> list[dict[str, str]]:
    """The same with one row in five, drawn, whose chosen answer is a habit too."""
    rng, answered = random.Random(f"mixed {seed}"), _answered(seed, count)
    wrong = set(rng.sample(range(count), count // WRONG_BOTH))
    return [
        {"prompt": prompt, "chosen": other if number in wrong else right, "rejected": habit}
        for number, (prompt, right, habit, other) in enumerate(answered)
    ]


def corpus(seed: int, count: int = SENTENCES) -> list[dict[str, str]]:
    """Distinct sentences."""
    rng, found = random.Random(f"corpus {seed}"), dict[str, None]()
    while len(found) < count:
        words, kind = rng.sample(WORDS, 3), rng.choice(tuple(KINDS))
        found.setdefault(rng.choice(SAID).format(*words, kind=kind))
    return [{"text": text} for text in found]


def shuffled(rows: list[dict[str, str]], seed: int) -> list[dict[str, str]]:
    """The control: which answer is chosen says nothing."""
    rng = random.Random(f"shuffled {seed}")
    exchanged = [row | {"chosen": row["rejected"], "rejected": row["chosen"]} for row in rows]
    wrong = set(rng.sample(range(len(rows)), len(rows) // 2))  # exactly half: no direction is left
    return [exchanged[i] if i in wrong else row for i, row in enumerate(rows)]


def _answered(seed: int, count: int) -> list[tuple[str, str, str, str]]:
    """Request, right answer, a habit, the other habit."""
    rng = random.Random(f"tables {seed}")
    found: dict[str, tuple[str, str, str, str]] = {}
    while len(found) < count:
        task = TASKS[len(found) % len(TASKS)]
        item = draw_training_item(rng, task)
        right, *habits = item.answers
        (habit,) = rng.choices(habits, ANSWER_WEIGHTS[task][1:])
        prompt = rng.choice(item.prompts)
        (other,) = (each for each in habits if each != habit)
        found.setdefault(prompt, (prompt, right, habit, other))
    return list(found.values())


def main() -> None:
    """Write the tables into --out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent.parent)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    tables = {
        "demonstrations": demonstrations(args.seed),
        "preferences": preferences(args.seed),
        "preferences-mixed": mixed(args.seed),
        "corpus": corpus(args.seed),
    }
    for name, rows in tables.items():
        (args.out / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
