"""Answers of models that reason first: where the reasoning ends, by the tokenizer's own markers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from selfalign_jobs.flow import SetAside

NAMES = re.compile(r"think|thought|reason", re.IGNORECASE)
ENDS = re.compile(r"/|end", re.IGNORECASE)
SHOWN_CHARACTERS = 200

Ids = tuple[int, ...]
Decode = Callable[[Ids], str]


@dataclass(frozen=True)
class Markers:
    """The tokens that stand around a block of reasoning, such as <think> and </think>."""

    opening: int
    closing: int
    close: str  # the closing one as text


def markers_of(added: Mapping[int, str]) -> Markers | None:
    """Two added tokens of which one is the other with an end to it; None where a tokenizer has none.

    <think> and </think>, [THINK] and [/THINK], <|begin_of_thought|> and <|end_of_thought|>.
    """
    ids = {content: id for id, content in added.items() if NAMES.search(content)}
    for close, id in ids.items():
        for start in ("", "begin", "start"):
            opening = ids.get(ENDS.sub(start, close, count=1))
            if opening is not None and opening != id:
                return Markers(opening, id, close)
    return None


@dataclass(frozen=True)
class Reasoning:
    """How a model's answers begin, and the end that a prompt needs to be followed by the answer itself.

    Some chat templates open the block in the prompt; some models open it themselves; both close it, unless they are cut.
    """

    markers: Markers
    opened: bool  # by the prompt
    ending: str = ""  # text that closes the block of such a prompt
    ending_ids: Ids = ()

    def answer(self, ids: Ids, decode: Decode) -> Ids:
        """The ids after the block of reasoning, from the first that is no white space on.

        Raises SetAside for a block that was begun and not closed: there is no answer.
        """
        closing = _place(ids, self.markers.closing)
        opening = _place(ids, self.markers.opening)
        begun = self.opened or not decode(ids[:opening]).strip() if opening < len(ids) else self.opened
        if closing == len(ids):
            if begun:
                raise SetAside("unclosed reasoning", decode(ids)[:SHOWN_CHARACTERS])
            return ids
        if not begun and opening < closing:  # a block inside the answer, which speaks of it
            return ids
        rest = ids[closing + 1 :]
        start = next((place for place, id in enumerate(rest) if decode((id,)).strip()), None)
        return rest[-1:] if start is None else rest[start:]

    def closed(self, prompt_ids: Sequence[int]) -> Ids:
        """The prompt that stands before such an answer: with its block closed, and empty."""
        return (*prompt_ids, *self.ending_ids)


def _place(ids: Ids, id: int) -> int:
    return ids.index(id) if id in ids else len(ids)
