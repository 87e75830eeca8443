"""What the process asks of the pure middle, so that it can be tested with a small one of its own."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

from selfalign_operator.decision import Decision
from selfalign_operator.effective import Frozen
from selfalign_operator.views import Observed, RunView

__all__ = ["Middle"]


class Middle(Protocol):
    """Pure functions of what was observed. None of them raises for anything that a user or another object can cause."""

    def decide(self, observed: Observed) -> Decision:
        """What to do about the run."""

    def claims(self, run: RunView, frozen: Frozen | None) -> Collection[str]:
        """The PersistentVolumeClaims that the run's pods would mount; none when the run is not valid."""

    def frozen(self, config_map: dict[str, Any]) -> Frozen | None:
        """The content of a run's ConfigMap; None when it is not one of ours."""
