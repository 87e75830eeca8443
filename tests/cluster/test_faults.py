"""The operator survives what a network, an apiserver and an OOM killer do to it, by seed. `make faults` tries many more.

Each seed has its own namespace, its own proxy and its own operator process, which serves that namespace only: seeds do
not meet, so several go on side by side. From the operator's start until the last run has ended, up to 15 % of its requests
go wrong (409, 429, 500, cut before or after they arrived, stalled for up to 60 s), and in two bursts of two seconds up to
60 %; up to a tenth of its watches begin with a 410, and their frames come late, twice, cut in half or as a 410. It is killed
once or twice, unless its runs end before.
"""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from operators import ForkedOperator
from runs import ATTEMPT, COLLECT, GROUP, PLURAL, STEP, VERSION, Run, attempt_is, run, step_is

from testbed.cluster import Cluster
from testbed.fault_proxy import Call, FaultProxy, Faults
from testbed.scripts import Rule, script
from testbed.waiting import until

SEEDS = int(os.environ.get("SELFALIGN_FAULT_SEEDS", "20"))
BATCH, SIDE_BY_SIDE = 20, 6
SECONDS = 200.0  # for all runs of a seed; a watch or a list that is stalled costs a minute of it
MOST = 0.15  # of all requests
OF_REQUESTS = ("conflict", "too_many", "error", "cut_before", "cut_after", "stall")
BURST, BURST_SECONDS = 4.0, 2.0  # so many times as much goes wrong for so long
EVENTFUL_CALLS = 150  # fewer than the runs of a seed cost: bursts and kills fall among these
# A run's own objects (2 without a gang), and for each of its 4 steps a Job, a status and an Event; two more statuses and
# Events for what a run tells beside its steps (accepted, complete). Each lost attempt costs one more of each; a suspension
# and a resumption a status, an Event and a deletion each.
WRITES_OF_A_RUN = 2 + 4 * 3 + 4
WRITES_OF_AN_ATTEMPT = 4 + 4  # a retry makes the run's objects again where somebody deleted them
WRITES_OF_A_SUSPENSION = 8 + WRITES_OF_AN_ATTEMPT
# What a kill interrupts is done once more, at most all writes of one turn. Other faults have one call made again.
WRITES_OF_A_TURN = 4 + 3

FAILS = {"exit_code": 1, "message": {"error": "scripted"}}
SLOWLY = Rule(script(run_seconds=0.4))


def storm(seed: int) -> tuple[Faults, int]:
    """What goes wrong with this seed, and how often the operator is killed: each seed has its favourites."""
    chance = random.Random(seed)
    weights = {fault: chance.choice((0.0, 0.5, 1.0, 3.0)) for fault in OF_REQUESTS}
    weights[chance.choice(OF_REQUESTS)] += 1.0
    stall_seconds = chance.choice((1.0, 4.0, 60.0))  # 4 is more than a write may take, 60 more than anything
    weights["stall"] *= 0.2 if stall_seconds == 60.0 else 1.0  # each of them costs a run ten seconds, a watch a minute
    most = chance.uniform(0.3, 1.0) * MOST
    shares = {fault: most * weight / sum(weights.values()) for fault, weight in weights.items()}

    def share(most: float) -> float:
        return chance.choice((0.0, 0.3, 1.0)) * most

    faults = Faults(
        **shares,
        stall_seconds=stall_seconds,
        gone=share(0.1),
        expired=share(0.03),
        watch_cut=share(0.1),
        doubled=share(0.5),
        slow=share(0.2),
        slow_seconds=0.5,
    )
    return faults, chance.choice((1, 2))


