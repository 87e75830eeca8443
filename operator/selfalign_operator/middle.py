"""The pure middle, as the process asks for it: a protocol, so that the process is tested alone, and the real one."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Protocol

from selfalign_api.errors import ConfigError
from selfalign_api.operator_config import OperatorConfig
from selfalign_api.status import PlanStatus
from selfalign_operator.decision import Decision
from selfalign_operator.effective import Frozen
from selfalign_operator.frozen import frozen_of, frozen_of_status
from selfalign_operator.reconcile import decide
from selfalign_operator.reconcile.turn import Render
from selfalign_operator.resolve import is_resolved
from selfalign_operator.views import Observed, RunView

__all__ = ["Middle", "Reconciliation"]


class Middle(Protocol):
    """Pure functions of what was observed. None of them raises for anything that a user or another object can cause."""

    def decide(self, observed: Observed) -> Decision:
        """What to do about the run."""

    def claims(self, run: RunView, frozen: Frozen | None) -> Collection[str]:
        """The PersistentVolumeClaims that the run's pods would mount; none when the run is not valid."""

    def asks_for_labels(self, run: RunView, frozen: Frozen | None) -> bool:
        """Whether it depends on the labels of the run's namespace what counts for it."""

    def frozen(self, config_map: dict[str, Any]) -> Frozen | str:
        """The content of a run's ConfigMap; or why it cannot be read."""

    def frozen_of_status(self, plan: PlanStatus) -> Frozen | str:
        """What a run's ConfigMap held that is gone; or why that cannot be had."""


@dataclass(frozen=True)
class Reconciliation:
    """The middle of the operator: reconcile/ with one configuration."""

    config: OperatorConfig
    render: Render

    def decide(self, observed: Observed) -> Decision:
        """See `reconcile.decide`."""
        return decide(observed, self.config, self.render)

    def claims(self, run: RunView, frozen: Frozen | None) -> Collection[str]:
        """The claims that the effective run mounts."""
        try:
            return tuple(self.render.effective(run, self.config, frozen).mounts)
        except ConfigError:
            return ()

    def asks_for_labels(self, run: RunView, frozen: Frozen | None) -> bool:
        """Where a profile chooses by them, and nothing was resolved before."""
        if not self.config.asks_for_labels:
            return False
        try:
            return not is_resolved(run, frozen)
        except ConfigError:
            return False

    def frozen(self, config_map: dict[str, Any]) -> Frozen | str:
        """See `frozen.frozen_of`."""
        return frozen_of(config_map)

    def frozen_of_status(self, plan: PlanStatus) -> Frozen | str:
        """See `frozen.frozen_of_status`."""
        return frozen_of_status(plan)
