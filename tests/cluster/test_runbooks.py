"""Every command of the runbooks does what its runbook says, on a run that stands still."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from runs import Run, attempt_is, run

from testbed.cluster import Cluster
from testbed.waiting import until

PAGE = (Path(__file__).parents[2] / "docs" / "runbooks.md").read_text(encoding="utf-8")
NEEDS_MORE = ("kubectl top pod", "kubectl get pods")  # a metrics server; a namespace, which the sentence leaves open
WRITTEN = sorted({found.strip() for found in re.findall(r"kubectl [^`#\n]*", PAGE)} - set(NEEDS_MORE))


@pytest.fixture
def stalled(cluster: Cluster, namespace: str, operator: object) -> Run:
    """A run whose step hangs, and what a person sees in its alert."""
    once = {"backoffSeconds": 0, "maxBackoffSeconds": 1, "maxRetriesPerStep": 0}
    made = Run(cluster, namespace, run("stalled", attempt_is("i1-train", 1, trouble="Hang"), failurePolicy=once))
    until(lambda: [pod for pod in made.pods("i1-train") if pod.status.phase == "Running"], "pod of train")
    return made


def test_there_are_commands_to_try() -> None:
    assert len(WRITTEN) >= 8


@pytest.mark.parametrize("written", WRITTEN)
def test_a_command_of_the_runbooks_does_what_it_says(cluster: Cluster, stalled: Run, written: str) -> None:
    (pod,) = stalled.pods("i1-train")
    command = written.replace("OPERATOR", "NS").replace("NS", stalled.namespace).replace("RUN", stalled.name)
    words = shlex.split(command.replace("$(date +%s)", "1").replace("…", pod.metadata.name))[1:]
    if "logs" in words:  # no kubelet here has any: that it finds the pods whose logs they are
        kept = [word for word in words if not word.startswith(("--tail", "--prefix"))]
        if "-c" in kept:
            del kept[kept.index("-c") : kept.index("-c") + 2]
        kept[kept.index("logs")] = "get pods"
        found = cluster.kubectl(*" ".join(kept).split(), "-o=name").split()
        assert ("name=selfalign-operator" in written) or f"pod/{pod.metadata.name}" in found
        return
    said = cluster.kubectl(*words)
    if "delete" in words:
        stalled.until("Complete", "True")
        assert stalled.step("i1-train")["failures"] == 0
    elif "annotate" in words:
        until(lambda: stalled.status.get("observedRetry") == "1", "retry that is seen")
    else:
        assert stalled.name in said or "No resources found" in said or pod.metadata.name in said
