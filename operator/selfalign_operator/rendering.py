"""The core's way to manifests: what `reconcile.turn.Render` asks for, by the functions of workloads/."""

from __future__ import annotations

import secrets

from selfalign_api.operator_config import OperatorConfig
from selfalign_operator.effective import Attempt, EffectiveRun, Frozen
from selfalign_operator.names import base_name
from selfalign_operator.resolve import effective_run
from selfalign_operator.views import Manifest, RunView, WorkloadView
from selfalign_operator.workloads import objects
from selfalign_operator.workloads.attempt import attempt_workload

__all__ = ["Manifests"]


class Manifests:
    """Real manifests. A Secret's token is drawn anew each time; only the first one that is created counts."""

    def effective(self, run: RunView, config: OperatorConfig, frozen: Frozen | None) -> EffectiveRun:
        """See `resolve.effective_run`."""
        return effective_run(run, config, frozen)

    def run_objects(self, effective: EffectiveRun) -> tuple[Manifest, ...]:
        """See `objects.run_objects`."""
        return objects.run_objects(effective, secrets.token_urlsafe(32))

    def config_map_name(self, effective: EffectiveRun) -> str:
        """See `objects.config_map_name`."""
        return objects.config_map_name(effective)

    def workload(self, effective: EffectiveRun, attempt: Attempt) -> Manifest:
        """See `attempt.attempt_workload`."""
        return attempt_workload(effective, attempt)

    def progress_url(self, effective: EffectiveRun, workload: WorkloadView) -> str:
        """By the name of index 0 under the run's headless Service, or by KubeRay's Service for the head of a RayJob."""
        if workload.kind == "RayJob":
            host = f"{workload.name}-head-svc"  # it has the ports of the head's container
        else:
            host = f"{workload.name}-0.{base_name(effective.name, effective.uid)}"
        return f"http://{host}.{effective.namespace}.svc:{workload.progress_port}/progress"
