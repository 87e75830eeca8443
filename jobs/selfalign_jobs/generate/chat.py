"""How a model writes and reads: a user's turn in, token ids out, and back; the same wherever a prompt is rendered."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Protocol

import jinja2

from selfalign_api.errors import ConfigError
from selfalign_api.plan_values import Json
from selfalign_api.sources import ModelSource
from selfalign_jobs.flow import SetAside
from selfalign_jobs.generate.chat_template import DEFAULT, render_chat
from selfalign_jobs.generate.reasoning import Markers, Reasoning, markers_of
from selfalign_jobs.generate.tokenizer import FIELD, Tokenizer, load_tokenizer

TEMPLATE_FIELD = "spec.model.chatTemplateUrl"
# A turn whose beginning and end cannot be mistaken: templates that cut, fold or escape what a user says lose one of them.
FIRST, LAST = "Aq1 begins here", "and Bq2 ends it."
PROBE = f"{FIRST}\n\nin between, {LAST}"
NOT_SHOWN = "the chat template does not show what the user says"

ANSWER = "Cr3 is said"  # stands nowhere else in a template

History = Sequence[Mapping[str, str]]  # the messages, {role, content}, before a user's turn
Content = Callable[[str], Json]  # words of a message as the template takes them
CONTENTS: dict[str, Content] = {
    "text": lambda user: user,
    "parts": lambda user: [{"type": "text", "text": user}],  # as templates of models that see have it
}


class Chat(Protocol):
    """How a model writes and reads: one user turn in, token ids out, and back."""

    end_id: int
    reasoning: Reasoning | None  # None: a model without markers of it

    def text(self, user: str, history: History = ()) -> str:
        """The prompt: one user turn, and the beginning of the assistant's; before it what was said, if anything."""

    def encode(self, text: str) -> list[int]:
        """Ids of a rendered prompt, which holds its special tokens as text already."""

    def answered(self, user: str, answer: str) -> str:
        """The prompt after a turn of both: what a guard is shown, whose verdict follows."""

    def given(self, user: str, answer: str, history: History = ()) -> tuple[list[int], list[int]]:
        """Ids of a prompt, and of an answer that somebody else gave, as the model would have written it."""

    prefix_id: int  # what stands before a text that nothing stands before

    def plain(self, text: str, *, special: bool = True) -> list[int]:
        """Ids of a text that is no chat, with the special tokens that the tokenizer puts around one, or without."""

    def decode(self, ids: tuple[int, ...]) -> str:
        """Text of an answer, without special tokens."""


