"""What was resolved when a run began stays resolved: its ConfigMap is read, made again from the status, or waited for."""

from __future__ import annotations

from selfalign_api.status import PlanStatus
from selfalign_operator.packed import packed
from selfalign_operator.reconcile.turn import Turn

__all__ = ["look_for_plan", "make_objects", "planned"]

LOOK_AGAIN_SECONDS = 30.0


def look_for_plan(turn: Turn) -> None:
    """With a ConfigMap that is lost: whether what is resolved today is the same, which its name tells; else it is lost.

    A person who says so (the retry annotation, once PlanLost is told) has the run go on as it is resolved today.
    """
    plan = turn.status.plan
    if plan is None or turn.observed.frozen is not None or turn.effective is None:
        return
    name = turn.render.config_map_name(turn.effective)
    if name == plan.config_map_name:
        return
    if not turn.resolves_anew:
        turn.plan_is_lost = True
        return
    make_objects(turn)
    turn.condition("Progressing", "Unknown", "Pending", "the run goes on as it is resolved today")
    turn.tell("Resumed", "the retry annotation has a new value: the run goes on as it is resolved today")


def make_objects(turn: Turn) -> None:
    """The run's own objects: of a plan that stands what is missing; of a new one all, and the status keeps its content."""
    assert turn.effective is not None
    objects, plan = turn.render.run_objects(turn.effective), turn.status.plan
    name = turn.render.config_map_name(turn.effective)
    if plan is not None and plan.config_map_name == name:
        turn.make_sure(*objects)
        return
    turn.create(*objects)
    data = next(each["data"] for each in objects if each["kind"] == "ConfigMap")
    plan = plan or PlanStatus(config_map_name=name)
    turn.update(plan=plan.model_copy(update={"config_map_name": name, "content": packed(data)}))


def planned(turn: Turn) -> bool:
    """No attempt is made by another plan than the one that the run began with; the run is held."""
    if not turn.plan_is_lost:
        return False
    assert turn.status.plan is not None
    message = (
        f"ConfigMap {turn.status.plan.config_map_name}, which has the images and the profile that the run began with, "
        f"{turn.observed.not_frozen or 'is gone'}, and today's are others; put it back as it was, or give the annotation "
        "selfalign.dev/retry a new value to go on with today's"
    )
    if turn.condition("Progressing", "False", "PlanLost", message):
        turn.warn("PlanLost", message)
    turn.look_again(LOOK_AGAIN_SECONDS)
    return True
