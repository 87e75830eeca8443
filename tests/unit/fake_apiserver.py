"""An apiserver over HTTP, as far as Kopf and the operator's client go: discovery, lists, watches, a few writes.

No rules, no admission: what the real one does is tested in tests/cluster. This one can be told to forget and to fall silent.
"""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

Json = dict[str, Any]
KINDS = {
    "api/v1": [("namespaces", "Namespace"), ("events", "Event"), ("pods", "Pod")],
    "apis/apiextensions.k8s.io/v1": [("customresourcedefinitions", "CustomResourceDefinition")],
    "apis/batch/v1": [("jobs", "Job")],
    "apis/coordination.k8s.io/v1": [("leases", "Lease")],
    "apis/events.k8s.io/v1": [("events", "Event")],
    "apis/ray.io/v1": [("rayjobs", "RayJob")],
    "apis/selfalign.dev/v1alpha1": [("selfalignmentruns", "SelfAlignmentRun")],
}


class FakeApiserver:
    """Objects by group, plural, namespace and name. `served` are the groups that exist."""

    def __init__(self, folder: Path) -> None:
        self.kubeconfig = folder / "fake.kubeconfig"
        self.served = set(KINDS) - {"apis/ray.io/v1"}
        self.objects: dict[tuple[str, str, str, str], Json] = {}
        self.requests: list[tuple[str, str]] = []  # method and path, watches with ?watch
        self.version = 100
        self._watches: dict[asyncio.Queue[Json | None], tuple[str, str]] = {}

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, shutdown_timeout=0.1).start()
        config = {
            "current-context": "fake",
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
            "clusters": [{"name": "fake", "cluster": {"server": f"http://127.0.0.1:{runner.addresses[0][1]}"}}],
            "users": [{"name": "fake", "user": {}}],
        }
        self.kubeconfig.write_text(yaml.safe_dump(config))
        try:
            yield
        finally:
            for queue in self._watches:
                queue.put_nowait(None)
            await runner.cleanup()

    # --- what a test does -------------------------------------------------------------------------------------------------

    def put(self, raw: Json, *, silent: bool = False) -> Json:
        """Make or change an object; `silent`: no watch says so."""
        group = ("apis/" if "/" in raw["apiVersion"] else "api/") + raw["apiVersion"]
        plural = next(plural for plural, kind in KINDS[group] if kind == raw["kind"])
        return self._put(group, plural, raw["metadata"]["namespace"], raw, silent)

    def delete(self, plural: str, namespace: str, name: str, *, silent: bool = False) -> None:
        """Delete an object; `silent`: no watch says so."""
        key = next(key for key in self.objects if key[1:] == (plural, namespace, name))
        gone = self.objects.pop(key)
        self.version += 1
        gone["metadata"]["resourceVersion"] = str(self.version)
        if not silent:
            self._tell(key[0], plural, {"type": "DELETED", "object": gone})

    def say(self, plural: str, frame: Json) -> None:
        """Send a frame to every watch of this kind, and end them when it is an error."""
        for queue, (_, watched) in list(self._watches.items()):
            if watched == plural:
                queue.put_nowait(frame)
                if frame["type"] == "ERROR":
                    queue.put_nowait(None)

    def watching(self, plural: str) -> int:
        """How many watches of this kind there are."""
        return sum(watched == plural for _, watched in self._watches.values())

    # --- what clients do --------------------------------------------------------------------------------------------------

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        watch = request.query.get("watch") == "true"
        self.requests.append((request.method, request.path + ("?watch" if watch else "")))
        path = request.path.strip("/")
        if path == "api":
            return web.json_response({"versions": ["v1"]})
        if path == "apis":
            return web.json_response({"groups": [_group(root) for root in sorted(self.served) if root != "api/v1"]})
        root = next((root for root in self.served if path == root or path.startswith(root + "/")), None)
        if root is None:
            return _status(404, "NotFound")
        parts = path[len(root) :].strip("/").split("/")
        if parts == [""]:
            return web.json_response({"resources": [_resource(*kind) for kind in KINDS[root]]})
        namespace = ""
        if parts[0] == "namespaces" and len(parts) > 2:
            namespace, parts = parts[1], parts[2:]
        return await self._resource(request, root, namespace, parts, watch)

    async def _resource(
        self, request: web.Request, root: str, namespace: str, parts: list[str], watch: bool
    ) -> web.StreamResponse:
        plural, name = parts[0], parts[1] if len(parts) > 1 else ""
        if watch:
            return await self._watch(request, root, plural)
        key = (root, plural, namespace, name)
        found = self.objects.get(key)
        if request.method == "GET" and not name:
            items = [raw for (group, kind, _, _), raw in self.objects.items() if (group, kind) == (root, plural)]
            return web.json_response({"metadata": {"resourceVersion": str(self.version)}, "items": items})
        if request.method == "GET":
            return _status(404, "NotFound") if found is None else web.json_response(found)
        body = await request.json()
        if request.method == "POST":
            if (root, plural, namespace, body["metadata"]["name"]) in self.objects:
                return _status(409, "AlreadyExists")
            return web.json_response(self._put(root, plural, namespace, body, False))
        if found is None:
            return _status(404, "NotFound")
        if body.get("metadata", {}).get("resourceVersion") not in (None, found["metadata"]["resourceVersion"]):
            return _status(409, "Conflict")
        changed = {**found, **{part: body[part] for part in ("spec", "status") if part in body}}
        return web.json_response(self._put(root, plural, namespace, changed, False))

    def _put(self, root: str, plural: str, namespace: str, raw: Json, silent: bool) -> Json:
        made = copy.deepcopy(raw)
        key = (root, plural, namespace, made["metadata"]["name"])
        self.version += 1
        made["metadata"] |= {"namespace": namespace, "resourceVersion": str(self.version)}
        made["metadata"].setdefault("uid", f"uid-{key[3]}-{self.version}")
        kind = "MODIFIED" if key in self.objects else "ADDED"
        self.objects[key] = made
        if not silent:
            self._tell(root, plural, {"type": kind, "object": made})
        return made

    def _tell(self, root: str, plural: str, frame: Json) -> None:
        for queue, watched in self._watches.items():
            if watched == (root, plural):
                queue.put_nowait(copy.deepcopy(frame))

    async def _watch(self, request: web.Request, root: str, plural: str) -> web.StreamResponse:
        queue: asyncio.Queue[Json | None] = asyncio.Queue()
        self._watches[queue] = (root, plural)
        response = web.StreamResponse()
        try:
            await response.prepare(request)
            while (frame := await queue.get()) is not None:
                await response.write(json.dumps(frame).encode() + b"\n")
        finally:
            del self._watches[queue]
        return response


def _group(root: str) -> Json:
    group, version = root.removeprefix("apis/").split("/")
    found = {"groupVersion": f"{group}/{version}", "version": version}
    return {"name": group, "versions": [found], "preferredVersion": found}


def _resource(plural: str, kind: str) -> Json:
    namespaced = kind not in ("Namespace", "CustomResourceDefinition")
    verbs = ["get", "list", "watch", "create", "patch", "update", "delete"]
    return {"name": plural, "kind": kind, "singularName": kind.lower(), "namespaced": namespaced, "verbs": verbs}


def _status(code: int, reason: str) -> web.Response:
    return web.json_response({"kind": "Status", "code": code, "reason": reason, "message": reason}, status=code)
