"""What scoring models read: a whole conversation by their own template, or a pair ranker's three parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from selfalign_jobs.flow import Rank, Request, Score, Scores, SetAside
from selfalign_jobs.generate.chat import ANSWER, History, ModelChat
from selfalign_jobs.generate.engine import Head, Pairs, Task
from selfalign_jobs.generate.pair_ranker import RankerTokens


class Reading(Protocol):
    """What a scoring model reads of a prompt and an answer, or of a prompt alone."""

    def ids(self, prompt: str, answer: str | None, history: History = ()) -> list[int]:
        """Token ids, special tokens among them; `history` are the messages before the prompt."""


class AsTrained:
    """What a model that the run trained itself was shown (train/written.py): the prompt, then the answer and its end."""

    def __init__(self, chat: ModelChat) -> None:
        self._chat = chat

    def ids(self, prompt: str, answer: str | None, history: History = ()) -> list[int]:
        """Ids of prompt and answer. Raises SetAside for an answer that it cannot have been shown."""
        if answer is None:
            return self._chat.encode(self._chat.text(prompt, history))
        prompt_ids, ids = self._chat.given(prompt, answer, history)
        return [*prompt_ids, *ids]


class Conversations:
    """Finished conversations, by a model's own template."""

    def __init__(self, chat: ModelChat) -> None:
        """Raises what the template raises of a finished conversation."""
        self._chat = chat
        after = chat.finished("a", ANSWER).rpartition(ANSWER)[2]
        self._closes = any(id in chat.tokenizer.added for id in chat.encode(after))

    def ids(self, prompt: str, answer: str | None, history: History = ()) -> list[int]:
        """Ids of prompt and answer."""
        return self._chat.encode(self.text(prompt, answer, history))

    def text(self, prompt: str, answer: str | None, history: History = ()) -> str:
        """Prompt and answer; where the template leaves the turn open, with the end token after it.

        An answer that was cut has its end too: a reward model never saw an unfinished turn.
        """
        text = self._chat.finished(prompt, answer, history)
        return text if self._closes else text.rstrip() + self._chat.tokenizer.added[self._chat.end_id].content


class ScoreRenderer:
    """What a reward model or a classifier reads, and the score that its outputs are."""

    def __init__(self, reading: Reading, context_tokens: int, of: Callable[[Scores], float] | None = None) -> None:
        """`of` makes one score of several outputs."""
        self._reading = reading
        self._context_tokens = context_tokens
        self._of = of

    def render(self, request: Request) -> tuple[list[int], Task]:
        """The ids that it reads. Raises SetAside("too long") for more than the context has room for."""
        if not isinstance(request, Score):
            raise TypeError(f"a model that scores gives no {type(request).__name__}")
        ids = self._reading.ids(request.prompt, request.answer, request.history)
        if len(ids) > self._context_tokens:
            raise SetAside("too long", f"{len(ids)} tokens of prompt and answer, {self._context_tokens} of context")
        return ids, Head()

    def scored(self, scores: Scores) -> Scores:
        """The one score of an answer."""
        return scores if self._of is None else Scores((self._of(scores),))


class PairRenderer:
    """Every ordered pair of answers, as a pair ranker reads them."""

    def __init__(self, tokens: RankerTokens) -> None:
        self._tokens = tokens

    def render(self, request: Request) -> tuple[list[int], Task]:
        """The ids of all pairs, one after another."""
        if not isinstance(request, Rank):
            raise TypeError(f"a pair ranker gives no {type(request).__name__}")
        every = range(len(request.answers))
        pairs = [
            self._tokens.pair(request.prompt, request.answers[i], request.answers[j])
            for i in every
            for j in every
            if i != j
        ]
        return [id for pair in pairs for id in pair], Pairs(len(request.answers), tuple(map(len, pairs)))
