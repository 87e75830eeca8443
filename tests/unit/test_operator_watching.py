"""What a list of the apiserver does to the cache and the queue, before Kopf sees it."""

from __future__ import annotations

from typing import Any

import pytest

from selfalign_operator.cache import Cache, Key
from selfalign_operator.kube.traffic import Collection
from selfalign_operator.metrics import Metrics
from selfalign_operator.watching import WatchedTraffic

RUNS, JOBS = Collection("selfalignmentruns"), Collection("jobs")


class Seen:
    """Traffic into a cache; the keys that were enqueued."""

    def __init__(self) -> None:
        self.cache = Cache()
        self.keys: list[Key] = []
        self.traffic = WatchedTraffic(Metrics(), self.cache, self.keys.append)


@pytest.fixture
def seen() -> Seen:
    return Seen()


def item(name: str, version: int = 5, **labels: str) -> dict[str, Any]:
    metadata = {
        "namespace": "ns",
        "name": name,
        "uid": f"uid-{name}",
        "resourceVersion": str(version),
        "labels": labels,
    }
    return {"metadata": metadata}


def listed(kind: str, *items: Any, version: int = 10, more: str = "") -> dict[str, Any]:
    return {"kind": f"{kind}List", "metadata": {"resourceVersion": str(version), "continue": more}, "items": [*items]}


def test_the_runs_of_a_list_are_in_the_cache_and_in_the_queue(seen: Seen) -> None:
    seen.traffic.page(RUNS, True, listed("SelfAlignmentRun", item("a"), item("b")))
    assert seen.keys == [("ns", "a"), ("ns", "b")]
    assert seen.cache.run(("ns", "b")) is not None


def test_kopf_is_left_an_empty_list_of_what_is_watched_and_other_lists_as_they_are(seen: Seen) -> None:
    runs, pods = listed("SelfAlignmentRun", item("a")), listed("Pod", item("p"))
    seen.traffic.page(RUNS, True, runs)
    seen.traffic.page(Collection("pods", "ns"), True, pods)
    assert runs["items"] == []
    assert pods["items"] == [item("p")]


def test_a_second_list_with_the_same_objects_is_no_news(seen: Seen) -> None:
    for version in (10, 20):
        seen.traffic.page(RUNS, True, listed("SelfAlignmentRun", item("a"), version=version))
    assert seen.keys == [("ns", "a")]


def test_what_a_later_list_lacks_is_gone_and_its_run_is_looked_at(seen: Seen) -> None:
    seen.traffic.page(RUNS, True, listed("SelfAlignmentRun", item("a"), item("b")))
    seen.keys.clear()
    seen.traffic.page(RUNS, True, listed("SelfAlignmentRun", item("b"), version=20))
    assert seen.keys == [("ns", "a")]
    assert seen.cache.all_keys() == (("ns", "b"),)


def test_a_list_is_whole_with_its_last_page(seen: Seen) -> None:
    seen.traffic.page(RUNS, True, listed("SelfAlignmentRun", item("a"), more="next"))
    assert not seen.traffic.has_listed([RUNS])
    seen.traffic.page(RUNS, False, listed("SelfAlignmentRun", item("b")))
    assert seen.traffic.has_listed([RUNS])
    assert len(seen.cache) == 2


def test_jobs_of_a_list_are_children_though_their_items_do_not_say_their_kind(seen: Seen) -> None:
    labels = {
        "selfalign.dev/run-uid": "uid-a",
        "selfalign.dev/step": "accept",
        "selfalign.dev/attempt": "1",
    }
    seen.traffic.page(RUNS, True, listed("SelfAlignmentRun", item("a")))
    seen.traffic.page(JOBS, True, listed("Job", item("a-accept-1", **labels)))
    assert [(child.kind, child.name) for child in seen.cache.workloads("uid-a")] == [("Job", "a-accept-1")]
    assert seen.keys == [("ns", "a"), ("ns", "a")]


def test_an_object_that_cannot_be_read_stops_no_other(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    put = seen.cache.put

    def fail_for_a(raw: dict[str, Any], *, listed: bool = False) -> Key | None:
        if raw["metadata"]["name"] == "a":
            raise RecursionError
        return put(raw, listed=listed)

    monkeypatch.setattr(seen.cache, "put", fail_for_a)
    seen.traffic.page(RUNS, True, listed("SelfAlignmentRun", item("a"), item("b")))
    assert seen.keys == [("ns", "b")]


THEIRS, OURS = Collection("jobs", "theirs"), Collection("jobs", "ours")


def test_nobody_waits_for_a_namespace_that_may_not_be_read_and_its_silence_means_nothing(seen: Seen) -> None:
    seen.traffic.frame(THEIRS)
    seen.traffic.refused(THEIRS)
    seen.traffic.page(OURS, True, {"metadata": {"resourceVersion": "9"}, "items": []})
    assert seen.traffic.has_listed([THEIRS, OURS])
    assert seen.traffic.unread() == ("theirs",)
    assert seen.traffic.ages() == {}


def test_a_namespace_that_may_be_read_again_is_waited_for_and_heard(seen: Seen) -> None:
    seen.traffic.refused(THEIRS)
    seen.traffic.page(THEIRS, True, {"metadata": {"resourceVersion": "9", "continue": "x"}, "items": []})
    assert not seen.traffic.has_listed([THEIRS])
    assert seen.traffic.unread() == ()
    seen.traffic.frame(THEIRS)
    assert list(seen.traffic.ages()) == ["jobs"]


def test_of_the_whole_cluster_a_refusal_is_waited_out(seen: Seen) -> None:
    seen.traffic.refused(JOBS)
    assert not seen.traffic.has_listed([JOBS])
    assert seen.traffic.unread() == ()