class ModelChat:
    """A model's tokenizer and chat template: a user turn in, token ids out, and back."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        chat_template: str | None = None,
        variables: Mapping[str, Json] | None = None,
        rows: int | None = None,
        ends: frozenset[int] = frozenset(),
        field: str = FIELD,
        fallback: str | None = None,
    ) -> None:
        """`chat_template` replaces the folder's own; `variables` are further ones of it; the embedding has so many `rows`;
        the engine ends an answer at any of `ends`, and at the tokenizer's own end token. `fallback` stands for the template
        of a folder that has none.

        `field` is where the run file names the model.

        Raises ConfigError for a model without a chat template, or with one that does not show what a user says.
        """
        self.tokenizer = tokenizer
        self._tokenizer = tokenizer.backend
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.template = _default(tokenizer.templates, field, fallback) if chat_template is None else chat_template
        self.variables = {**tokenizer.special, **(variables or {})}
        self.end_id: int = tokenizer.end_id
        first = self._tokenizer.token_to_id(str(tokenizer.special.get("bos_token")))
        self.prefix_id: int = self.end_id if first is None else first
        self._ends = {self.end_id, *ends}
        self.content = self._content_shown(field if chat_template is None else TEMPLATE_FIELD)
        opening = self.text(PROBE)
        self._breaks = [
            token.content
            for token in tokenizer.added.values()
            if token.special and not token.lstrip and token.content in opening
        ]
        # Such as a token for images in the text half of a model that sees: an engine that is given one dies of it.
        self._foreign = [token.content for id, token in tokenizer.added.items() if rows is not None and id >= rows]
        self._encode_piece = lru_cache(maxsize=16)(self._encode_whole)
        markers = markers_of({id: token.content for id, token in tokenizer.added.items()})
        self.reasoning = self._reasoning(markers, opening.rpartition(LAST)[2]) if markers else None

    @classmethod
    def of(
        cls,
        model: Path,
        given: ModelSource | None,
        fallback: str | None = None,
        read: Callable[..., Tokenizer] = load_tokenizer,
    ) -> ModelChat:
        """The chat of a model folder, as the run gave its model (None: a model that only training makes)."""
        rows, ends = _vocabulary(model), _ends(model)
        if given is None:
            return cls(read(model), rows=rows, ends=ends)
        tokenizer = read(model, remote_code=given.remote_code)
        template, variables = given.chat_template, given.chat_template_kwargs
        return cls(tokenizer, template, variables, rows, ends, fallback=fallback)

    def text(self, user: str, history: History = ()) -> str:
        """The prompt: one user turn, and the beginning of the assistant's; before it what was said, if anything."""
        return self._rendered(user, self.content, history)

    def answered(self, user: str, answer: str) -> str:
        """The prompt after a turn of both: what a guard is shown, whose verdict follows."""
        return self._rendered(user, self.content, answer=answer)

    def finished(self, user: str, answer: str | None, history: History = ()) -> str:
        """A conversation with its answer, or without one, as the template ends it."""
        return self._rendered(user, self.content, history, answer, opens=False)

    def _rendered(
        self, user: str, content: str, history: History = (), answer: str | None = None, *, opens: bool = True
    ) -> str:
        """`opens`: the assistant's turn begins at its end."""
        said = [*history, {"role": "user", "content": user}]
        if answer is not None:
            said.append({"role": "assistant", "content": answer})
        messages = [{"role": each["role"], "content": CONTENTS[content](each["content"])} for each in said]
        return render_chat(self.template, messages, {"add_generation_prompt": opens} | self.variables)

    def given(self, user: str, answer: str, history: History = ()) -> tuple[list[int], list[int]]:
        """Ids of a prompt, and of an answer that somebody else gave, as the model would have written it: one end token.

        Where the prompt opens a block of reasoning, it is closed, and empty. SetAside for an answer that ends in its middle.
        """
        before, end = self._answered
        prompt = self.text(user, history) + (self.reasoning.ending if self.reasoning is not None else "")
        prompt_ids, whole = self.encode(prompt), self.encode(prompt + before + answer)
        joined = whole[: len(prompt_ids)] == prompt_ids  # else a token reaches over the place where the answer begins
        ids = whole[len(prompt_ids) :] if joined else self._encode_whole(before + answer)
        while ids and ids[-1] in self._ends:  # some write the end token into their texts
            ids.pop()
        if not self._ends.isdisjoint(ids):
            raise SetAside("end token in an answer", answer[:200])
        return prompt_ids, [*ids, end]

    @cached_property
    def _answered(self) -> tuple[str, int]:
        """What a template writes before and after an answer: white space, and the token at which the engine ends one."""
        try:
            before, _, after = self._rendered(PROBE, self.content, answer=ANSWER).rpartition(ANSWER)
        except Exception:  # whatever a template does with an assistant's turn: it need not take one
            return "", self.end_id
        space = before.removeprefix(self.text(PROBE))
        ending = next((id for id in self._encode_whole(after) if id in self.tokenizer.added), self.end_id)
        return ("" if space.strip() else space), (ending if ending in self._ends else self.end_id)

    def _content_shown(self, field: str) -> str:
        """How the template takes what a user says: as text, or as parts. ConfigError where neither shows all of it once."""
        wrong = []
        for content in CONTENTS:
            try:
                prompt = self._rendered(PROBE, content)
                said = list(_not_shown(prompt))
                if content == "parts" and PROBE not in prompt:  # the list itself was printed
                    said = [NOT_SHOWN]
            except jinja2.TemplateSyntaxError as error:
                raise ConfigError.one(
                    field, f"the chat template's line {error.lineno} is not Jinja: {error}"
                ) from error
            except Exception as error:  # whatever a template does with what it is given
                said = [f"the chat template refuses a user's turn: {error or type(error).__name__}"]
            if not said:
                return content
            wrong += said
        mend = (
            "write the URL of another model" if _is_helper(field) else "write model.chatTemplateUrl: URL of a template"
        )
        raise ConfigError.one(field, f"{wrong[0]}; {mend} that shows it")

    def _reasoning(self, markers: Markers, beginning: str) -> Reasoning:
        """`beginning` is what the template writes of the assistant's turn."""
        ids = self._encode_whole(beginning)[::-1]
        places = [ids.index(id) if id in ids else len(ids) for id in (markers.opening, markers.closing)]
        if places[0] >= places[1]:
            return Reasoning(markers, opened=False)
        ending = f"\n{markers.close}\n\n"
        return Reasoning(markers, opened=True, ending=ending, ending_ids=tuple(self._encode_whole(ending)))

    def encode(self, text: str) -> list[int]:
        """Ids of a rendered prompt, which holds its special tokens as text already.

        A tokenizer takes special tokens out before anything else, so what lies before the last one and what begins with
        it are encoded apart: two candidate verdicts share the long piece, all prompts of a template the short one.
        SetAside("no such token") for a text with one that the embedding has no row for.
        """
        for token in self._foreign:
            if token in text:
                raise SetAside("no such token", f"{token} is of the tokenizer, and the model has no embedding for it")
        cut = max(0, max(map(text.rfind, self._breaks), default=0))
        return [*self._encode_piece(text[:cut]), *self._encode_piece(text[cut:])]

    def plain(self, text: str, *, special: bool = True) -> list[int]:
        """Ids of a text that is no chat, with the special tokens that the tokenizer puts around one, or without.

        A text that begins with the first of them already gets no second.
        """
        begun = text.startswith(str(self.tokenizer.special.get("bos_token") or "\0"))
        (encoding,) = self._tokenizer.encode_batch_fast([text], add_special_tokens=special and not begun)
        ids: list[int] = encoding.ids
        return ids

    def _encode_whole(self, text: str) -> list[int]:
        # Of a batch of one: only that call spares the offsets, a quarter of its time.
        (encoding,) = self._tokenizer.encode_batch_fast([text], add_special_tokens=False)
        ids: list[int] = encoding.ids
        return ids

    def decode(self, ids: tuple[int, ...]) -> str:
        """Text of an answer, without special tokens."""
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True)
        return text


