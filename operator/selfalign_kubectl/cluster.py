"""The apiserver as a person's commands use it: JSON in, JSON out; what it refuses is told in words (refusals.py)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import urllib3
from kubernetes.client import ApiClient

from selfalign_kubectl.refusals import Call, Refused, Unreachable
from selfalign_operator.kube.resources import RUN, Resource
from selfalign_operator.read import run_view
from selfalign_operator.views import RunView

FIELD_MANAGER = "kubectl-selfalign"
SECONDS = (10, 60)  # to connect; between two pieces of an answer
MERGE, APPLY = "application/merge-patch+json", "application/apply-patch+yaml"
Json = dict[str, Any]


class Cluster:
    """One apiserver, and the namespace that is meant. Every method raises Refused, and Unreachable without an answer."""

    def __init__(self, client: ApiClient, namespace: str, *, given: bool = False) -> None:
        self.namespace = namespace
        self.given = given  # by --namespace
        self._client = client
        self._now: datetime | None = None

    @property
    def now(self) -> datetime:
        """The apiserver's time at its last answer: a laptop's clock may be wrong."""
        return self._now or datetime.now(UTC)

    def run(self, name: str) -> RunView:
        """The run of that name."""
        raw = self.get(RUN, name)
        view = run_view(raw)
        if view is None:
            raise Unreachable(f"the apiserver's answer is no {RUN.kind}")
        return view

    def runs(self, *, everywhere: bool = False) -> list[RunView]:
        """All runs of the namespace, or of all namespaces, by name."""
        found = (run_view(raw) for raw in self.list(RUN, everywhere=everywhere))
        return sorted((view for view in found if view is not None), key=lambda view: view.key)

    def get(self, resource: Resource, name: str, namespace: str | None = None) -> Json:
        """One object."""
        return self._json("GET", Call("get", resource, namespace or self.namespace, name))

    def list(
        self, resource: Resource, *, labels: str = "", everywhere: bool = False, namespace: str | None = None
    ) -> list[Json]:
        """Those that the labels select."""
        call = Call("list", resource, None if everywhere else namespace or self.namespace)
        items = self._json("GET", call, {"labelSelector": labels} if labels else {}).get("items")
        return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []

    def has(self, resource: Resource) -> bool:
        """Whether the cluster knows such objects, which everybody may ask; True also where nobody says."""
        try:
            self._send("GET", Call("get", resource, None), {}, path=resource.root).release_conn()
        except Refused as refused:
            return refused.code != 404
        return True

    def patch(self, resource: Resource, name: str, body: Json) -> Json:
        """A merge patch."""
        return self._json("PATCH", Call("patch", resource, self.namespace, name), {}, body, MERGE)

    def apply(self, resource: Resource, name: str, body: Json, *, force: bool, dry_run: bool) -> Json:
        """Server-side apply; with `force`, fields that others have set too."""
        query = {"force": str(force).lower()} | ({"dryRun": "All"} if dry_run else {})
        return self._json("PATCH", Call("patch", resource, self.namespace, name), query, body, APPLY)

    def create(self, resource: Resource, body: Json) -> Json:
        """A new object."""
        return self._json("POST", Call("create", resource, self.namespace), {}, body)

    def delete(self, resource: Resource, name: str) -> None:
        """At once."""
        self._json("DELETE", Call("delete", resource, self.namespace, name), {"gracePeriodSeconds": "0"})

    def log(self, call: Call, query: Mapping[str, str]) -> Iterator[bytes]:
        """A pod's log, line by line, as long as it is there and goes on; the last line may be cut."""
        response = self._send("GET", call, query)
        rest = b""
        try:
            for chunk in response.stream(65536, decode_content=True):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (line + b"\n" for line in lines)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Unreachable(f"the log broke off: {error}") from error
        finally:
            response.close()
        if rest:
            yield rest

    def _json(
        self, method: str, call: Call, query: Mapping[str, str] | None = None, body: Json | None = None,
        content_type: str = "application/json",
    ) -> Json:  # fmt: skip
        response = self._send(method, call, query or {}, body, content_type)
        try:
            found = json.loads(response.data)
        except (ValueError, urllib3.exceptions.HTTPError) as error:
            raise Unreachable(f"the apiserver's answer to {call} is no JSON: {error}") from error
        return found if isinstance(found, dict) else {}

    def _send(
        self, method: str, call: Call, query: Mapping[str, str], body: Json | None = None,
        content_type: str = "application/json",
        path: str | None = None,
    ) -> urllib3.BaseHTTPResponse:  # fmt: skip
        writes = {} if method in ("GET", "DELETE") else {"fieldManager": FIELD_MANAGER}
        try:
            request = self._client.param_serialize(
                method,
                path or call.path,
                query_params=[*query.items(), *writes.items()],
                header_params={"Content-Type": content_type, "Accept": "application/json"},
                body=body,
                auth_settings=["BearerToken"],
            )
            response = self._client.call_api(*request, _request_timeout=SECONDS).response
            if date := response.headers.get("Date"):
                self._now = parsedate_to_datetime(date)
            if response.status < 300:
                return response  # type: ignore[no-any-return]
            content = response.data
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Unreachable.of(self._client.configuration.host, error) from error
        raise Refused.of(call, response.status, content)
