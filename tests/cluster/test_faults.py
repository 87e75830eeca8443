"""The operator survives what a network, an apiserver and an OOM killer do to it, by seed. `make faults` tries many more.

Each seed has its own namespace, its own proxy and its own operator process, which serves that namespace only: seeds do
not meet, so several go on side by side.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from operators import OperatorProcess
from runs import ATTEMPT, COLLECT, STEP, Run, attempt_is, run, step_is

from testbed.cluster import Cluster
from testbed.fault_proxy import Call, FaultProxy, Faults
from testbed.scripts import Rule, script
from testbed.waiting import until

SEEDS = int(os.environ.get("SELFALIGN_FAULT_SEEDS", "20"))
SIDE_BY_SIDE = 5
STORM_CALLS = 150  # of about 250 that these runs cost without any fault
STORM_SECONDS = 40.0  # at most, and so long only where the machine is busy
CALM_SECONDS = 120.0
# A run's own objects (4), and for each of its 4 steps a Job, a status and an Event; two more statuses and Events for what
# a run tells beside its steps (accepted, complete). Each lost attempt costs one more of each; a suspension and a resumption
# a status, an Event and a deletion each.
WRITES_OF_A_RUN = 4 + 4 * 3 + 4
WRITES_OF_AN_ATTEMPT = 4 + 4  # a retry makes the run's objects again where somebody deleted them
WRITES_OF_A_SUSPENSION = 8 + WRITES_OF_AN_ATTEMPT
# What a fault or a kill interrupts is done once more: at most all writes of one turn.
WRITES_OF_A_TURN = 4 + 3

FAILS = {"exit_code": 1, "message": {"error": "scripted"}}
SLOWLY = Rule(script(run_seconds=0.4))


def storm(seed: int) -> tuple[Faults, int]:
    """What goes wrong with this seed, and how often the operator is killed: each seed has its favourites."""
    chance = random.Random(seed)

    def share(most: float) -> float:
        """A turn is up to nine requests, and where one fails all are done again: a tenth of them is a bad day."""
        return chance.choice((0.0, 0.0, 0.3, 1.0)) * most

    faults = Faults(
        conflict=share(0.1),
        too_many=share(0.05),
        error=share(0.1),
        cut_before=share(0.08),
        cut_after=share(0.08),
        stall=share(0.03),
        stall_seconds=chance.choice((1.0, 4.0)),  # 60 s scaled down: 4 is more than a write may take
        gone=share(0.3),
        watch_cut=share(0.1),
        doubled=share(0.5),
        slow=share(0.3),
        slow_seconds=0.5,
    )
    return faults, chance.choice((1, 2, 3))


RUNS: dict[
    str, tuple[tuple[Rule, ...], str, dict[str, int]]
] = {  # rules, the end, attempts where there is more than one
    "plain": ((), "Complete", {}),
    "retried": (
        (*(attempt_is("i1-generate", n, **FAILS) for n in (1, 2)), attempt_is("i1-train", 1, **FAILS)),
        "Complete",
        {"i1-generate": 3, "i1-train": 2},
    ),
    "evicted": ((attempt_is("i1-train", 1, trouble="Evicted"),), "Complete", {"i1-train": 2}),
    "wrong": ((step_is("i1-evaluate", exit_code=64, message={"error": "scripted"}),), "Failed", {}),
    "paused": ((attempt_is("i1-generate", 1, trouble="Hang"),), "Complete", {"i1-generate": 2}),
}


class Storm:
    """One seed."""

    def __init__(self, cluster: Cluster, folder: Path, seed: int) -> None:
        self.cluster, self.folder, self.seed = cluster, folder / str(seed), seed
        self.namespace = f"storm-{seed}-{os.getpid()}"
        self.faults, self.kills = storm(seed)
        self.chance = random.Random(-seed)
        self.operator: OperatorProcess | None = None

    def go(self) -> None:
        """Raises AssertionError or TimeoutError, naming the seed."""
        self.cluster.core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=self.namespace)))
        plane = self.cluster.control_plane
        self.proxy = FaultProxy(plane.admin, plane.authority, self.folder, self.faults, self.seed)
        try:
            self._start()
            self.runs = {
                name: Run(self.cluster, self.namespace, run(name, SLOWLY, *rules))
                for name, (rules, _, _) in RUNS.items()
            }
            self._rage()
            for name, (_, end, _) in RUNS.items():
                self.runs[name].until(end, "True", seconds=CALM_SECONDS)
            self._check()
            assert self.operator is not None
            assert self.operator.process.poll() is None
            assert self.operator.stop() == 0
        except Exception as error:
            said = self.operator.log.read_text()[-3000:] if self.operator else ""
            raise AssertionError(f"seed {self.seed}, {self.faults}: {error!r}\n{self.proxy.faults}\n{said}") from error
        finally:
            if self.operator is not None:
                self.operator.stop(9)  # type: ignore[arg-type]
            self.proxy.close()
            self.cluster.core.delete_namespace(self.namespace)

    def _start(self) -> None:
        self.operator = OperatorProcess(
            self.folder, self.proxy.kubeconfig, "--no-leader-election", f"--namespace={self.namespace}"
        )

    def _rage(self) -> None:
        """Faults all the while, kill -9 when chance says so, one run suspended and resumed. Its clock is what was called."""
        marks = sorted(self.chance.randint(3, STORM_CALLS) for _ in range(self.kills))
        to_do = [lambda: self._suspend(True), lambda: self._suspend(False)]
        until(lambda: self.proxy.calls, "first call", STORM_SECONDS)
        over = time.monotonic() + STORM_SECONDS
        while time.monotonic() < over and (marks or to_do or self._happened() < STORM_CALLS):
            if marks and self._happened() >= marks[0]:
                marks.pop(0)
                self._kill()
            if to_do and to_do[0]():
                to_do.pop(0)
            time.sleep(0.2)
        self.proxy.set(Faults())
        for left in to_do:
            until(left, "suspended and resumed run", CALM_SECONDS)

    def _happened(self) -> int:
        return len(self.proxy.calls) + self.proxy.faults.total()

    def _kill(self) -> None:
        assert self.operator is not None
        self.operator.stop(9)  # type: ignore[arg-type]
        self._start()

    def _suspend(self, value: bool) -> bool:
        """Once there is something to suspend, or nothing left of it to resume."""
        paused = self.runs["paused"]
        due = bool(paused.pods("i1-generate")) == value
        if due:
            paused.patch({"spec": {"suspend": value}})
        return due

    # --- what must be so ----------------------------------------------------------------------------------------------

    def _check(self) -> None:
        calls = self.proxy.calls
        for name, (_, end, attempts) in RUNS.items():
            made = self.runs[name]
            steps = {step["name"]: step["attempts"] for step in made.status["steps"]}
            wanted = {"accept": 1, "i1-generate": 1, "i1-train": 1, "i1-evaluate": 1} | attempts
            assert steps == wanted, (name, end, steps)
            self._no_workload_is_doubled(made, wanted)
        self._writes_are_bounded([call for call in calls if call.is_write])

    def _no_workload_is_doubled(self, made: Run, wanted: dict[str, int]) -> None:
        jobs = made.jobs()
        seen = Counter((job.metadata.labels[STEP], job.metadata.labels[ATTEMPT]) for job in jobs)
        assert set(seen.values()) <= {1}, seen
        assert not any(COLLECT in job.metadata.labels for job in jobs)
        assert len(jobs) <= sum(wanted.values()), seen
        created = Counter(
            call.path
            for call in self.proxy.calls
            if call.method == "POST" and call.path.endswith("/jobs") and call.is_write
        )
        assert created, "the proxy sees the creations"
        ends = [(job, _end(job)) for job in jobs]
        for (before, end), (after, _) in pairwise(ends):
            assert end is not None and end <= after.metadata.creation_timestamp, (
                before.metadata.name,
                after.metadata.name,
            )

    def _writes_are_bounded(self, writes: list[Call]) -> None:
        jobs = sum(1 for call in writes if call.path.endswith("/jobs") and call.code == 201)
        wanted = sum(4 + sum(n - 1 for n in attempts.values()) for _, _, attempts in RUNS.values())
        assert jobs == wanted, f"{jobs} Jobs were created, {wanted} are scripted"
        lost = sum(sum(n - 1 for n in attempts.values()) for _, _, attempts in RUNS.values())
        base = len(RUNS) * WRITES_OF_A_RUN + lost * WRITES_OF_AN_ATTEMPT + WRITES_OF_A_SUSPENSION
        again = self.proxy.faults.total() + self.kills * len(RUNS)
        assert len(writes) <= base + again * WRITES_OF_A_TURN, (len(writes), base, again)


def _end(job: Any) -> Any:
    types = ("SuccessCriteriaMet", "Complete", "FailureTarget", "Failed")
    return min((each.last_transition_time for each in job.status.conditions or () if each.type in types), default=None)


BATCHES = [range(first, min(first + SIDE_BY_SIDE, SEEDS)) for first in range(0, SEEDS, SIDE_BY_SIDE)]


@pytest.mark.parametrize("seeds", BATCHES, ids=lambda seeds: f"{seeds.start}-{seeds.stop - 1}")
def test_runs_end_as_scripted_whatever_fails_between_operator_and_apiserver(
    cluster: Cluster, tmp_path: Path, seeds: range
) -> None:
    with ThreadPoolExecutor(len(seeds)) as pool:
        for done in [pool.submit(Storm(cluster, tmp_path, seed).go) for seed in seeds]:
            done.result()
