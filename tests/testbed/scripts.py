"""What a pod of the testbed does, told by its annotations (stages.yaml plays them). Without any it runs and exits 0 at once.

    metadata:
      annotations:
        testbed.selfalign.dev/run-seconds: "0.5"     how long it runs before it ends
        testbed.selfalign.dev/exit-code: "64"        of the container named `step`; the others exit 0
        testbed.selfalign.dev/message: …             its termination message; $(LABEL) becomes that label's value
        testbed.selfalign.dev/trouble: OOMKilled     see Trouble
        testbed.selfalign.dev/ready: "false"         runs, and never gets Ready
        testbed.selfalign.dev/pod-ip: 127.0.0.1      where a server of the test answers for it
        testbed.selfalign.dev/script: '[…]'          rules by label: by step, by attempt, by completion index
        testbed.selfalign.dev/program: real          its own program, which the player runs (player.py)

The annotations may be changed while the pod runs: taking `trouble` away lets a hanging pod end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

PREFIX = "testbed.selfalign.dev"
REAL = {f"{PREFIX}/program": "real"}  # the annotation of a pod that the player plays
INDEX_LABEL = "batch.kubernetes.io/job-completion-index"

Trouble = Literal[
    "ImagePullBackOff",  # waits for ever; `message` may say more
    "CreateContainerConfigError",  # waits for ever, as for a missing Secret
    "FailedMount",  # waits for ever; only an Event says why
    "OOMKilled",  # exits 137 after run-seconds
    "Evicted",  # by the kubelet after run-seconds, with the condition DisruptionTarget
    "Hang",  # runs until it is deleted
    "StuckTerminating",  # runs, and its deletion never ends: the node is lost
]


def script(
    *,
    run_seconds: float | None = None,
    exit_code: int | None = None,
    message: str | Mapping[str, Any] | None = None,
    trouble: Trouble | None = None,
    ready: bool | None = None,
    pod_ip: str | None = None,
) -> dict[str, str]:
    """The annotations of a pod that does this. A message that is no text is written as JSON."""
    values = {
        "run-seconds": None if run_seconds is None else f"{run_seconds:g}",
        "exit-code": None if exit_code is None else str(exit_code),
        "message": message if message is None or isinstance(message, str) else json.dumps(message),
        "trouble": trouble,
        "ready": None if ready is None else str(ready).lower(),
        "pod-ip": pod_ip,
    }
    return {f"{PREFIX}/{name}": value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class Rule:
    """Annotations for the pods that have all these labels; of several rules that fit, the last decides."""

    annotations: dict[str, str]
    where: dict[str, str] = field(default_factory=dict)


def script_by_label(*rules: Rule) -> dict[str, str]:
    """One annotation for a pod template whose pods are to differ: by step, attempt or completion index (INDEX_LABEL)."""
    content = [{"where": rule.where, "annotations": rule.annotations} for rule in rules]
    return {f"{PREFIX}/script": json.dumps(content)}
