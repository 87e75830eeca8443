"""Users of two tastes, in the tiny model's language. Run as `python examples/tiny-model/build/users.py`.

Half of them want an answer once ("fig"), half twice ("fig fig"): a taste of form, which their pairs show and their requests do
not. `users.jsonl`: a user, what they are like, a request, and its right answer in the one form before the other.
"""

import argparse
import json
import random
from pathlib import Path

from language import draw_training_item

USERS, ROWS = 160, 20  # rows: of each user
TASKS = ("last", "larger", "count", "category")  # whose answer is one word
TASTES = {"says it once": "{0}", "says it twice": "{0} {0}"}


def users(seed: int, count: int = USERS, rows: int = ROWS) -> list[dict[str, str]]:
    """The pairs of so many users, the tastes taking turns; no user is asked the same twice."""
    rng, tastes = random.Random(f"users {seed}"), [*TASTES]
    found = []
    for number in range(count):
        taste = tastes[number % len(tastes)]
        (other,) = (each for each in tastes if each != taste)
        asked: dict[str, str] = {}
        while len(asked) < rows:
            item = draw_training_item(rng, TASKS[len(asked) % len(TASKS)])
            asked.setdefault(rng.choice(item.prompts), item.answers[0])
        for prompt, right in asked.items():
            pair = {"chosen": TASTES[taste].format(right), "rejected": TASTES[other].format(right)}
            found.append({"user": f"user-{number:03}", "description": taste, "prompt": prompt} | pair)
    return found


def main() -> None:
    """Write the table into --out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent.parent)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "users.jsonl").write_text("".join(json.dumps(row) + "\n" for row in users(args.seed)))


if __name__ == "__main__":
    main()
