"""What the apiserver's traffic tells of the watches: how long ago each of them said anything, and what a list lacks."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

from selfalign_operator.cache import Cache, Key
from selfalign_operator.kube.resources import JOB, RAY_JOB, RUN
from selfalign_operator.kube.traffic import Collection
from selfalign_operator.metrics import Metrics

__all__ = ["WatchedTraffic"]

KINDS = {resource.plural: resource.kind for resource in (RUN, JOB, RAY_JOB)}  # items of a list may not say theirs
log = logging.getLogger(__name__)


class WatchedTraffic:
    """Counts calls, stamps watches, and diffs every list against the cache (kube.traffic.Traffic)."""

    def __init__(
        self,
        metrics: Metrics,
        cache: Cache,
        enqueue: Callable[[Key], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._metrics = metrics
        self._cache = cache
        self._enqueue = enqueue
        self._clock = clock
        self._stamps: dict[Collection, float] = {}
        self._listed: set[Collection] = set()
        self._refused: set[Collection] = set()

    def answered(self, verb: str, code: str) -> None:
        """Count the call."""
        self._metrics.api_calls.labels(verb, code).inc()

    def frame(self, collection: Collection) -> None:
        """Stamp the watch: an event or a bookmark has come, or it has begun."""
        if collection.plural in KINDS:
            self._stamps[collection] = self._clock()
            self._refused.discard(collection)

    def refused(self, collection: Collection) -> None:
        """Of a namespace: it is asked for again and again, its silence means nothing, and nobody else waits for it."""
        if collection.plural not in KINDS or collection.namespace is None or collection in self._refused:
            return
        self._refused.add(collection)
        self._stamps.pop(collection, None)
        log.warning("%s of namespace %s cannot be read: forbidden", collection.plural, collection.namespace)

    def page(self, collection: Collection, first: bool, body: Any) -> None:
        """Take over all that a list has, forget what it lacks, and look at the runs of both.

        Kopf gets an empty list: it would handle each object of it in a task of its own, for nothing.
        """
        if collection.plural not in KINDS or not isinstance(body, dict):
            return
        for item in body.get("items") or ():
            self._take({"kind": KINDS[collection.plural]} | item)
        for key in self._cache.page(collection, first, body):
            self._enqueue(key)
        body["items"] = []
        self._refused.discard(collection)
        if not body.get("metadata", {}).get("continue"):
            self._listed.add(collection)

    def _take(self, item: dict[str, Any]) -> None:
        """Into the cache. An object that cannot be read stops no other."""
        try:
            key = self._cache.put(item, listed=True)
        except Exception:
            metadata = item.get("metadata", {})
            log.exception("%s %s/%s cannot be read", item["kind"], metadata.get("namespace"), metadata.get("name"))
            return
        if key is not None:
            self._enqueue(key)

    def stop_watching(self, plural: str) -> None:
        """Nobody watches this kind any more: its silence means nothing."""
        for collection in [each for each in self._stamps if each.plural == plural]:
            del self._stamps[collection]

    def has_listed(self, collections: Iterable[Collection]) -> bool:
        """Whether the cache has seen all of these once, but for those of single namespaces that may not be read."""
        return (self._listed | self._refused).issuperset(collections)

    def unread(self) -> tuple[str, ...]:
        """The namespaces of which something may not be read now, sorted."""
        return tuple(sorted({each.namespace or "" for each in self._refused}))

    def ages(self) -> dict[str, float]:
        """Seconds since the most silent watch of each kind said anything."""
        now, ages = self._clock(), dict[str, float]()
        for collection, stamp in self._stamps.items():
            ages[collection.plural] = max(ages.get(collection.plural, 0.0), now - stamp)
        return ages
