"""Role templates are rendered in a sandbox, with their variables and nothing else."""

from __future__ import annotations

from pathlib import Path

import jinja2
import pytest
from model_folders import TEMPLATE, adds, model_folder

from selfalign_api.plan import Role
from selfalign_jobs.flow import Compare, SetAside, Write
from selfalign_jobs.generate.chat import ModelChat
from selfalign_jobs.generate.engine import Labels, Sample
from selfalign_jobs.generate.render import Renderer
from selfalign_jobs.generate.tokenizer import read_tokenizer
from selfalign_jobs.template import render_template

ROLES = {
    "respond": Role(),
    "writePrompt": Role(output_prefix="User prompt:", reasoning="Strip"),
    "judge": Role(reasoning="Strip"),
}


@pytest.fixture(name="chat", params=["", "{% if add_generation_prompt %}<think>\n{% endif %}"])
def _chat(request: pytest.FixtureRequest, tmp_path: Path) -> ModelChat:
    """A model that reasons, and one whose template begins to."""
    changes = {"tokenizer.json": adds("<think>", "</think>"), "chat_template.jinja": TEMPLATE + request.param}
    return ModelChat(read_tokenizer(model_folder(tmp_path / "model", changes)))


def written(chat: ModelChat, text: str) -> tuple[Sample, ...]:
    return (Sample((*chat.encode(text), chat.end_id), "stop"),)


def test_a_template_with_an_unknown_variable_raises() -> None:
    with pytest.raises(jinja2.UndefinedError, match="topic"):
        render_template("About {{ topic }}", {"prompt": "p"})


def test_a_template_reaches_nothing_but_its_variables() -> None:
    with pytest.raises(jinja2.exceptions.SecurityError):
        render_template("{{ ''.__class__.__mro__[1].__subclasses__() }}", {})


def test_reasoning_is_stripped_before_the_prefix_is_looked_for(chat: ModelChat) -> None:
    renderer = Renderer(chat, ROLES, 2048)
    request = Write("writePrompt", "hi", 1, 0)
    prompt_ids, _ = renderer.render(request)
    text = (
        "</think>User prompt: cow" if chat.reasoning and chat.reasoning.opened else "<think>1</think>User prompt: cow"
    )
    (done,) = renderer.completions(request, prompt_ids, written(chat, text))
    assert done.text == "cow"
    assert done.ids == (*chat.encode("User prompt: cow"), chat.end_id)
    whole = chat.decode((*done.prompt_ids, *done.ids))
    assert whole.count("<think>") == whole.count("</think>")  # what is trained has no block that is open


def test_a_role_that_keeps_its_reasoning_is_trained_with_it(chat: ModelChat) -> None:
    renderer = Renderer(chat, ROLES, 2048)
    request = Write("respond", "hi", 1, 0)
    prompt_ids, _ = renderer.render(request)
    samples = written(chat, "<think>1</think>cow")
    (done,) = renderer.completions(request, prompt_ids, samples)
    assert (done.text, done.ids, list(done.prompt_ids)) == ("<think>1</think>cow", samples[0].ids, prompt_ids)


def test_reasoning_that_does_not_end_sets_its_record_aside(chat: ModelChat) -> None:
    renderer = Renderer(chat, ROLES, 2048)
    request = Write("writePrompt", "hi", 1, 0)
    with pytest.raises(SetAside, match="unclosed reasoning"):
        renderer.completions(request, renderer.render(request)[0], written(chat, "<think>1 2 3"))


def test_verdicts_are_compared_after_the_reasoning(chat: ModelChat) -> None:
    prompt_ids, labels = Renderer(chat, ROLES, 2048).render(Compare("judge", "hi", ("cow", "rake")))
    text = chat.decode(tuple(prompt_ids))
    assert isinstance(labels, Labels)
    assert text.count("<think>") == text.count("</think>")
