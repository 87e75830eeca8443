"""What was resolved when a run began stays resolved, whatever becomes of its ConfigMap and of the operator's version."""

from __future__ import annotations

import copy
import json
import random
import zlib
from base64 import b64encode
from typing import Any

import pytest
from effective_runs import ATTEMPTS, effective
from hypothesis import given
from hypothesis import strategies as st
from reconcile_world import CONFIG, FakeRender, World, finish, message, reason

from selfalign_api.status import PACKED_MAX_CHARACTERS, PlanStatus
from selfalign_operator.effective import Frozen
from selfalign_operator.frozen import FORMAT, frozen_of, frozen_of_status
from selfalign_operator.names import config_map_name
from selfalign_operator.packed import packed, unpacked
from selfalign_operator.reconcile import decide
from selfalign_operator.views import RETRY_ANNOTATION
from selfalign_operator.workloads.attempt import attempt_workload
from selfalign_operator.workloads.objects import config_map

Json = dict[str, Any]


def lose_plan(world: World) -> None:
    """Its ConfigMap is gone, and today's profile or images would make another."""
    assert world.status.plan is not None
    plan = world.status.plan.model_copy(update={"config_map_name": "run-plan-of-then"})
    world.status = world.status.model_copy(update={"plan": plan})
    world.extra = {"not_frozen": "is gone"}


def test_a_run_whose_plan_is_lost_is_held_and_makes_no_attempt() -> None:
    world = World()
    job = world.until("i1-generate")
    lose_plan(world)
    world.settle()
    assert reason(world, "Progressing")[1] == "StepStarting"  # what is under way goes on
    world.complete(job)
    world.settle()
    assert reason(world, "Progressing") == ("False", "PlanLost")
    assert "run-plan-of-then, which has the images" in message(world) and "is gone" in message(world)
    assert (world.status.state, world.active()) == ("Held", [])
    assert world.events.count("PlanLost") == 1


def test_its_result_is_not_collected_by_another_plan() -> None:
    world = World()
    job = world.until("i1-generate")
    world.complete(job, message="")
    lose_plan(world)
    world.settle()
    assert reason(world, "Progressing") == ("False", "PlanLost")
    assert not any(name.endswith("-c") for name in world.made)


def test_a_person_lets_it_go_on_as_it_is_resolved_today() -> None:
    world = World()
    world.complete(world.until("i1-generate"))
    world.annotations = {RETRY_ANNOTATION: "before"}
    lose_plan(world)
    world.settle()
    assert reason(world, "Progressing") == ("False", "PlanLost")  # that value was for another trouble
    world.annotations = {RETRY_ANNOTATION: "now"}
    finish(world)
    assert world.status.plan is not None
    assert (world.status.state, world.status.plan.config_map_name) == ("Complete", "run-plan")


def test_it_goes_on_by_itself_when_its_plan_is_put_back() -> None:
    world = World()
    world.complete(world.until("i1-generate"))
    lose_plan(world)
    world.settle()
    world.extra = {"frozen": frozen()}
    finish(world)
    assert world.status.state == "Complete"


def test_a_plan_that_would_be_the_same_today_is_made_again() -> None:
    world = World()
    world.complete(world.until("i1-generate"))
    world.extra = {"not_frozen": "is gone"}
    decision = decide(world.observed(), CONFIG, FakeRender())
    assert [manifest["metadata"]["name"] for manifest in decision.ensured] == ["run-plan"]
    finish(world)
    assert world.status.state == "Complete"


@pytest.mark.parametrize("step", ["i1-generate", "i1-train", "i1-evaluate"])
def test_a_runs_objects_are_made_sure_of_at_every_attempt(step: str) -> None:
    world = World()
    world.until(step)
    (job,) = world.active()
    world.fail(job)
    world.settle()
    world.wait(3600)
    decision = decide(world.observed(), CONFIG, FakeRender())
    assert [manifest["kind"] for manifest in decision.ensured] == ["ConfigMap"]
    assert [manifest["kind"] for manifest in decision.creations] == ["Job"]


def test_the_status_keeps_what_the_config_map_holds_until_the_run_is_complete() -> None:
    world = World()
    world.until("i1-train")
    plan = world.status.plan
    assert plan is not None and plan.content is not None
    assert unpacked(plan.content) == {"run.json": "{}"}  # as FakeRender has it
    finish(world)
    assert world.status.plan is not None
    assert world.status.plan.content is None


# --- what a ConfigMap says, by any version ------------------------------------------------------------------------------


