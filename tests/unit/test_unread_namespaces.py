"""Namespaces that cannot be read are told of once each, in the operator's own namespace, by who leads."""

from __future__ import annotations

import asyncio
from typing import Any

from fake_kube import FakeKube

from selfalign_operator.kube.client import ApiError
from selfalign_operator.unread import UnreadNamespaces


class Scene:
    def __init__(self) -> None:
        self.kube, self.unread, self.leads = FakeKube(), list[str](), True
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
        self.kube.has(lease | {"metadata": {"name": "selfalign-operator", "namespace": "home", "uid": "u"}})
        kube: Any = self.kube
        self.namespaces = UnreadNamespaces(
            kube, "home", "selfalign-operator", "pod-1", lambda: tuple(self.unread), lambda: self.leads
        )

    def look(self, *unread: str) -> None:
        self.unread = list(unread)
        asyncio.run(self.namespaces.look())

    @property
    def told(self) -> list[tuple[str, str]]:
        events = [each for (plural, _, _), each in self.kube.objects.items() if plural == "events"]
        return [(each["reason"], each["note"].split()[1]) for each in events]


def test_each_is_told_of_once_when_it_begins_and_once_when_it_ends() -> None:
    scene = Scene()
    for unread in ((), ("a",), ("a", "b"), ("a", "b"), ("b",), ("b",)):
        scene.look(*unread)
    assert scene.told == [("NamespaceUnreadable", "a"), ("NamespaceUnreadable", "b"), ("NamespaceReadable", "a")]


def test_it_is_about_the_lease_by_its_uid_for_kubectl_describe_asks_by_that() -> None:
    scene = Scene()
    scene.look("a")
    (event,) = (each for (plural, _, _), each in scene.kube.objects.items() if plural == "events")
    assert event["regarding"] == {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "namespace": "home",
        "name": "selfalign-operator",
        "uid": "u",
    }
    assert (event["type"], event["metadata"]["namespace"]) == ("Warning", "home")


def test_a_standby_says_nothing_and_says_what_is_so_once_it_leads() -> None:
    scene = Scene()
    scene.leads = False
    scene.look("a")
    assert scene.told == []
    scene.leads = True
    scene.look("a")
    assert scene.told == [("NamespaceUnreadable", "a")]


def test_without_the_right_to_tell_it_goes_on() -> None:
    scene = Scene()

    def refuse(verb: str, manifest: Any) -> None:
        raise ApiError(403, "Forbidden", verb)

    scene.kube.refuse = refuse
    scene.look("a")
    scene.look("a")
    assert [call[:2] for call in scene.kube.writes] == [("create", "events")]
