"""Hours in minutes: runs begin, are suspended, edited, robbed of a pod and deleted by chance, under faults; leaders are killed
and stopped. At the end every run is where its kind should be, nothing of a deleted one is left, and memory has not grown.

    make soak MINUTES=10        a line at its end: soak: runs R, wrong W, slope S MB/h

What it measured as it went is in a folder of out/soak, with a picture of it (soak_record.py) and the operators' logs.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubernetes import client
from operators import OperatorProcess
from runs import Run, attempt_is, run, step_is
from soak_record import Record, Sample, picture

from testbed.cluster import Cluster
from testbed.fault_proxy import FaultProxy, Faults
from testbed.scripts import Rule, script
from testbed.waiting import until

AT_ONCE = 24  # runs that are there
SETTLE_SECONDS = 240.0
HANG_SECONDS = 14.0  # longer than a lease
SAMPLE_SECONDS = 10.0
FAULTS = Faults(
    conflict=0.005, too_many=0.01, error=0.01, cut_before=0.005, cut_after=0.005, stall=0.002, stall_seconds=2.0,
    gone=0.02, watch_cut=0.005, doubled=0.05,
)  # fmt: skip
GONE = (client.ApiException, IndexError)  # what was chosen may be gone meanwhile, or have changed
FAILS = {"exit_code": 1, "message": {"error": "scripted"}}
HANGS = {"trouble": "Hang"}
GANG = {"generation": {"replicas": 2}, "training": {"nodes": 2}}
KINDS: dict[str, tuple[tuple[Rule, ...], str]] = {  # what its pods do, and how it ends
    "plain": ((), "Complete"),
    "gang": ((), "Complete"),
    "retried": ((attempt_is("i1-generate", 1, **FAILS), attempt_is("i1-train", 1, **FAILS)), "Complete"),
    "evicted": ((attempt_is("i1-train", 1, trouble="Evicted"),), "Complete"),
    "wrong": ((step_is("i1-evaluate", exit_code=64, message={"error": "scripted"}),), "Failed"),
    "paused": ((attempt_is("i1-generate", 1, **HANGS),), "Complete"),  # until it is suspended or robbed
}


@dataclass
class Soak:
    """One soak in a namespace of its own; its record and the operators' logs are in `folder`."""

    cluster: Cluster
    folder: Path
    seed: int
    made: int = 0
    wrong: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)  # what was done, by its name
    ended: int = 0
    left: int = 0  # objects of runs that are gone, at the end
    _runs: dict[str, tuple[Run, str]] = field(default_factory=dict)  # by name: with its kind
    _operators: list[OperatorProcess] = field(default_factory=list)
    _counted: int = 0  # calls, at the last sample

    def __post_init__(self) -> None:
        """Draw by the seed."""
        self.chance = random.Random(self.seed)
        self.namespace = f"soak-{self.seed}-{os.getpid()}"
        plane = self.cluster.control_plane
        self.folder.mkdir(parents=True, exist_ok=True)
        self.record = Record(self.folder / "soak.csv")
        self.proxy = FaultProxy(plane.admin, plane.authority, self.folder / "proxy", FAULTS, self.seed)

    def go(self, seconds: float) -> None:
        """Act for so long, then let everything come to its end."""
        self.cluster.core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=self.namespace)))
        try:
            self._operators = [self._start(), self._start()]
            for each in self._operators:
                each.wait_ready()
            began = time.monotonic()
            while time.monotonic() - began < seconds:
                self._act()
                self._harvest()
                self._measure(time.monotonic() - began)
                time.sleep(0.3)
            self.proxy.set(Faults())
            self._settle()
        finally:
            for each in self._operators:
                each.stop(signal.SIGKILL)
            self.proxy.close()
            self.cluster.core.delete_namespace(self.namespace)

    def _start(self) -> OperatorProcess:
        where = (f"--namespace={self.namespace}", f"--lease-namespace={self.namespace}")
        return OperatorProcess(self.folder / f"operator-{time.monotonic_ns()}", self.proxy.kubeconfig, *where)

    # --- what happens ---------------------------------------------------------------------------------------------------

    def _act(self) -> None:
        actions = {self._begin: 10, self._suspend: 3, self._edit: 2, self._rob: 2, self._delete: 1, self._upset: 0.3}
        act = self.chance.choices(list(actions), list(actions.values()))[0]
        if act == self._begin and len(self._runs) >= AT_ONCE:
            return
        self.done[act.__name__.strip("_")] += 1
        with suppress(*GONE):
            act()

    def _begin(self) -> None:
        kind = self.chance.choice(list(KINDS))
        name = f"{kind}-{self.made}"
        slowly = Rule(script(run_seconds=round(self.chance.uniform(0.2, 3.0), 1)))
        manifest = run(name, slowly, *KINDS[kind][0], compute=GANG if kind == "gang" else None)
        self._runs[name] = Run(self.cluster, self.namespace, manifest), kind
        self.made += 1

    def _pick(self) -> Run:
        return self.chance.choice([made for made, _ in self._runs.values()])

    def _suspend(self) -> None:
        made = self._pick()
        made.patch({"spec": {"suspend": not made.read()["spec"]["suspend"]}})

    def _edit(self) -> None:
        self._pick().patch({"spec": {"failurePolicy": {"progressDeadlineSeconds": self.chance.randint(600, 6000)}}})

    def _rob(self) -> None:
        made = self._pick()
        labels = f"selfalign.dev/run-uid={made.uid}"
        pods = self.cluster.core.list_namespaced_pod(self.namespace, label_selector=labels).items
        running = [pod.metadata.name for pod in pods if pod.status.phase == "Running"]
        if running:
            self.cluster.core.delete_namespaced_pod(self.chance.choice(running), self.namespace)

    def _delete(self) -> None:
        made = self._pick()
        made.delete()
        del self._runs[made.name]

    def _upset(self) -> None:
        """Kill -9 the replica that may be killed; or have the other, which is measured, hang for longer than a lease."""
        if self.chance.random() < 0.5:
            self._operators[1].stop(signal.SIGKILL)
            self._operators[1] = self._start()
            return
        first = self._operators[0].process
        first.send_signal(signal.SIGSTOP)
        time.sleep(HANG_SECONDS)
        first.send_signal(signal.SIGCONT)

    # --- what must be so ------------------------------------------------------------------------------------------------

    def _harvest(self) -> None:
        """Runs that have ended are judged and deleted: what is there stays as much."""
        for name, (made, kind) in list(self._runs.items()):
            with suppress(*GONE):
                state = made.status.get("state")
                if state in ("Complete", "Failed"):
                    self._judge(name, kind, str(state))
                    self.ended += 1
                    made.delete()
                    del self._runs[name]

    def _judge(self, name: str, kind: str, state: str) -> None:
        if state != KINDS[kind][1]:
            self.wrong.append(f"{name} is {state}")

    def _settle(self) -> None:
        """Nothing more is done but to let go what is held; all runs end, and of no run anything is left."""

        def over() -> bool:
            for made, kind in list(self._runs.values()):
                with suppress(*GONE):
                    self._let_go(made, kind)
            self._harvest()
            return not self._runs

        with recording(self.wrong, lambda: [f"{name} has not ended" for name in self._runs]):
            until(over, "end of all runs", SETTLE_SECONDS, pause=1.0)
        with recording(self.wrong, lambda: [f"{name} is left" for name in self._left()]):
            until(lambda: not self._left(), "end of what they owned", SETTLE_SECONDS, pause=1.0)
        self.left = len(self._left())

    def _let_go(self, made: Run, kind: str) -> None:
        """Resume it; one whose first attempt hangs goes on when that pod is deleted."""
        if made.read()["spec"]["suspend"]:
            made.patch({"spec": {"suspend": False}})
        hangs = kind == "paused" and made.step("i1-generate").get("attempts") == 1
        for pod in made.pods("i1-generate") if hangs else ():
            if pod.status.phase == "Running":
                self.cluster.core.delete_namespaced_pod(pod.metadata.name, self.namespace)

    def _left(self) -> list[str]:
        living = {made.uid for made, _ in self._runs.values()}
        jobs = self.cluster.batch.list_namespaced_job(self.namespace).items
        maps = self.cluster.core.list_namespaced_config_map(self.namespace).items
        owned = [each for each in (*jobs, *maps) if "selfalign.dev/run-uid" in (each.metadata.labels or {})]
        return [e.metadata.name for e in owned if e.metadata.labels["selfalign.dev/run-uid"] not in living]

    def _measure(self, seconds: float) -> None:
        passed = seconds - (self.record.samples[-1].seconds if self.record.samples else -SAMPLE_SECONDS)
        if passed < SAMPLE_SECONDS:
            return
        pages = int(Path(f"/proc/{self._operators[0].process.pid}/statm").read_text().split()[1])
        calls = len(self.proxy.calls)
        core, batch = self.cluster.core, self.cluster.batch
        policies = client.NetworkingV1Api(core.api_client).list_namespaced_network_policy
        made = (batch.list_namespaced_job, core.list_namespaced_pod, core.list_namespaced_config_map, policies)
        self.record.add(
            Sample(
                seconds=seconds,
                memory=pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
                objects=sum(map(self._count, made)),
                events=self._count(core.list_namespaced_event),
                calls=(calls - self._counted) / passed,
                there=len(self._runs),
                ended=self.ended,
                wrong=len(self.wrong),
            )
        )
        self._counted = calls

    def _count(self, listed: Callable[..., Any]) -> int:
        """How many there are: a list of one says how many follow it."""
        found = listed(self.namespace, limit=1)
        return len(found.items) + (found.metadata.remaining_item_count or 0)

    def lines(self) -> Iterator[str]:
        """What is told, the result last."""
        calls = Counter(call.method for call in self.proxy.calls)
        yield from self.wrong
        yield f"did {dict(self.done)}; calls {dict(calls)}; faults {dict(self.proxy.faults)}"
        most = max((each.objects for each in self.record.samples), default=0)
        yield f"objects {most} at most, {self.left} at the end; runs that ended {self.ended}"
        yield f"soak: runs {self.made}, wrong {len(self.wrong)}, slope {self.record.slope:.2f} MB/h"


@contextmanager
def recording(wrong: list[str], words: Callable[[], list[str]]) -> Iterator[None]:
    """What has not come about in time is wrong."""
    try:
        yield
    except TimeoutError:
        wrong += words()


def main() -> int:
    """Exit code 1 where a run is not where it should be."""
    whole = argparse.ArgumentParser(description=__doc__)
    whole.add_argument("--minutes", type=float, default=10.0)
    whole.add_argument("--seed", type=int, default=0)
    whole.add_argument("--out", type=Path, default=Path("out/soak"))
    options = whole.parse_args()
    out = options.out / time.strftime("%Y%m%d-%H%M%S")
    print(f"soak: {out}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(Path(folder))
        try:
            cluster.add_crd(Path(__file__).parents[2] / "crds" / "selfalignmentruns.yaml")
            soak = Soak(cluster, out, options.seed)
            soak.go(options.minutes * 60)
        finally:
            cluster.stop()
    (out / "soak.svg").write_text(picture(soak.record.samples))
    print("\n".join(soak.lines()))
    return 1 if soak.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
