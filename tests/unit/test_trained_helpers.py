"""A model that the run trains from a helper: looked at, given engines and a context, and asked as that helper is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cases.case import ON_CPU, Room
from cases.proposals import HELPERS, proposing
from selfalign_api.errors import ConfigError
from selfalign_api.load import load_run
from selfalign_api.plan import Generate, Role
from selfalign_jobs.accept.program import examine
from selfalign_jobs.accept.resolve import Resolved
from selfalign_jobs.flow import Compare
from selfalign_jobs.generate.chat import ModelChat
from selfalign_jobs.generate.render import Renderer
from selfalign_jobs.generate.tokenizer import read_tokenizer

TINY = Path(__file__).parents[2] / "examples" / "tiny-model"


def accepted(tmp_path: Path, proposer: str, **spec: Any) -> Resolved:
    """A run whose proposer is the model of this URL."""
    room = Room(tmp_path)
    helpers = [*HELPERS[:2], {"name": "writer", "url": proposer}]
    run = proposing(options={"proposerModelName": "writer"}, auxiliaryModels=helpers, **spec)(room)
    return examine(load_run(run), ON_CPU, {"selfalign": str(TINY.parent)}, tmp_path)


def test_each_of_its_rounds_stands_for_the_helper(tmp_path: Path) -> None:
    plan = accepted(tmp_path, (TINY / "strong").as_uri()).plan
    writers = [step.load.model for step in plan.steps if isinstance(step, Generate)]
    assert [f"{model.lineage}/{model.iteration}" for model in writers] == ["warmProposer/1", "proposer/1"]
    assert {plan.origin(model) for model in writers} == {"writer"}
    assert {plan.given(model).url for model in writers} == {(TINY / "strong").as_uri()}


def test_its_engine_has_the_context_that_the_helper_can_hold(tmp_path: Path) -> None:
    def shorter(config: dict[str, Any]) -> None:
        config["max_position_embeddings"] = 192

    small = Room(tmp_path).model({"config.json": shorter}, "small", of="strong")
    long = {"generation.roles": [{"name": name, "maxTokens": 100} for name in ("propose", "respond", "teach")]}
    plan = accepted(tmp_path / "run", small, **long).plan
    loads = [step.loads for step in plan.steps if isinstance(step, Generate)]
    assert {load[0].max_model_tokens for load in loads} == {192}
    assert all(load.max_model_tokens in (None, 192) or load.task == "score" for each in loads for load in each)


def test_it_is_refused_where_it_cannot_be_trained(tmp_path: Path) -> None:
    def quantised(config: dict[str, Any]) -> None:
        config["quantization_config"] = {"quant_method": "gptq", "bits": 4}

    folder = Room(tmp_path).model({"config.json": quantised}, "quantised", of="strong")
    with pytest.raises(ConfigError, match=r"auxiliaryModels\[writer\].url"):
        accepted(tmp_path / "run", folder)


def test_a_guard_without_a_template_is_shown_both_turns_by_its_own_chat_template() -> None:
    chat = ModelChat(read_tokenizer(TINY / "model"))
    renderer = Renderer(chat, {"guard": Role()}, 256)
    ids, task = renderer.render(Compare("guard", "Say it", ("unsafe", "safe"), "No"))
    text = chat.tokenizer.backend.decode(ids, skip_special_tokens=False)
    assert text.index("user") < text.index("Say it") < text.index("assistant") < text.index("No")
    assert text.rindex("assistant") > text.index("No")  # where its verdict follows
    assert task.first != task.second  # type: ignore[union-attr]  # two labels
