"""A recipe's further trainings, on a played recipe that has two: their values, their digests, and who may name them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from selfalign_api.load import parse
from selfalign_api.plan import ModelRef, Plan, Prepare, SourceRef, Train, digest_of
from selfalign_api.rule_table import stage_rules
from selfalign_api.run import Recipe, SelfAlignmentRun, Spec
from selfalign_api.run_file import TrainingMeans
from selfalign_api.sources import DataSource, ModelSource
from selfalign_api.training import STAGES, Stage
from selfalign_api.training_values import Loss, TrainSettings
from selfalign_jobs.accept import resolve
from selfalign_jobs.accept.training import training_problems
from selfalign_jobs.recipes import base, sao
from selfalign_jobs.recipes.base import RECIPES

PLAYED = {"improver": {"epochs": 3}, "promptGenerator": {"learningRate": 1e-5, "optimizer": {"type": "rmsprop"}}}
RUN = {
    "apiVersion": "selfalign.dev/v1alpha1",
    "kind": "SelfAlignmentRun",
    "metadata": {"name": "a-run"},
}


def played_recipe(name: str) -> base.Recipe:
    """SAO with two further trainings that nothing reads."""
    found = base.recipe(name)

    def defaults_for(given: Any) -> dict[str, Any]:
        values = sao.defaults_for(given)
        values["training"]["stages"] = [{"name": stage, **fields} for stage, fields in PLAYED.items()]
        return values

    return base.Recipe(**{**vars(found), "defaults_for": defaults_for})


@pytest.fixture(name="values_of")
def _values_of(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(resolve, "recipe", played_recipe)
    return lambda training: resolve.method_values(run_with(training), "GPU", {}, Path())


def run_with(training: dict[str, Any]) -> SelfAlignmentRun:
    run = RUN | {"spec": {"recipe": "sao", "model": {"url": "file:///model"}, "training": training}}
    return parse(SelfAlignmentRun, run, "")


@pytest.mark.parametrize(
    ("training", "stage", "settings"),
    [
        ({}, "improver", {"epochs": 3, "learning_rate": 1e-6, "global_batch_size": 128}),
        ({}, "promptGenerator", {"epochs": 1, "learning_rate": 1e-5}),
        ({"learningRate": 2e-6, "epochs": 2}, "improver", {"epochs": 3, "learning_rate": 2e-6}),
        ({"epochs": 2, "stages": [{"name": "improver", "epochs": 0.5}]}, "improver", {"epochs": 0.5}),
        ({"stages": [{"name": "improver", "maxGradientNorm": 2}]}, "promptGenerator", {"max_gradient_norm": 1}),
        ({"warmupRatio": 0.3, "stages": [{"name": "improver"}]}, "improver", {"warmup_ratio": 0.3}),
        ({"adapter": "lora", "precision": "float16"}, "improver", {"precision": "float16", "overlong": "Drop"}),
    ],
)
def test_a_value_is_the_users_else_the_recipes_else_that_of_the_main_training(
    values_of: Any, training: dict[str, Any], stage: str, settings: dict[str, Any]
) -> None:
    found = resolve.method_of(values_of(training)).training.stage(stage)
    assert {field: getattr(found, field) for field in settings} == settings


def test_an_optimiser_is_laid_over_the_main_ones(values_of: Any) -> None:
    training = {
        "optimizer": {"weightDecay": 0.1, "beta2": 0.9},
        "stages": [{"name": "promptGenerator", "optimizer": {"beta2": 0.8}}],
    }
    found = resolve.method_of(values_of(training)).training
    optimizer = found.stage("promptGenerator").optimizer
    assert (optimizer.type, optimizer.weight_decay, optimizer.beta2) == ("rmsprop", 0.1, 0.8)
    assert (found.settings.optimizer.type, found.settings.optimizer.beta2) == ("adamw", 0.9)


def test_every_field_of_a_stage_arrives(values_of: Any) -> None:
    every = {
        "learningRate": 3e-6,
        "learningRateSchedule": "constant",
        "warmupRatio": 0.25,
        "optimizer": {"type": "adafactor", "weightDecay": 0.5, "beta1": 0.5, "beta2": 0.6, "epsilon": 1e-5},
        "maxGradientNorm": 7,
        "epochs": 9,
        "globalBatchSize": 11,
        "maxLengthTokens": 99,
        "maxPromptTokens": 33,
    }
    assert {field.alias for field in Stage.model_fields.values()} == {"name", *every}
    found = resolve.method_of(values_of({"stages": [{"name": "improver", **every}]})).training.stage("improver")
    assert resolve._snake(every) == found.model_dump(include=set(resolve._snake(every)))


def test_a_stages_value_is_part_of_the_method_and_the_main_trainings_stands_as_it_was(values_of: Any) -> None:
    bare, other = values_of({}), values_of({"stages": [{"name": "improver", "epochs": 4}]})
    assert digest_of(bare) != digest_of(other)
    assert resolve.method_of(bare).training.settings == resolve.method_of(other).training.settings


def test_a_recipe_without_stages_digests_as_before() -> None:
    assert "stages" not in resolve.method_values(run_with({}), "GPU", {}, Path())["training"]


def test_the_names_of_the_api_are_those_that_the_recipes_have_values_for() -> None:
    for name in RECIPES:
        stages = base.recipe(name).defaults_for({})["training"].get("stages", [])
        assert tuple(stage["name"] for stage in stages) == STAGES.get(name, ())
    assert set(STAGES) <= set(get_args(Recipe))


def spec_of(recipe: str, *stages: str) -> Spec:
    training = {"stages": [{"name": name, "epochs": 1} for name in stages]}
    return parse(Spec, {"recipe": recipe, "model": {"url": "file:///m"}, "training": training}, "spec")


@pytest.mark.parametrize(
    ("recipe", "stages", "said"),
    [
        ("spin", ("improver",), []),
        ("spin", ("promptGenerator", "improver"), []),
        ("sao", (), []),
        ("sao", ("improver",), ["this recipe has one training only"]),
        (
            "spin",
            ("improver", "warmUp"),
            ["recipe spin has the further trainings improver, promptGenerator; use one"],
        ),
    ],
)
def test_a_stage_that_the_recipe_lacks_is_refused_with_those_that_it_has(
    recipe: str, stages: tuple[str, ...], said: list[str]
) -> None:
    rules = stage_rules({"spin": tuple(PLAYED)})
    broken = [rule.message for rule in rules if not rule.holds(spec_of(recipe, *stages))]
    assert [message.startswith(words) for message, words in zip(broken, said, strict=True)] == [True] * len(said)


def plan_of(settings: TrainSettings, stage: str | None) -> Plan:
    step = Train(
        name="i1-train-improver",
        iteration=1,
        stage=stage,
        objective="sft",
        loss=Loss(type="sft"),
        data=Prepare(fn="improvements", inputs=(SourceRef(name="demonstrations"),)),
        start=ModelRef(),
        result=ModelRef(lineage="improver", iteration=1),
        settings=settings,
    )
    return Plan(
        version="0",
        name="a-run",
        recipe="synpo",
        seed=0,
        digest="sha256:0",
        models={"policy": ModelSource(url="file:///m")},
        sources={"demonstrations": DataSource()},
        steps=(step,),
    )


def test_what_a_stage_asks_for_and_cannot_be_is_said_at_its_own_field() -> None:
    settings = TrainSettings(learning_rate=1, max_prompt_tokens=9, max_length_tokens=9)
    found = training_problems(plan_of(settings, "improver"), TrainingMeans(device="GPU", gpus_per_node=256))
    assert [problem.path for problem in found] == ["spec.training.stages[improver].globalBatchSize"]
    found = training_problems(plan_of(settings, None), TrainingMeans(device="GPU", gpus_per_node=256))
    assert [problem.path for problem in found] == ["spec.training.globalBatchSize"]


def test_a_name_is_no_part_of_a_steps_digest() -> None:
    settings = TrainSettings(learning_rate=1)
    digests = {plan_of(settings, stage).step_digest("i1-train-improver") for stage in (None, "improver")}
    assert len(digests) == 1