def burst(faults: Faults) -> Faults:
    """The same, only more."""
    return replace(faults, **{fault: BURST * getattr(faults, fault) for fault in OF_REQUESTS})


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
        self.operator: ForkedOperator | None = None
        self.over = float("inf")  # of the burst under way, by the proxy's clock

    def go(self) -> None:
        """Raises AssertionError, naming the seed."""
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
            self._check()
            assert self.operator is not None
            assert not self.operator.has_ended()
            assert self.operator.stop() == 0
        except Exception as error:
            said = self.operator.log.read_text()[-3000:] if self.operator else ""
            raise AssertionError(f"seed {self.seed}, {self.faults}: {error!r}\n{self.proxy.faults}\n{said}") from error
        finally:
            if self.operator is not None:
                self.operator.stop(signal.SIGKILL)
            self.proxy.close()
            self.cluster.core.delete_namespace(self.namespace)

    def _start(self) -> None:
        self.operator = ForkedOperator(
            self.folder, self.proxy.kubeconfig, "--no-leader-election", f"--namespace={self.namespace}"
        )

    def _rage(self) -> None:
        """Until all runs have ended: kill -9 and bursts when their time has come, one run suspended and resumed."""
        events = [self._kill] * self.kills + [self._burst] * 2
        self.chance.shuffle(events)
        marks = sorted(self.chance.randint(3, EVENTFUL_CALLS) for _ in events)
        to_do = [*zip(marks, events, strict=True)]
        edits = [lambda: self._suspend(True), lambda: self._suspend(False)]

        def look() -> bool:
            if self.proxy.now() > self.over:
                self.proxy.set(self.faults)
            if to_do and self._happened() >= to_do[0][0]:
                to_do.pop(0)[1]()
            if edits and edits[0]():
                edits.pop(0)
            return not edits and self._have_ended()

        until(look, "end of every run", SECONDS, pause=0.3)

    def _have_ended(self) -> bool:
        found = self.cluster.custom.list_namespaced_custom_object(GROUP, VERSION, self.namespace, PLURAL)["items"]
        states = {each["metadata"]["name"]: each.get("status", {}).get("state") for each in found}
        return states == {name: end for name, (_, end, _) in RUNS.items()}

    def _happened(self) -> int:
        return len(self.proxy.calls) + self.proxy.faults.total()

    def _kill(self) -> None:
        assert self.operator is not None
        self.operator.stop(signal.SIGKILL)
        self._start()

    def _burst(self) -> None:
        self.over = self.proxy.now() + BURST_SECONDS
        self.proxy.set(burst(self.faults))

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
        made = [call for call in writes if call.path.endswith("/jobs") and call.code == 201]
        wanted = sum(4 + sum(n - 1 for n in attempts.values()) for _, _, attempts in RUNS.values())
        late = sum(call.late for call in made)  # perhaps after the Job of its name was deleted
        assert wanted <= len(made) <= wanted + late, f"{len(made)} Jobs were created, {wanted} are scripted"
        lost = sum(sum(n - 1 for n in attempts.values()) for _, _, attempts in RUNS.values())
        base = len(RUNS) * WRITES_OF_A_RUN + lost * WRITES_OF_AN_ATTEMPT + WRITES_OF_A_SUSPENSION
        again = sum(self.proxy.faults[fault] for fault in OF_REQUESTS) + self.kills * len(RUNS) * WRITES_OF_A_TURN
        said = f"{len(writes)} writes, {base} + {again} allowed; {dict(self.proxy.faults)}"
        assert len(writes) <= base + again, said


def _end(job: Any) -> Any:
    types = ("SuccessCriteriaMet", "Complete", "FailureTarget", "Failed")
    return min((each.last_transition_time for each in job.status.conditions or () if each.type in types), default=None)


BATCHES = [range(first, min(first + BATCH, SEEDS)) for first in range(0, SEEDS, BATCH)]


@pytest.mark.parametrize("seeds", BATCHES, ids=lambda seeds: f"{seeds.start}-{seeds.stop - 1}")
def test_runs_end_as_scripted_whatever_fails_between_operator_and_apiserver(
    cluster: Cluster, tmp_path: Path, seeds: range
) -> None:
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        for done in [pool.submit(Storm(cluster, tmp_path, seed).go) for seed in seeds]:
            done.result()
