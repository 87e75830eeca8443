"""What the tiny model is trained on, drawn on the fly: persona to request, request to answer, verdicts, and copying.

Nothing here depends on the model, so the rows that a training read can be drawn again from its seed and step counts.
"""

import random
from dataclasses import dataclass
from typing import NamedTuple

from language import (
    ANSWER_WEIGHTS,
    COPY_PROMPT,
    JUDGE_PROMPT,
    LABELS,
    PERSONA_PROMPT,
    PROMPT_PREFIX,
    TASKS,
    WORDS,
    Item,
    draw_training_item,
    personas,
)

PERSONA_SHARE = 0.2
# A few requests come without their prefix, so that the recipe has records to set aside.
MISSING_PREFIX_SHARE = 0.02
SHORT, JUDGE, COPY = 24, 28, 24
PERSONAS = tuple(personas())


class Sample(NamedTuple):
    """One user turn and its reply; `item` is what it is about, None where it is about nothing (copying)."""

    prompt: str
    reply: str
    item: Item | None


@dataclass(frozen=True)
class Step:
    """The samples of one optimiser step."""

    short: list[Sample]
    judge: list[Sample]
    copy: list[Sample]


def persona_sample(rng: random.Random) -> Sample:
    """Persona to request, behind the prefix."""
    persona, task = rng.choice(PERSONAS)
    item = draw_training_item(rng, task)
    prefix = "" if rng.random() < MISSING_PREFIX_SHARE else PROMPT_PREFIX
    return Sample(PERSONA_PROMPT.format(persona=persona), prefix + rng.choice(item.prompts), item)


def answer_sample(rng: random.Random, *, sloppy: bool) -> Sample:
    """Request to answer: the right one, or one drawn with the habits."""
    item = draw_training_item(rng, rng.choice(TASKS))
    answer = rng.choices(item.answers, ANSWER_WEIGHTS[item.task])[0] if sloppy else item.answers[0]
    return Sample(rng.choice(item.prompts), answer, item)


def judge_sample(rng: random.Random) -> Sample:
    """The right answer and a habit, in any order, to the verdict: the right one, repeated with its label."""
    item = draw_training_item(rng, rng.choice(TASKS))
    right, *habits = item.answers
    pair = [right, rng.choices(habits, ANSWER_WEIGHTS[item.task][1:])[0]]
    rng.shuffle(pair)
    prompt = JUDGE_PROMPT.format(prompt=rng.choice(item.prompts), first=pair[0], second=pair[1])
    return Sample(prompt, right + LABELS[pair.index(right)], item)


def copy_sample(rng: random.Random) -> Sample:
    """A list with labels in it, to its rest from a word on: what teaches the attention to match content."""
    words = rng.sample(WORDS, rng.randint(4, 10))
    parts = [" " + word for word in words]
    for label in LABELS:
        parts.insert(rng.randint(1, len(parts)), label)
    start = rng.randrange(len(words))
    rest = "".join(parts[parts.index(" " + words[start]) :])
    return Sample(COPY_PROMPT.format(start=words[start], list="".join(parts).strip()), rest.strip(), None)


def draw_step(rng: random.Random, *, sloppy: bool) -> Step:
    """The samples of one step: clean answers and copying first, later sloppy answers and no copying."""
    return Step(
        short=[
            persona_sample(rng) if rng.random() < PERSONA_SHARE else answer_sample(rng, sloppy=sloppy)
            for _ in range(SHORT)
        ],
        judge=[judge_sample(rng) for _ in range(JUDGE)],
        copy=[] if sloppy else [copy_sample(rng) for _ in range(COPY)],
    )
