"""What the operator says of runs: counted from the cache, whatever stands in an object; GPUs by the time they are held."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from fake_kube import job_object, run_object
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from selfalign_operator.cache import Cache
from selfalign_operator.gpu_clock import GpuClock
from selfalign_operator.metrics import Metrics
from selfalign_operator.run_metrics import RunCollector
from selfalign_operator.run_summary import summary_of
from selfalign_operator.views import GPUS_ANNOTATION

STATE = {"run_namespace": "ns", "run": "run", "recipe": "sao", "state": "Failed", "stage": "train"}


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def value(cache: Cache, name: str, **labels: str) -> float | None:
    registry = CollectorRegistry()
    registry.register(RunCollector(cache))
    found: float | None = registry.get_sample_value(f"selfalign_operator_{name}", labels)
    return found


def failed(seconds_ago: float) -> dict[str, Any]:
    run = run_object(state="Failed")
    ended = datetime.fromtimestamp(time.time() - seconds_ago, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    steps = [{"name": "i1-train", "kind": "train", "state": "Failed", "reason": "OutOfMemory"}]
    run["status"] |= {"completionTime": ended, "stage": "train", "steps": steps}
    run["status"]["results"] = [{"name": "win", "value": "0.61", "low": "0.58"}]
    return run


def holding(gpus: str, ready: int, version: int = 5) -> dict[str, Any]:
    job = job_object(version=version)
    job["metadata"]["annotations"] = {GPUS_ANNOTATION: gpus}
    job["status"] = {"ready": ready}
    return job


def test_a_failed_run_is_named_with_its_steps_reason_and_its_results() -> None:
    cache = Cache()
    cache.put(failed(seconds_ago=60))
    assert value(cache, "run_state", **STATE, reason="OutOfMemory") == 1
    assert value(cache, "run_result", run_namespace="ns", run="run", check="win", bound="low") == 0.58
    assert value(cache, "run_result", run_namespace="ns", run="run", check="win", bound="high") is None


def test_an_hour_after_its_end_it_is_counted_and_no_longer_named() -> None:
    cache = Cache()
    cache.put(failed(seconds_ago=3700))
    assert value(cache, "run_state", **STATE, reason="OutOfMemory") is None
    assert value(cache, "runs", run_namespace="ns", recipe="sao", state="Failed") == 1


def test_states_of_no_run_are_counted_as_0() -> None:
    cache = Cache()
    cache.put(run_object(state="Running"))
    assert value(cache, "runs", run_namespace="ns", recipe="sao", state="Running") == 1
    assert value(cache, "runs", run_namespace="ns", recipe="sao", state="Held") == 0


def test_a_workload_holds_the_gpus_of_its_ready_pods_until_it_is_gone() -> None:
    cache = Cache()
    cache.put(run_object())
    cache.put(holding("8", ready=2))
    assert value(cache, "gpus", run_namespace="ns") == 16
    assert value(cache, "run_gpus", run_namespace="ns", run="run") == 16
    cache.put(holding("8", ready=1, version=6))
    assert value(cache, "gpus", run_namespace="ns") == 8
    cache.remove(holding("8", ready=1, version=7))
    assert value(cache, "gpus", run_namespace="ns") == 0


def test_a_job_that_only_says_it_is_ours_holds_none() -> None:
    cache = Cache()
    cache.put(run_object())
    foreign = holding("8", ready=2)
    foreign["metadata"]["ownerReferences"] = []
    cache.put(foreign)
    assert not value(cache, "gpus", run_namespace="ns")


def test_gpu_seconds_are_gpus_by_the_time_between_what_is_told() -> None:
    clock = Clock()
    gpus = GpuClock(clock)
    gpus.hold("a", "ml", "run", 8)
    clock.now += 10
    gpus.hold("b", "ml", "run", 4)
    assert gpus.of_runs() == {"run": 12}
    clock.now += 5
    gpus.hold("a", "ml", "run", 0)
    clock.now += 100
    assert gpus.seconds() == {"ml": 8 * 15 + 4 * 105}


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["Failed", "True", "nan", "1e999"]),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.sampled_from(["state", "reason", "type", "status", "name", "value", "low"]), inner)
    ),
    max_leaves=12,
)
FIELDS = st.sampled_from(["state", "stage", "steps", "conditions", "results", "completionTime"])


@given(st.dictionaries(FIELDS, ANYTHING) | ANYTHING, ANYTHING)
def test_whatever_a_status_holds_can_be_summed_up(status: Any, spec: Any) -> None:
    summary = summary_of({"status": status, "spec": spec})
    assert all(isinstance(word, str) for word in (summary.state, summary.recipe, summary.stage, summary.reason))


def test_counters_begin_at_0_so_that_their_first_event_is_an_increase() -> None:
    found = Metrics().registry.get_sample_value
    assert found("selfalign_operator_lost_attempts_total", {"kind": "train", "reason": "Stalled"}) == 0
    assert found("selfalign_operator_steps_total", {"kind": "train", "result": "Failed"}) == 0


def test_a_pod_with_a_node_holds_its_gpus_before_it_is_ready_and_one_without_asks_for_them() -> None:
    cache = Cache()
    cache.put(run_object())
    starting = holding("8", ready=0)
    starting["status"] = {"active": 3, "ready": 0}
    cache.put(starting)
    assert [value(cache, name, run_namespace="ns") for name in ("gpus", "gpus_requested")] == [0, 24]
    cache.bind("uid-job", 2)
    assert [value(cache, name, run_namespace="ns") for name in ("gpus", "gpus_requested")] == [16, 24]
    ended = holding("8", ready=0, version=6)
    ended["status"] = {"active": 0}
    cache.put(ended)
    assert [value(cache, name, run_namespace="ns") for name in ("gpus", "gpus_requested")] == [0, 0]
