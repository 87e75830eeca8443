"""Pods of an attempt that is over and that live on: the next attempt begins when they are gone, or two hold GPUs at once."""

from __future__ import annotations

from selfalign_operator.reconcile.trouble import is_lost
from selfalign_operator.reconcile.turn import Turn

__all__ = ["LOOK_SECONDS", "left_behind"]

LOOK_SECONDS = 5.0  # pods are not watched


def left_behind(turn: Turn) -> str:
    """What is said of pods that are waited for; empty without any. One on a lost node is not waited for.

    A pod whose workload was deleted without it (`kubectl delete --cascade=orphan`) ends by itself, or by a person's hand.
    """
    left = [pod for pod in turn.observed.left if not is_lost(pod, turn.observed)]
    if not left:
        return ""
    turn.look_again(LOOK_SECONDS)
    orphans = [pod.name for pod in left if pod.deleted is None]
    if orphans:
        return f"pod {orphans[0]} of an earlier attempt lives on without its workload; wait for its end, or delete it"
    return f"pod {left[0].name} of the last attempt is ending"
