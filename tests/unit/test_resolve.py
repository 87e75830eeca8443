"""From run file to plan: defaults, digests, and what they cover."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from selfalign_api.digest import DIGEST_FIELDS
from selfalign_api.errors import ConfigError
from selfalign_api.load import load_run
from selfalign_api.plan import Publish
from selfalign_jobs.accept.resolve import Resolved, resolve

REPOSITORY = Path(__file__).parents[2]
EXAMPLE = REPOSITORY / "examples" / "sao-tiny.yaml"
MOUNTS = {"selfalign": str(REPOSITORY / "examples")}


def resolved(tmp_path: Path, *, mounts: dict[str, str] | None = None, **changes: Any) -> Resolved:
    document = yaml.safe_load(EXAMPLE.read_text())
    document["spec"]["training"]["learningRate"] = 1e-3
    for path, value in changes.items():
        target = document["spec"]
        *parents, last = path.split("__")
        for key in parents:
            target = target.setdefault(key, {})
        target[last] = value
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(document))
    return resolve(load_run(file), "CPU", mounts or MOUNTS, tmp_path)


def test_a_field_left_out_has_the_papers_value(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(
        "apiVersion: selfalign.dev/v1alpha1\nkind: SelfAlignmentRun\nmetadata: {name: bare}\n"
        "spec: {recipe: sao, model: {url: 'pvc://selfalign/tiny-model/model'}}\n"
    )
    method = resolve(load_run(file), "GPU", MOUNTS, tmp_path).method
    assert (method.training.loss.type, method.training.loss.beta, method.training.loss.gamma) == ("simpo", 10, 3)
    assert (method.training.settings.learning_rate, method.training.settings.global_batch_size) == (1e-6, 128)
    assert method.roles["respond"].temperature == 0.6
    assert method.data["personas"].count == 60_000
    assert method.training.settings.precision == "bfloat16"


@pytest.mark.parametrize(
    "change",
    [
        {"model__chatTemplateKwargs": {"enable_thinking": False, "url": "no place"}},
        {"seed": 1},
        {"iterations": 2},
        {"training__loss__beta": 3},
        {"judge__method": "random"},
        {"data__personas__count": 100},
        {"evaluation__when": "Last"},
        {"sao__promptMode": "Persona", "generation__maxModelTokens": 200},
    ],
)
def test_the_digest_covers_the_method(tmp_path: Path, change: dict[str, Any]) -> None:
    assert resolved(tmp_path, **change).plan.digest != resolved(tmp_path).plan.digest


@pytest.mark.parametrize(
    "change",
    [
        {"compute__training__zeroStage": 2},
        {"compute__generation__replicas": 2},
        {"suspend": True},
        {"failurePolicy__maxRetriesPerStep": 9},
        {"activeDeadlineSeconds": 60},
        {"storage__url": "file:///elsewhere"},
    ],
)
def test_the_digest_leaves_out_means_and_life(tmp_path: Path, change: dict[str, Any]) -> None:
    assert resolved(tmp_path, **change).plan.digest == resolved(tmp_path).plan.digest


def test_a_value_written_out_digests_as_the_value_left_out(tmp_path: Path) -> None:
    assert resolved(tmp_path, training__warmupRatio=0.1).plan.digest == resolved(tmp_path).plan.digest
    assert DIGEST_FIELDS[0] == "recipe"


@pytest.mark.parametrize("name", ["personas.jsonl", "heldout.jsonl", "model/config.json"])
def test_the_digest_covers_the_content_of_every_source(tmp_path: Path, name: str) -> None:
    import shutil

    shutil.copytree(REPOSITORY / "examples" / "tiny-model", tmp_path / "claim" / "tiny-model")
    mounts = {"selfalign": str(tmp_path / "claim")}
    before = resolved(tmp_path, mounts=mounts).plan.digest
    assert before == resolved(tmp_path).plan.digest  # the same content elsewhere is the same run
    file = tmp_path / "claim" / "tiny-model" / name
    file.write_text(file.read_text() + "\n")
    assert resolved(tmp_path, mounts=mounts).plan.digest != before


def test_a_relative_place_means_the_run_files_folder(tmp_path: Path) -> None:
    (tmp_path / "people.txt").write_text("a\nb\n")
    plan = resolved(tmp_path, data__personas={"url": "./people.txt", "count": 1}).plan
    assert plan.sources["personas"].url == (tmp_path / "people.txt").as_uri()


def test_variables_of_the_chat_template_are_of_the_model_and_of_every_step(tmp_path: Path) -> None:
    plain = resolved(tmp_path).plan
    plan = resolved(tmp_path, model__chatTemplateKwargs={"enable_thinking": False}).plan
    assert plan.models["policy"].chat_template_kwargs == {"enable_thinking": False}
    assert all(plan.step_digest(step.name) != plain.step_digest(step.name) for step in plan.steps)


def test_reasoning_is_stripped_from_prompts_and_verdicts_and_kept_in_answers(tmp_path: Path) -> None:
    roles = resolved(tmp_path).method.roles
    assert {name: role.reasoning for name, role in roles.items()} == {
        "writePrompt": "Strip",
        "respond": "Keep",
        "judge": "Strip",
    }


KEPT = {"training__adapter": "lora", "output": {"url": "./out", "adapter": "Keep"}}


@pytest.mark.parametrize("changes", [{"iterations": 1}, {"iterations": 2, "iteration__start": "initial"}])
def test_an_adapter_of_the_given_model_is_published_alone(tmp_path: Path, changes: dict[str, Any]) -> None:
    plan = resolved(tmp_path, **KEPT, **changes).plan
    (step,) = [step for step in plan.steps if isinstance(step, Publish)]
    assert step.adapter == "Keep"
    merged = resolved(tmp_path, **KEPT | {"output": {"url": "./out"}}, **changes).plan
    assert plan.digest == merged.digest  # where a result goes is not part of the method,
    assert plan.step_digest("publish") != merged.step_digest("publish")  # and the copy is another


def test_an_adapter_of_the_round_befores_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        resolved(tmp_path, **KEPT, iterations=2)
    assert str(caught.value) == (
        "spec.output.adapter: Keep: the adapter of round 2 sits on the model of round 1, not on the given one; "
        "write iteration: {start: initial}, or iterations: 1, or adapter: Merge"
    )


def test_a_loop_too_short_to_end_early_is_refused_where_iterations_are_the_recipes(tmp_path: Path) -> None:
    changes = {"evaluation__selectBy": "accuracy", "evaluation__stopAfterWorse": 1}
    with pytest.raises(
        ConfigError, match=r"1: the loop is over before it could end early: sao makes 1 where .*iterations: 3"
    ):
        resolved(tmp_path, **changes)
    (step,) = [step for step in resolved(tmp_path, **changes, iterations=3).plan.steps if isinstance(step, Publish)]
    assert (step.name, step.select_by, step.stop_after_worse) == ("select", "accuracy", 1)


def test_the_switches_of_adapters_are_the_trainings_and_part_of_the_method(tmp_path: Path) -> None:
    plain = resolved(tmp_path, training__adapter="lora")
    for switch in ("dora", "rankStabilized"):
        found = resolved(tmp_path, training__adapter="lora", training__lora={switch: True})
        assert found.plan.digest != plain.plan.digest
        lora = found.method.training.settings.lora
        assert lora is not None
        assert (lora.dora, lora.rank_stabilized) == (switch == "dora", switch == "rankStabilized")
