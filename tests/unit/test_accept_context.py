"""The context of a run that names none: as much as its roles can need, and no more than the model can hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_folders import TINY

from cases.case import ON_CPU, REPOSITORY, Room
from selfalign_api.load import load_run
from selfalign_jobs.accept.context import needed
from selfalign_jobs.accept.program import examine
from selfalign_jobs.accept.prompts import sample_turns
from selfalign_jobs.accept.resolve import Resolved, resolve
from selfalign_jobs.flow import Compare, Write
from selfalign_jobs.generate.chat import ModelChat
from selfalign_jobs.generate.render import Renderer
from selfalign_jobs.generate.tokenizer import read_tokenizer
from selfalign_jobs.recipes.base import recipe
from selfalign_jobs.template import render_template

EXAMPLES = REPOSITORY / "examples"
METHOD = resolve(load_run(EXAMPLES / "sao-tiny.yaml"), "CPU", {"selfalign": str(EXAMPLES)}, EXAMPLES).method


def accepted(tmp_path: Path, **changed: Any) -> Resolved:
    room = Room(tmp_path / "room")
    spec = {"generation.maxModelTokens": None} | {path.replace("__", "."): value for path, value in changed.items()}
    run = room.run(spec)
    return examine(load_run(run), ON_CPU, {"selfalign": str(REPOSITORY / "examples")}, tmp_path)


def contexts(found: Resolved) -> set[int | None]:
    return {step.engine.max_model_tokens for step in found.plan.steps if step.kind in ("generate", "evaluate")}


@pytest.fixture(scope="module", name="chat")
def _chat() -> ModelChat:
    return ModelChat(read_tokenizer(TINY))


def test_every_engine_of_the_plan_has_it_and_the_digest_knows_it(tmp_path: Path) -> None:
    found = accepted(tmp_path)
    (tokens,) = contexts(found)
    assert tokens is not None
    assert tokens == found.method.engine.max_model_tokens == found.values["generation"]["maxModelTokens"]
    named = accepted(tmp_path / "named", generation__maxModelTokens=tokens)
    assert (named.plan.digest, named.values) == (found.plan.digest, found.values)
    other = accepted(tmp_path / "other", generation__maxModelTokens=tokens + 1)
    assert other.plan.digest != found.plan.digest
    name = found.plan.steps[0].name
    assert other.plan.step_digest(name) != found.plan.step_digest(name)


def test_it_is_no_more_than_the_model_can_hold(tmp_path: Path) -> None:
    assert contexts(accepted(tmp_path, **{"generation.roles[respond].maxTokens": 200})) == {512}


def test_one_that_is_named_stays(tmp_path: Path) -> None:
    assert contexts(accepted(tmp_path, generation__maxModelTokens=200)) == {200}


@settings(max_examples=20)
@given(st.data(), st.integers(1, 60), st.integers(1, 60))
def test_the_longest_texts_fit_whatever_the_roles_write(
    chat: ModelChat, data: st.DataObject, prompt: int, answer: int
) -> None:
    """Texts of as many tokens as the roles may write, of any tokens, in the prompts that are made of them."""
    method = METHOD.model_copy(
        update={
            "roles": {
                name: role.model_copy(update={"max_tokens": {"writePrompt": prompt, "respond": answer}.get(name, 4)})
                for name, role in METHOD.roles.items()
            }
        }
    )
    turns = sample_turns(recipe("sao"), method)
    prompts = {name: len(chat.encode(chat.text(str(turn)))) for name, turn in turns.items()}
    context = needed(method, prompts, {"personas": 40})
    ids = st.sampled_from([id for id in range(3, 250) if chat.encode(chat.decode((id,))) == [id]])  # no half characters
    texts = [
        chat.decode(tuple(data.draw(st.lists(ids, min_size=size, max_size=size)))) for size in (prompt, answer, answer)
    ]
    words = dict(zip(("prompt", "first", "second"), texts, strict=True)) | {"criteria": method.judge.criteria}
    renderer = Renderer(chat, method.roles, context)
    renderer.render(Write("respond", texts[0], 2, 0))  # raises SetAside for one that does not fit
    judged = render_template(method.roles["judge"].template or "", words)
    renderer.render(Compare("judge", judged, tuple(method.judge.verdicts)))  # type: ignore[arg-type]
