"""The health check that docs/clusters.md has for Argo CD, run on statuses of runs."""

from __future__ import annotations

import re
from pathlib import Path

import lupa
import pytest
import yaml
from reconcile_world import World, finish

PAGE = Path(__file__).parents[2] / "docs" / "clusters.md"
KEY = "resource.customizations.health.selfalign.dev_SelfAlignmentRun"


@pytest.fixture(scope="module", name="script")
def _script() -> str:
    (block,) = re.findall(r"```yaml argocd-cm\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    found: str = yaml.safe_load(block)[KEY]
    return found


def health(script: str, world: World, generation: int | None = None) -> tuple[str, str]:
    """What Argo CD shows of it: status and message."""
    lua = lupa.LuaRuntime(unpack_returned_tuples=True)
    status = world.status.model_dump(mode="json", by_alias=True, exclude_none=True)
    run = {"metadata": {"generation": generation or world.generation}, "status": status}
    said = lua.execute(f"obj = ...\n{script}", lua.table_from(run, recursive=True))
    return said.status, said.message


def failed(after: str) -> World:
    """A run whose training was given up."""
    world = World(spec={**World().spec, "failurePolicy": {"maxRetriesPerStep": 0, "afterRetries": after}})
    world.fail(world.until("i1-train"))
    world.settle()
    return world


def test_a_run_is_progressing_until_it_is_healthy(script: str) -> None:
    world = World()
    world.until("i1-train")
    assert health(script, world)[0] == "Progressing"
    finish(world)
    assert health(script, world)[0] == "Healthy"
    assert health(script, world)[1].startswith("AllStepsDone: ")


@pytest.mark.parametrize(("after", "reason"), [("Fail", "RetriesExhausted"), ("Hold", "Held")])
def test_a_run_that_needs_a_person_is_degraded_and_says_why(script: str, after: str, reason: str) -> None:
    status, message = health(script, failed(after))
    assert (status, message.partition(":")[0]) == ("Degraded", reason)


def test_a_run_that_is_not_accepted_is_degraded_and_says_what_is_wrong(script: str) -> None:
    world = World(spec={**World().spec, "recipe": "no"})
    world.settle()
    status, message = health(script, world)
    assert (status, message.partition(":")[0]) == ("Degraded", "InvalidSpec")


def test_a_run_that_waits_for_room_progresses_and_a_suspended_one_is_suspended(script: str) -> None:
    world = World()
    job = world.until("i1-train")
    world.pod(job, phase="Pending", node=None, scheduled_message="Insufficient nvidia.com/gpu")
    world.turn()
    assert health(script, world)[0] == "Progressing"
    assert "Insufficient nvidia.com/gpu" in health(script, world)[1]
    world.change(suspend=True)
    world.settle()
    assert health(script, world)[0] == "Suspended"


def test_what_was_said_of_an_older_spec_is_not_believed(script: str) -> None:
    world = World()
    finish(world)
    assert health(script, world, world.generation + 1) == ("Progressing", "not looked at yet")
