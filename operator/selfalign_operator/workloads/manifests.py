"""All manifests behind one door, as the reconciliation asks for them (`reconcile.turn.Render`)."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from selfalign_api.operator_config import OperatorConfig
from selfalign_operator.effective import Attempt, EffectiveRun, Frozen
from selfalign_operator.names import base_name
from selfalign_operator.resolve import effective_run
from selfalign_operator.views import Manifest, RunView, WorkloadView
from selfalign_operator.workloads import objects
from selfalign_operator.workloads.attempt import attempt_workload
from selfalign_operator.workloads.objects import PROGRESS_PORT


@dataclass(frozen=True)
class Manifests:
    """Pure but for `token`, which makes the token of a Secret: the one that is created first counts, for ever."""

    token: Callable[[], str] = secrets.token_urlsafe

    def effective(self, run: RunView, config: OperatorConfig, frozen: Frozen | None) -> EffectiveRun:
        """The run as it counts. Raises ConfigError (a RunError where it has a reason of its own)."""
        return effective_run(run, config, frozen)

    def run_objects(self, effective: EffectiveRun) -> tuple[Manifest, ...]:
        """Service, ConfigMap, Secret and NetworkPolicy of a run."""
        return objects.run_objects(effective, self.token())

    def config_map_name(self, effective: EffectiveRun) -> str:
        """Name of the ConfigMap among `run_objects`; another compute has another name."""
        return objects.config_map_name(effective)

    def workload(self, effective: EffectiveRun, attempt: Attempt) -> Manifest:
        """The Job or RayJob of an attempt."""
        return attempt_workload(effective, attempt)

    def progress_url(self, effective: EffectiveRun, workload: WorkloadView) -> str:
        """Where index 0 of that workload, or the head of its Ray cluster, says how far it is."""
        if workload.kind == "RayJob":
            host = f"{workload.name}-head-svc"  # KubeRay's Service has the ports of the head's container
        else:
            host = f"{workload.name}-0.{base_name(effective.name, effective.uid)}"
        return f"http://{host}.{effective.namespace}.svc:{PROGRESS_PORT}/progress"
