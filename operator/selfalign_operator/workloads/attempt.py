"""The one door: an attempt's workload, whatever runs it."""

from __future__ import annotations

from selfalign_operator.effective import Attempt, EffectiveRun
from selfalign_operator.views import Manifest
from selfalign_operator.workloads.gang import job
from selfalign_operator.workloads.objects import uses_rayjob
from selfalign_operator.workloads.rayjob import rayjob


def attempt_workload(effective: EffectiveRun, attempt: Attempt) -> Manifest:
    """The Job or RayJob of an attempt: a RayJob where the run says so and an engine runs."""
    engines = attempt.kind in ("generate", "evaluate") and not attempt.collect
    return rayjob(effective, attempt) if engines and uses_rayjob(effective) else job(effective, attempt)
