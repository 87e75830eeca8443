"""Rendered once: role templates and the chat template make token ids, which then travel to engine and trainer as they are."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping

from selfalign_api.plan import Role
from selfalign_jobs.flow import (
    Compare,
    Completion,
    Continue,
    Continued,
    Given,
    Likelihood,
    Likely,
    Request,
    SetAside,
    Write,
)
from selfalign_jobs.generate.chat import Chat
from selfalign_jobs.generate.continuation import Continuations
from selfalign_jobs.generate.engine import Labels, Sample, Sampling, Task
from selfalign_jobs.generate.reasoning import Reasoning

SHOWN_CHARACTERS = 200  # of an answer that missed its prefix, kept to be looked at


class Renderer:
    """Turns a flow's requests into what the engine takes, and what the engine gives into a flow's replies."""

    def __init__(self, chat: Chat, roles: Mapping[str, Role], context_tokens: int) -> None:
        self.chat = chat
        self._roles = roles
        self._context_tokens = context_tokens
        self._continuations = Continuations(chat, context_tokens)

    def render(self, request: Request) -> tuple[list[int], Task]:
        """Prompt ids, and what is asked of them. Raises SetAside for what cannot be asked."""
        if isinstance(request, Write):
            return self._write(request)
        if isinstance(request, Compare):
            return self._compare(request)
        if isinstance(request, Continue):
            return self._continuations.continued(request, self._reasons(request))
        if isinstance(request, Likelihood):
            return self._continuations.likelihood(request)
        raise TypeError(f"a model that writes text gives no {type(request).__name__}")

    def _write(self, request: Write) -> tuple[list[int], Sampling]:
        """SetAside("too long") when prompt and answer exceed the context."""
        role = self._roles[request.role]
        for user in (request.user, *request.shorter):
            prompt_ids = self.chat.encode(self.chat.text(user, request.history))
            if len(prompt_ids) + role.max_tokens <= self._context_tokens:
                break
        self._check_length(len(prompt_ids), role.max_tokens)
        sampling = (role.temperature, role.top_p, role.top_k, role.max_tokens, request.seed, role.stop)
        return prompt_ids, Sampling(request.n, *sampling)

    def _compare(self, request: Compare) -> tuple[list[int], Labels]:
        """Prompt with the candidates' common beginning, and the two tokens at which they part.

        Both candidates are tokenised as continuations of the prompt and closed by the end token, so that one which is the
        beginning of the other is compared where it ends. SetAside("equal verdicts") when they do not differ at all.
        """
        user, said = request.user, request.answer
        text = self.chat.text(user) if said is None else self.chat.answered(user, said)
        if (reasoning := self._stripped(request.role)) is not None:
            text += reasoning.ending  # else a verdict would be compared as a part of the reasoning
        first, second = ([*self.chat.encode(text + candidate), self.chat.end_id] for candidate in request.candidates)
        if first == second:
            raise SetAside("equal verdicts", request.candidates[0])
        common = bisect_left(range(len(first)), True, key=lambda place: first[: place + 1] != second[: place + 1])
        self._check_length(common, 1)
        return first[:common], Labels(first[common], second[common])

    def completions(self, request: Write, prompt_ids: list[int], samples: tuple[Sample, ...]) -> list[Completion]:
        """The reply to a Write: texts with the role's prefix stripped. SetAside("no prefix") for one that lacks it.

        Where reasoning is stripped, text, ids and prompt are those of the answer alone: what is judged is what is trained.
        """
        role, reasoning = self._roles[request.role], self._stripped(request.role)
        before = tuple(prompt_ids) if reasoning is None else reasoning.closed(prompt_ids)
        completions = []
        for number, sample in enumerate(samples):
            ids = sample.ids if reasoning is None else reasoning.answer(sample.ids, self.chat.decode)
            text = self.chat.decode(ids)
            if role.output_prefix:
                text = _without_prefix(text, role.output_prefix)
            completions.append(Completion(text, ids, before, sample.finish_reason, request.seed + number))
        return completions

    def continued(self, request: Continue, prompt_ids: list[int], samples: tuple[Sample, ...]) -> Continued:
        """The reply to a Continue."""
        (sample,) = samples
        return self._continuations.read(request, prompt_ids, sample, self._reasons(request))

    def likely(self, request: Likelihood, prompt_ids: list[int], answer: Likely) -> Likely:
        """The reply to a Likelihood."""
        return self._continuations.likely(request, prompt_ids, answer)

    def _reasons(self, request: Continue) -> Reasoning | None:
        return None if request.context.user is None else self._stripped(request.role)

    def given(self, request: Given) -> Completion:
        """An answer of somebody else's as if the role had written it. SetAside for one that it cannot have written."""
        prompt_ids, ids = self.chat.given(request.user, request.answer, request.history)
        return Completion(request.answer, tuple(ids), tuple(prompt_ids), "stop", 0)

    def _stripped(self, role: str) -> Reasoning | None:
        """How the model reasons, where that is taken out of what the role writes."""
        return self.chat.reasoning if self._roles[role].reasoning == "Strip" else None

    def _check_length(self, prompt_tokens: int, answer_tokens: int) -> None:
        if prompt_tokens + answer_tokens > self._context_tokens:
            detail = (
                f"{prompt_tokens} tokens of prompt and {answer_tokens} of answer, {self._context_tokens} of context"
            )
            raise SetAside("too long", detail)


def _without_prefix(text: str, prefix: str) -> str:
    stripped = text.lstrip()
    if not stripped.startswith(prefix):
        raise SetAside("no prefix", text[:SHOWN_CHARACTERS])
    return stripped[len(prefix) :].strip()
