"""observe → decide → apply: the pure middle. From what is to what should be, whatever happened in between.

Level-triggered: every decision starts from the whole of what was observed. Policies are asked in order, and the first one
that settles the turn ends it.
"""

from __future__ import annotations

from selfalign_api.operator_config import OperatorConfig
from selfalign_operator.decision import Decision
from selfalign_operator.reconcile.acceptance import acceptable, readable, refused
from selfalign_operator.reconcile.attempt import adopt, current_attempt, next_attempt
from selfalign_operator.reconcile.early_end import ended_early
from selfalign_operator.reconcile.life import account_time, deadline, finished, held, held_before, retry, suspended
from selfalign_operator.reconcile.plan import planned
from selfalign_operator.reconcile.turn import Policy, Render, Turn
from selfalign_operator.views import Observed

__all__ = ["decide"]

POLICIES: tuple[Policy, ...] = (
    adopt,  # what was made before the last operator died
    retry,  # a person says: go on
    finished,  # nothing more to do but to be kept, or deleted
    suspended,  # by a person
    readable,  # the spec, typed; with its profile
    deadline,  # activeDeadlineSeconds
    refused,  # what the apiserver said of this turn's creations
    held,  # waits for a person
    current_attempt,  # follow what is under way; it may end here
    ended_early,  # a loop that brings nothing better
    planned,  # what was resolved when the run began is lost: waits for a person
    held_before,  # a step that a person wants to look before
    acceptable,  # before the first workload: claims, KubeRay, a dry run
    next_attempt,  # make what is due
)


def decide(observed: Observed, config: OperatorConfig, render: Render) -> Decision:
    """What to do about one run. Pure: the same twice gives the same, and what it decides is safe to repeat."""
    if observed.run.deleting:
        return Decision(status=observed.run.status)  # its children go by their owner references
    turn = Turn(observed, config, render)
    if observed.run.status_problems:
        fields = ", ".join(observed.run.status_problems)
        turn.warn(
            "StatusRepaired", f"status fields were not as the operator writes them and are computed again: {fields}"
        )
    for policy in POLICIES:
        if policy(turn):
            break
    if turn.status.has_ended and not observed.run.status.has_ended:
        turn.look_again(0.0)  # its time to live begins, and nothing else need happen to it any more
    account_time(turn)
    return turn.decision()