def frozen() -> Frozen:
    found = frozen_of(config_map(effective()))
    assert isinstance(found, Frozen)
    return found


def rewritten(run: Json | None = None, platform: Json | None = None) -> Json:
    """The ConfigMap as another version wrote it, under the name of that content."""
    manifest = copy.deepcopy(config_map(effective()))
    parts = {"run.json": run, "platform.json": platform}
    data = {name: json.dumps(part) if part else manifest["data"][name] for name, part in parts.items()}
    name = config_map_name("small", manifest["metadata"]["ownerReferences"][0]["uid"], "".join(data.values()))
    return manifest | {"data": data, "metadata": manifest["metadata"] | {"name": name}}


def places(value: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every object of ours inside a JSON value."""
    free = ("pod_template", "engine_args", "mounts", "models")
    if not isinstance(value, dict) or (path and path[-1] in free):
        return []
    return [path, *(place for key, inner in value.items() for place in places(inner, (*path, key)))]


RUN: Json = json.loads(config_map(effective())["data"]["run.json"])
PLATFORM: Json = json.loads(config_map(effective())["data"]["platform.json"])


@given(st.sampled_from([place for place in places(RUN) if place != ("run",)]), st.sampled_from([1, "x", {"a": [1]}]))
def test_a_field_of_a_newer_version_changes_nothing(place: tuple[str, ...], value: Any) -> None:
    newer = copy.deepcopy(RUN)
    inner = newer
    for part in place:
        inner = inner[part]
    inner["ofTheFuture"] = value
    manifest = rewritten(run=newer)
    found = frozen_of(manifest)
    assert isinstance(found, Frozen)
    read = effective(frozen=found)
    for attempt in ATTEMPTS:
        old, new = (attempt_workload(each, attempt) for each in (effective(frozen=frozen()), read))
        name = frozen().config_map_name
        assert json.dumps(new).replace(found.config_map_name, name) == json.dumps(old)
    assert config_map(read)["data"] == manifest["data"]  # made again, it is what its pods read before


def test_a_platform_of_a_newer_version_is_read() -> None:
    found = frozen_of(rewritten(platform=PLATFORM | {"ofTheFuture": 1}))
    assert isinstance(found, Frozen)
    assert found.platform == frozen().platform


# --- what is made again of the status -------------------------------------------------------------------------------------


def plan_of(manifest: Json) -> PlanStatus:
    return PlanStatus(config_map_name=manifest["metadata"]["name"], content=packed(manifest["data"]))


def test_a_config_map_that_is_gone_is_what_it_was() -> None:
    assert frozen_of_status(plan_of(config_map(effective()))) == frozen()
    assert config_map(effective(frozen=frozen())) == config_map(effective())


@given(st.dictionaries(st.text(), st.text(), max_size=5))
def test_what_is_packed_is_unpacked(data: dict[str, str]) -> None:
    kept = packed(data)
    assert kept is not None
    assert unpacked(kept) == data


def test_what_is_too_large_for_a_status_is_not_kept() -> None:
    assert packed({"run.json": random.Random(0).randbytes(PACKED_MAX_CHARACTERS).hex()}) is None


@given(
    st.one_of(st.text(max_size=40), st.binary(max_size=40).map(lambda data: b64encode(zlib.compress(data)).decode()))
)
def test_a_status_that_somebody_edited_is_held_in_words(content: str) -> None:
    found = frozen_of_status(PlanStatus(config_map_name="run-plan", content=content))
    assert isinstance(found, str)
    assert found.startswith("is gone, and status.plan.content ")


def test_a_bomb_is_not_unpacked() -> None:
    bomb = b64encode(zlib.compress(b" " * (1 << 26), 9)).decode()
    with pytest.raises(ValueError, match="Expecting value"):
        unpacked(bomb)


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        ({"metadata": {"name": "x"}}, "is not as this operator reads it"),
        (rewritten(platform=PLATFORM | {"format": FORMAT + 1}), "was written by a newer operator"),
        (rewritten(run=RUN | {"run": {"spec": RUN["run"]["spec"] | {"recipe": "next"}}}), "is not as this operator"),
        (rewritten(run=RUN | {"storage": 3}), "is not as this operator reads it"),
        (rewritten() | {"data": rewritten()["data"] | {"run.json": "{}"}}, "has another content than its name says"),
    ],
)
def test_what_cannot_be_read_is_said(manifest: Json, words: str) -> None:
    found = frozen_of(manifest)
    assert isinstance(found, str)
    assert words in found
