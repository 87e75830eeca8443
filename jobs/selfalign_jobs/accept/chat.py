"""The tokenizer loaded and the chat template rendered, as engine and training will: ids, end token, every role's prompt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import jinja2

from selfalign_api.errors import ConfigError, Problem
from selfalign_api.sources import ModelSource
from selfalign_jobs.accept.model_files import json_of
from selfalign_jobs.accept.prompts import sample_turns, template_field
from selfalign_jobs.generate.chat import PROBE, ModelChat
from selfalign_jobs.generate.chat_template import OWN_VARIABLES, render_chat, variables_of
from selfalign_jobs.generate.tokenizer import read_tokenizer
from selfalign_jobs.places.models import FIELD, GivenModel
from selfalign_jobs.recipes.base import Recipe
from selfalign_jobs.recipes.method import Method

NAMED = ("bos_token", "eos_token", "pad_token", "unk_token")
VARIABLES = "spec.model.chatTemplateKwargs"


@dataclass
class Talk:
    """What is known of how a model writes: what is wrong, what is worth a word, and how long prompts are at the least."""

    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    prompts: dict[str, int] = field(default_factory=dict)  # tokens, by role


def look_at_chat(
    given: ModelSource, model: GivenModel, rows: int | None, found: Recipe, method: Method, fallback: str | None
) -> Talk:
    """Load the tokenizer, render every role's prompt. `rows`: tokens that the embedding has (None: not known).

    `fallback` is the chat template that it is shown where it has none.
    """
    talk = Talk()
    try:
        tokenizer = read_tokenizer(model.folder, remote_code=given.remote_code)
        template, variables = given.chat_template, given.chat_template_kwargs
        chat = ModelChat(tokenizer, template, variables, field=model.field, fallback=fallback)
    except ModuleNotFoundError as error:
        talk.notes.append(f"The tokenizer cannot be looked at here ({error}); the steps of the run will.")
        return talk
    except ConfigError as error:
        talk.problems += list(_of_model(model, error))
        return talk
    except Exception as error:  # transformers raises what it likes for files that it cannot read
        message = f"has a tokenizer that cannot be loaded: {' '.join(str(error).split())[:300]}"
        talk.problems.append(
            Problem(model.field, model.url, f"{message}; save it again with tokenizer.save_pretrained")
        )
        return talk
    talk.problems += _variable_problems(given)
    talk.notes += _unread(given, chat)
    if rows is not None:
        beyond = [*_beyond(chat, rows), *_ends_beyond(model, rows)]
        talk.problems += [Problem(model.field, model.url, message) for message in beyond]
    for name, turn in sample_turns(found, method).items():
        if isinstance(turn, Problem):
            talk.problems.append(turn)
            continue
        try:
            talk.prompts[name] = len(chat.encode(chat.text(turn)))
        except Exception as error:  # a template that refuses this turn
            message = f"the chat template refuses what this comes to: {error or type(error).__name__}"
            talk.problems.append(Problem(template_field(name), None, f"{message}; mend one of the two"))
    if not talk.problems and (word := _endless(chat, model)):
        talk.notes.append(word)
    return talk


def _of_model(model: GivenModel, error: ConfigError) -> Iterator[Problem]:
    """What a tokenizer or a template is refused for, at the field that names the model."""
    for problem in error.problems:
        if problem.path in (FIELD, model.field):
            yield Problem(model.field, model.url, problem.message)
        else:
            yield Problem(problem.path, None, problem.message)


def _variable_problems(given: ModelSource) -> Iterator[Problem]:
    """Variables of the run's that are ours to set."""
    for name, value in given.chat_template_kwargs.items():
        if name in OWN_VARIABLES:
            message = "this is set by whoever renders the template; remove it"
            yield Problem(f"{VARIABLES}.{name}", value, message)


def _unread(given: ModelSource, chat: ModelChat) -> Iterator[str]:
    """Variables of the run's that the chat template does not read: of another model's template, or a typo."""
    read = variables_of(chat.template)
    for name in sorted(given.chat_template_kwargs.keys() - read - {*OWN_VARIABLES}):
        others = sorted(read - {*OWN_VARIABLES, *chat.tokenizer.special})
        near = get_close_matches(name, others, n=1) or others
        reads = f"it reads {', '.join(near)}" if near else "it reads none"
        yield f"The chat template reads no variable {name}, which model.chatTemplateKwargs sets: {reads}."


def _beyond(chat: ModelChat, rows: int) -> Iterator[str]:
    """Ids that the embedding has no row for: of what is written, of what any text may hold, of the end."""
    tokenizer = chat.tokenizer
    words = f"and the embedding has {rows} rows; save the tokenizer that belongs to these weights"
    largest = max(tokenizer.backend.get_vocab(with_added_tokens=False).values(), default=0)
    if largest >= rows:
        yield f"has a tokenizer with ids up to {largest}, {words}"
        return
    prompt = set(chat.encode(chat.text(PROBE)))
    named = {tokenizer.special.get(name) for name in NAMED}
    for id, token in sorted(tokenizer.added.items()):
        # A special token that nothing writes, such as one for images, does no harm.
        if id >= rows and (not token.special or id in prompt or token.content in named):
            yield f"has a tokenizer with {token.content} at id {id}, {words}"
            return


def _ends_beyond(model: GivenModel, rows: int) -> Iterator[str]:
    """End tokens of the configs that no answer can reach."""
    for name in ("config.json", "generation_config.json"):
        if odd := [id for id in _config_ends(json_of(model, name)) if not 0 <= id < rows]:
            yield f"says eos_token_id {odd[0]} in {name}, and the embedding has {rows} rows; write the end token's own id"


def _endless(chat: ModelChat, model: GivenModel) -> str | None:
    """Where the template ends a turn with a token at which no answer ends."""
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "Cr3 is said"}]
    variables = {**chat.variables, "add_generation_prompt": False}
    try:
        text = render_chat(chat.template, turns, variables)
    except (jinja2.TemplateError, TypeError, ValueError):
        return None
    before, said, after = text.rpartition(turns[1]["content"])
    closing = [id for id in chat.encode(after) if id in chat.tokenizer.added] if said and before else []
    ends = {
        chat.end_id,
        *_config_ends(json_of(model, "generation_config.json")),
        *_config_ends(json_of(model, "config.json")),
    }
    if not closing or closing[0] in ends:
        return None
    shown = chat.tokenizer.added[closing[0]].content
    return f"The chat template ends a turn with {shown}, at which no answer ends: add it to eos_token_id in generation_config.json."


def _config_ends(config: Mapping[str, Any]) -> list[int]:
    given = config.get("eos_token_id")
    return [id for id in (given if isinstance(given, list) else [given]) if type(id) is int]
