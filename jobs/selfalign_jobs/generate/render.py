"""Rendered once: role templates and the chat template make token ids, which then travel to engine and trainer as they are."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from selfalign_api.errors import ConfigError
from selfalign_api.plan import Role
from selfalign_jobs.flow import Compare, Completion, Request, SetAside, Write
from selfalign_jobs.generate.engine import Labels, Sample, Sampling

SHOWN_CHARACTERS = 200  # of an answer that missed its prefix, kept to be looked at

_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined)


@lru_cache(maxsize=256)
def _compiled(template: str) -> jinja2.Template:
    return _ENVIRONMENT.from_string(template)


def render_template(template: str, variables: Mapping[str, Any]) -> str:
    """A role's or verdict's template with its variables; `jinja2.UndefinedError` for one that is not there."""
    return _compiled(template).render(variables)


class Chat(Protocol):
    """How a model writes and reads: one user turn in, token ids out, and back."""

    end_id: int

    def text(self, user: str) -> str:
        """The prompt: one user turn, and the beginning of the assistant's."""

    def encode(self, text: str) -> list[int]:
        """Ids of a rendered prompt, which holds its special tokens as text already."""

    def decode(self, ids: tuple[int, ...]) -> str:
        """Text of an answer, without special tokens."""


class ModelChat:
    """A model's tokenizer and chat template: a user turn in, token ids out, and back."""

    def __init__(self, model: Path, chat_template: str | None = None) -> None:
        """Read them from a model folder; `chat_template` replaces the folder's own.

        Raises ConfigError for a folder without a fast tokenizer, an end token or a chat template.
        """
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(model)
        if not tokenizer.is_fast:
            raise ConfigError.one(
                "spec.model.url", "the model has no tokenizer.json; save its fast tokenizer", str(model)
            )
        if tokenizer.eos_token_id is None:
            raise ConfigError.one("spec.model.url", "the tokenizer has no end token; set eos_token", str(model))
        template = chat_template or tokenizer.chat_template
        if not isinstance(template, str):
            raise ConfigError.one(
                "spec.model.url", "the model has no chat template; write one as spec.model.chatTemplate", str(model)
            )
        self._tokenizer = tokenizer.backend_tokenizer
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._template = template
        self._special: dict[str, Any] = tokenizer.special_tokens_map
        self.end_id: int = tokenizer.eos_token_id
        opening = self.text("")
        self._breaks = [
            token.content
            for token in tokenizer.added_tokens_decoder.values()
            if token.special and not token.lstrip and token.content in opening
        ]
        self._encode_piece = lru_cache(maxsize=16)(self._encode_whole)

    def text(self, user: str) -> str:
        """The prompt: one user turn, and the beginning of the assistant's."""
        from transformers.utils.chat_template_utils import render_jinja_template

        messages = [{"role": "user", "content": user}]
        (text,), _ = render_jinja_template(
            [messages], chat_template=self._template, add_generation_prompt=True, **self._special
        )
        return str(text)

    def encode(self, text: str) -> list[int]:
        """Ids of a rendered prompt, which holds its special tokens as text already.

        A tokenizer takes special tokens out before anything else, so what lies before the last one and what begins with
        it are encoded apart: two candidate verdicts share the long piece, all prompts of a template the short one.
        """
        cut = max(0, max(map(text.rfind, self._breaks), default=0))
        return [*self._encode_piece(text[:cut]), *self._encode_piece(text[cut:])]

    def _encode_whole(self, text: str) -> list[int]:
        # Of a batch of one: only that call spares the offsets, a quarter of its time.
        (encoding,) = self._tokenizer.encode_batch_fast([text], add_special_tokens=False)
        ids: list[int] = encoding.ids
        return ids

    def decode(self, ids: tuple[int, ...]) -> str:
        """Text of an answer, without special tokens."""
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True)
        return text


class Renderer:
    """Turns a flow's requests into what the engine takes, and what the engine gives into a flow's replies."""

    def __init__(self, chat: Chat, roles: Mapping[str, Role], context_tokens: int) -> None:
        self.chat = chat
        self._roles = roles
        self._context_tokens = context_tokens

    def render(self, request: Request) -> tuple[list[int], Sampling | Labels]:
        """Prompt ids, and what is asked of them. Raises SetAside for what cannot be asked."""
        return self._write(request) if isinstance(request, Write) else self._compare(request)

    def _write(self, request: Write) -> tuple[list[int], Sampling]:
        """SetAside("too long") when prompt and answer exceed the context."""
        role = self._roles[request.role]
        prompt_ids = self.chat.encode(self.chat.text(request.user))
        self._check_length(len(prompt_ids), role.max_tokens)
        return prompt_ids, Sampling(request.n, role.temperature, role.top_p, role.top_k, role.max_tokens, request.seed)

    def _compare(self, request: Compare) -> tuple[list[int], Labels]:
        """Prompt with the candidates' common beginning, and the two tokens at which they part.

        Both candidates are tokenised as continuations of the prompt and closed by the end token, so that one which is the
        beginning of the other is compared where it ends. SetAside("equal verdicts") when they do not differ at all.
        """
        text = self.chat.text(request.user)
        first, second = ([*self.chat.encode(text + candidate), self.chat.end_id] for candidate in request.candidates)
        if first == second:
            raise SetAside("equal verdicts", request.candidates[0])
        common = bisect_left(range(len(first)), True, key=lambda place: first[: place + 1] != second[: place + 1])
        self._check_length(common, 1)
        return first[:common], Labels(first[common], second[common])

    def completions(self, request: Write, prompt_ids: list[int], samples: tuple[Sample, ...]) -> list[Completion]:
        """The reply to a Write: texts with the role's prefix stripped. SetAside("no prefix") for one that lacks it."""
        role = self._roles[request.role]
        completions = []
        for number, sample in enumerate(samples):
            text = self.chat.decode(sample.ids)
            if role.output_prefix:
                text = _without_prefix(text, role.output_prefix)
            completions.append(
                Completion(text, sample.ids, tuple(prompt_ids), sample.finish_reason, request.seed + number)
            )
        return completions

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