def _vocabulary(model: Path) -> int | None:
    """Rows of the embedding, as the config says."""
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    rows = {**config, **(config.get("text_config") or {})}.get("vocab_size")
    return rows if isinstance(rows, int) else None


def _ends(model: Path) -> frozenset[int]:
    """The tokens at which an answer ends, as the configs say."""
    found: set[int] = set()
    for name in ("generation_config.json", "config.json"):
        if (file := model / name).exists():
            ends = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id")
            found |= {id for id in (ends if isinstance(ends, list) else [ends]) if type(id) is int}
    return frozenset(found)


def _default(templates: Mapping[str, str], field: str, fallback: str | None) -> str:
    """The chat template that stands for all. Raises ConfigError without one."""
    if DEFAULT in templates:
        return templates[DEFAULT]
    if fallback is not None and not templates:
        return fallback
    if templates:
        named = ", ".join(sorted(templates))
        message = f"has the chat templates {named} and none named {DEFAULT}; "
        message += "save it under that name" if _is_helper(field) else "write one as model.chatTemplateUrl"
    else:
        message = "has no chat template; "
        message += "" if _is_helper(field) else "write model.chatTemplateUrl, or "
        message += "take an instruct model"
    raise ConfigError.one(field, f"the model {message}")


def _is_helper(field: str) -> bool:
    """Whether a model is not the run's own, whose template a run file can replace."""
    return field not in (FIELD, TEMPLATE_FIELD)


def _not_shown(prompt: str) -> Iterator[str]:
    """What is wrong with how a prompt shows PROBE."""
    counts, places = [prompt.count(part) for part in (FIRST, LAST)], [prompt.find(part) for part in (FIRST, LAST)]
    if 0 in counts:
        yield NOT_SHOWN
    elif max(counts) > 1:
        yield "the chat template shows what the user says more than once"
    elif places[0] > places[1]:
        yield "the chat template changes the order of what the user says"
