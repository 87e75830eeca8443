"""The cache: versions only rise, ghosts go, a recreated run is another one."""

from __future__ import annotations

import copy
from typing import Any

from fake_kube import job_object, run_object
from hypothesis import given
from hypothesis import strategies as st

from selfalign_operator.cache import Cache
from selfalign_operator.kube.traffic import Collection

RUNS, JOBS = Collection("selfalignmentruns"), Collection("jobs")
KEY = ("ns", "run")


def page(*items: dict[str, Any], version: int, more: bool = False) -> dict[str, Any]:
    return {"metadata": {"resourceVersion": str(version), "continue": "x" if more else ""}, "items": list(items)}


def test_a_run_is_read_as_it_was_put() -> None:
    cache = Cache()
    assert cache.put(run_object(state="Running")) == KEY
    run = cache.run(KEY)
    assert run is not None
    assert (run.uid, run.generation, run.status.state) == ("uid-run", 1, "Running")
    assert dict(run.spec) == {"recipe": "sao", "model": {"url": "hf://a/b"}}
    ((key, uid, summary),) = cache.summaries()
    assert (key, uid, summary.state, summary.recipe) == (KEY, "uid-run", "Running", "sao")


def test_what_is_as_large_as_the_rest_is_not_kept() -> None:
    raw = run_object()
    raw["metadata"] |= {
        "managedFields": [{"manager": "kubectl"}],
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "selfalign.dev/retry": "1"},
    }
    before = copy.deepcopy(raw)
    cache = Cache()
    cache.put(raw)
    run = cache.run(KEY)
    assert run is not None
    assert dict(run.annotations) == {"selfalign.dev/retry": "1"}
    assert raw == before


def test_an_echo_of_our_own_write_is_no_news() -> None:
    cache = Cache()
    cache.put(run_object(version=5))
    assert cache.put(run_object(version=5)) is None
    assert cache.put(run_object(version=4, state="Failed")) is None
    assert cache.put(run_object(version=6)) == KEY


def test_a_workload_is_news_of_its_run() -> None:
    cache = Cache()
    cache.put(run_object())
    assert cache.put(job_object()) == KEY
    assert [view.name for view in cache.workloads("uid-run")] == ["job"]
    assert cache.remove(job_object()) == KEY
    assert cache.workloads("uid-run") == ()


def test_a_workload_of_an_unknown_run_waits_for_it() -> None:
    cache = Cache()
    assert cache.put(job_object()) is None
    cache.put(run_object())
    assert [view.name for view in cache.workloads("uid-run")] == ["job"]


def test_a_foreign_job_with_our_labels_is_seen_with_its_owner() -> None:
    cache = Cache()
    cache.put(run_object())
    cache.put(job_object(owner="somebody"))
    (view,) = cache.workloads("uid-run")
    assert view.owner_uid == "somebody"


def test_a_job_of_another_namespace_is_no_child() -> None:
    cache = Cache()
    cache.put(run_object())
    elsewhere = job_object()
    elsewhere["metadata"]["namespace"] = "other"
    assert cache.put(elsewhere) is None
    assert cache.workloads("uid-run") == ()


def test_children_of_a_recreated_run_are_not_its_own() -> None:
    cache = Cache()
    cache.put(run_object(version=1))
    cache.put(job_object(version=2))
    again = run_object(version=9)
    again["metadata"]["uid"] = "uid-again"
    assert cache.put(again) == KEY
    run = cache.run(KEY)
    assert run is not None
    assert cache.workloads(run.uid) == ()
    assert cache.remove(run_object(version=8)) is None  # the old one's deletion comes late
    assert cache.run(KEY) is not None


def test_what_a_list_lacks_is_forgotten_and_named() -> None:
    cache = Cache()
    cache.put(run_object("a", version=1))
    cache.put(run_object("b", version=2))
    cache.put(job_object("ghost", run="a", version=3))
    assert cache.page(JOBS, True, page(version=50)) == (("ns", "a"),)
    assert cache.workloads("uid-a") == ()
    assert cache.page(RUNS, True, page(run_object("a"), version=51, more=True)) == ()
    assert cache.run(("ns", "b")) is not None  # the list goes on
    assert cache.page(RUNS, False, page(version=51)) == (("ns", "b"),)
    assert cache.run(("ns", "b")) is None


def test_what_was_made_after_a_list_is_no_ghost() -> None:
    cache = Cache()
    cache.put(run_object("a", version=60))
    assert cache.page(RUNS, True, page(version=50)) == ()
    assert cache.run(("ns", "a")) is not None


def test_a_list_of_one_namespace_says_nothing_of_another() -> None:
    cache = Cache()
    cache.put(run_object("a", namespace="one", version=1))
    assert cache.page(Collection("selfalignmentruns", "two"), True, page(version=50)) == ()
    assert cache.page(Collection("selfalignmentruns", "one"), True, page(version=50)) == (("one", "a"),)


def test_an_event_from_before_a_list_brings_nothing_back() -> None:
    cache = Cache()
    cache.page(RUNS, True, page(version=50))
    assert cache.put(run_object(version=40)) is None
    assert cache.run(KEY) is None
    assert cache.put(run_object(version=40), listed=True) == KEY


def test_what_was_deleted_does_not_come_back() -> None:
    cache = Cache()
    cache.put(run_object(version=5))
    assert cache.remove(run_object(version=6)) == KEY
    assert cache.put(run_object(version=7)) is None
    assert len(cache) == 0


HAPPENINGS = st.lists(st.tuples(st.sampled_from(["make", "change", "delete"]), st.sampled_from("abc")), max_size=30)


@given(HAPPENINGS, st.data())
def test_a_lossy_watch_and_a_list_leave_what_there_is(happenings: list[tuple[str, str]], data: st.DataObject) -> None:
    """Events are lost, doubled and late up to the list; after it the cache is what the cluster is."""
    version, cluster, events, made = 0, dict[str, dict[str, Any]](), [], 0
    for what, name in happenings:
        version += 1
        if what == "delete" and name in cluster:
            gone = copy.deepcopy(cluster.pop(name))
            gone["metadata"]["resourceVersion"] = str(version)
            events.append(("DELETED", gone))
        elif what == "make" and name not in cluster:
            made += 1
            cluster[name] = run_object(name, version=version)
            cluster[name]["metadata"]["uid"] = f"uid-{made}"
            events.append(("ADDED", copy.deepcopy(cluster[name])))
        elif what == "change" and name in cluster:
            cluster[name]["metadata"]["resourceVersion"] = str(version)
            events.append(("MODIFIED", copy.deepcopy(cluster[name])))
    cache = Cache()

    def deliver(event: tuple[str, dict[str, Any]]) -> None:
        kind, raw = event
        if kind == "DELETED":
            cache.remove(raw)
        else:
            cache.put(raw)

    heard = [event for event in events if data.draw(st.booleans(), label="heard")]
    for event in heard:
        deliver(event)
    cache.page(RUNS, True, page(*cluster.values(), version=version))
    for event in data.draw(st.lists(st.sampled_from(events), max_size=5) if events else st.just([]), label="late"):
        deliver(event)
    for raw in cluster.values():
        cache.put(raw, listed=True)
    assert {key[1]: cache.run(key).uid for key in cache.all_keys()} == {  # type: ignore[union-attr]
        name: raw["metadata"]["uid"] for name, raw in cluster.items()
    }
