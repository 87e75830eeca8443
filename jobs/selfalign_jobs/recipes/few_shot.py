"""A user's turn that shows pairs of one person before it asks: how it is written, and how it is made to fit.

A completion may begin with what the person is like (RAT, arXiv 2502.19312): the description, then the answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from selfalign_jobs.template import render_template

Shot = Mapping[str, str]  # of SHOT_FIELDS

SHOT_FIELDS = ("prompt", "chosen", "rejected")

# Ours, to the paper's layout: each shot a question, what is preferred, what is not; then the question, in a chat's turn.
TURN = """\
{% for shot in shots -%}
## Example {{ loop.index }}

Question: {{ shot.prompt }}

Preferred answer: {{ shot.chosen }}

Answer that is liked less: {{ shot.rejected }}

{% endfor -%}
## Task

Question: {{ prompt }}

Write the answer that the person {{ "of these examples " if shots }}prefers.
"""
DESCRIPTION, ANSWER = "## Description of the person", "## Preferred answer"


def turn(template: str, shots: Sequence[Shot], question: str) -> str:
    """The user's turn with these shots."""
    return render_template(template, {"shots": shots, "prompt": question})


def turns(template: str, shots: Sequence[Shot], question: str) -> Iterator[str]:
    """The user's turn with all shots, then without the first of them, … , then without any: never without the question."""
    for start in range(len(shots) + 1):
        yield turn(template, shots[start:], question)


def described(description: str, answer: str) -> str:
    """A completion that says what the person is like before it answers."""
    return f"{DESCRIPTION}\n\n{description.strip()}\n\n{ANSWER}\n\n{answer.strip()}"


def answer_of(completion: str) -> str:
    """The answer of such a completion; one that never comes to it is an answer as a whole."""
    _, said, answer = completion.partition(ANSWER)
    return answer.strip() if said else completion


def sample_shots(number: int) -> list[dict[str, Any]]:
    """So many shots of one word each."""
    return [dict.fromkeys(SHOT_FIELDS, "word")] * number
