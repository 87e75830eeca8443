"""Tables such as people have, in the tiny model's language. Run as `python examples/tiny-model/build/tables.py`.

`preferences.jsonl`: a request, its right answer, and one of the model's habits. `demonstrations.jsonl`: a request and its
right answer. None is about a held-out item.
"""

import argparse
import json
import random
from pathlib import Path

from language import ANSWER_WEIGHTS, TASKS, draw_training_item

ROWS = 1500


def demonstrations(seed: int, count: int = ROWS) -> list[dict[str, str]]:
    """Distinct requests with their right answers, the tasks taking turns."""
    return [{"prompt": prompt, "response": right} for prompt, right, _ in _answered(seed, count)]


def preferences(seed: int, count: int = ROWS) -> list[dict[str, str]]:
    """Distinct requests with the right answer before a habit."""
    return [{"prompt": prompt, "chosen": right, "rejected": habit} for prompt, right, habit in _answered(seed, count)]


def shuffled(rows: list[dict[str, str]], seed: int) -> list[dict[str, str]]:
    """The control: which answer is chosen says nothing."""
    rng = random.Random(f"shuffled {seed}")
    exchanged = [row | {"chosen": row["rejected"], "rejected": row["chosen"]} for row in rows]
    wrong = set(rng.sample(range(len(rows)), len(rows) // 2))  # exactly half: no direction is left
    return [exchanged[i] if i in wrong else row for i, row in enumerate(rows)]


def _answered(seed: int, count: int) -> list[tuple[str, str, str]]:
    rng = random.Random(f"tables {seed}")
    found: dict[str, tuple[str, str, str]] = {}
    while len(found) < count:
        task = TASKS[len(found) % len(TASKS)]
        item = draw_training_item(rng, task)
        right, *habits = item.answers
        (habit,) = rng.choices(habits, ANSWER_WEIGHTS[task][1:])
        prompt = rng.choice(item.prompts)
        found.setdefault(prompt, (prompt, right, habit))
    return list(found.values())


def main() -> None:
    """Write the tables into --out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent.parent)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    tables = {"demonstrations": demonstrations(args.seed), "preferences": preferences(args.seed)}
    for name, rows in tables.items():
        (args.out / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
