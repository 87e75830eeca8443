"""Texts as they stand, for benchmarks: contexts to go on with, and texts whose likelihood is asked, as token ids."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from selfalign_jobs.flow import Context, Continue, Continued, Likelihood, Likely
from selfalign_jobs.generate.chat import Chat
from selfalign_jobs.generate.engine import Sample, Sampling, Tail
from selfalign_jobs.generate.reasoning import Reasoning


class Continuations:
    """What the tasks of lm-evaluation-harness ask, tokenised and cut as its own models do it."""

    def __init__(self, chat: Chat, context_tokens: int) -> None:
        self._chat = chat
        self._most = context_tokens - 1  # of a prompt: the engine makes one token at the least

    def continued(self, request: Continue, reasoning: Reasoning | None) -> tuple[list[int], Sampling]:
        """The end of the context that leaves room for the answer. What ends an answer does not end a reasoning before it."""
        room = self._room(request)
        stop = request.stop if reasoning is None else ()
        most = min(request.max_tokens, self._most)
        text, encode = self._rendered(request.context)
        sampling = Sampling(1, request.temperature, request.top_p, 0, most, request.seed, stop)
        return (encode(text) or [self._chat.prefix_id])[-room:], sampling

    def read(self, request: Continue, prompt_ids: list[int], sample: Sample, reasoning: Reasoning | None) -> Continued:
        """The reply: the text before whatever ends it. Raises SetAside for a reasoning that has no end."""
        ids = sample.ids if reasoning is None else reasoning.answer(sample.ids, self._chat.decode)
        text = self._chat.decode(ids)
        for end in filter(None, request.stop):
            text = text.partition(end)[0]
        return Continued(text, len(sample.ids), sample.finish_reason, len(prompt_ids) >= self._room(request))

    def likelihood(self, request: Likelihood) -> tuple[list[int], Tail]:
        """Context and text, or one window of a text."""
        if request.context is None:
            return list(self._windows(request.text))[request.window]
        before, text = self._pair(request.context, request.text)
        return [*before, *text][-self._most :], Tail(min(len(text), self._most - 1))

    def likely(self, request: Likelihood, prompt_ids: list[int], answer: Likely) -> Likely:
        """The reply."""
        if request.context is None:
            return answer._replace(windows=len(list(self._windows(request.text))))
        return answer._replace(fills=len(prompt_ids) >= self._most)

    def _room(self, request: Continue) -> int:
        return max(1, self._most + 1 - request.max_tokens)

    def _rendered(self, context: Context) -> tuple[str, Callable[[str], list[int]]]:
        """A context as text, and what tokenises it and whatever is written behind it."""
        if context.user is None:
            return context.text, self._chat.plain
        return self._chat.text(context.user, context.history) + context.text, self._chat.encode

    def _pair(self, context: Context, text: str) -> tuple[list[int], list[int]]:
        """Both together are tokenised, and parted where the context alone ends; white space at its end is the text's."""
        rendered, encode = self._rendered(context)
        if not rendered:
            ids = self._chat.plain(text, special=False)
            return ([self._chat.prefix_id], ids) if ids[:1] != [self._chat.prefix_id] else (ids[:1], ids[1:])
        stripped = rendered.rstrip()
        before = encode(stripped)
        return before, encode(rendered + text)[len(before) :]

    def _windows(self, text: str) -> Iterator[tuple[list[int], Tail]]:
        """Each token is in one window, behind as many others as there is room for (lm_eval.utils.get_rolling_token_windows)."""
        ids, size, start = self._chat.plain(text, special=False), self._most - 1, 0
        while start < len(ids) or start == 0:
            end = min(start + size, len(ids))
            before = [self._chat.prefix_id] if start == 0 else ids[max(0, end - size - 1) : start]
            yield [*before, *ids[start:end]], Tail(end - start)
            start = end
            if not ids:
                return
