"""MLflow's REST API, as much of it as a run needs. Not their client: its dependencies would have to be in every image.

https://mlflow.org/docs/latest/api_reference/rest-api.html
"""

from __future__ import annotations

import base64
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from selfalign_api.plan_values import Json
from selfalign_jobs.places.store import Folder
from selfalign_jobs.step.points import Point

TRIES = 3
ONCE = 1  # what would be made again where only the answer was lost: whoever tracks next looks for it first
PAUSE_SECONDS = 1.0  # before the second try; then twice as long
TIMEOUT_SECONDS = 20.0
UPLOAD_SECONDS = 300.0  # the same of a file
AGAIN = (408, 425, 429, 500, 502, 503, 504)  # what may pass
POINTS, PARAMETERS, TAGS = 1000, 100, 100  # of one request, at most
MISSING, THERE = "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"
KEY = "selfalign.key"
MENDS = (
    "give MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, on a cluster in a Secret that "
    "credentials: [{urlPrefix: ADDRESS, secretName: NAME}] names"
)
T = TypeVar("T")


class NotTracked(Exception):
    """A server does not take what it is given; says why, and what to do."""


class Unreachable(NotTracked):
    """It does not answer now: that may pass."""


class Refused(NotTracked):
    """It answers, and will not; `code` is MLflow's word for why."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class TrackedAs:
    """A run of MLflow's."""

    run_id: str
    artifacts: str  # URI of its artefacts
    status: str


class MLflow:
    """One server. Every method raises Unreachable or Refused."""

    def __init__(self, url: str, environment: Mapping[str, str]) -> None:
        self.url = url.rstrip("/")
        self._headers = _authorization(environment)
        self._open = urllib.request.build_opener(_NoRedirect()).open

    def experiment(self, name: str) -> str:
        """The id of the experiment, which is made where there is none."""
        asked = {"experiment_name": name}
        try:
            found = self._call("GET", "experiments/get-by-name", asked)["experiment"]
        except Refused as refused:
            if refused.code != MISSING:
                raise
            self._made_or_there("experiments/create", {"name": name})
            found = self._call("GET", "experiments/get-by-name", asked)["experiment"]
        if found.get("lifecycle_stage") == "deleted":
            raise Refused(
                f"the experiment {name} was deleted there; restore it (`mlflow experiments restore`), or write another"
            )
        return str(found["experiment_id"])

    def find(self, experiment: str, tag: str, value: str) -> dict[str, TrackedAs]:
        """The runs with this tag, by their keys."""
        asked = {"experiment_ids": [experiment], "filter": f"tags.`{tag}` = '{value}'", "max_results": 1000}
        runs = self._call("POST", "runs/search", asked).get("runs", [])
        tags = [{tag["key"]: tag["value"] for tag in run["data"]["tags"]} for run in runs]
        return {of_run[KEY]: _tracked_as(run) for run, of_run in zip(runs, tags, strict=True) if KEY in of_run}

    def create(self, experiment: str, key: str, name: str, tags: Mapping[str, str], started: float) -> TrackedAs:
        """A run with this key from the first moment on."""
        asked = {
            "experiment_id": experiment,
            "run_name": name,
            "start_time": _milliseconds(started),
            "tags": _pairs({**tags, KEY: key}),
        }
        return _tracked_as(self._call("POST", "runs/create", asked, tries=ONCE)["run"])

    def describe(self, run_id: str, parameters: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """Parameters, which never change, and tags, which may."""
        for params in _slices(_pairs(parameters), PARAMETERS):
            self._call("POST", "runs/log-batch", {"run_id": run_id, "params": params})
        for some in _slices(_pairs(tags), TAGS):
            self._call("POST", "runs/log-batch", {"run_id": run_id, "tags": some})

    def add(self, run_id: str, points: Sequence[Point]) -> None:
        """Points, as they are: those that are there would be there twice."""
        written = [
            {"key": _name(each.name), "value": each.value, "step": each.step, "timestamp": _milliseconds(each.at)}
            for each in points
        ]
        for some in _slices(written, POINTS):
            self._call("POST", "runs/log-batch", {"run_id": run_id, "metrics": some})

    def steps(self, run_id: str, name: str) -> set[int]:
        """The steps at which a curve has points."""
        asked = {"run_id": run_id, "metric_key": _name(name)}
        found: set[int] = set()
        while True:
            page = self._call("GET", "metrics/get-history", asked)
            found |= {int(metric.get("step", 0)) for metric in page.get("metrics", [])}
            if not page.get("next_page_token"):
                return found
            asked["page_token"] = page["next_page_token"]

    def end(self, run_id: str, status: str, at: float | None = None) -> None:
        """RUNNING, FINISHED or FAILED."""
        ended = {} if at is None else {"end_time": _milliseconds(at)}
        self._call("POST", "runs/update", {"run_id": run_id, "status": status, **ended})

    def upload(self, to: TrackedAs, name: str, content: bytes) -> None:
        """A file among a run's artefacts: through the server where it serves them, else to where they lie."""
        place = urlsplit(f"{to.artifacts}/{quote(name)}")
        if place.scheme == "mlflow-artifacts" and not place.netloc:
            self._put(f"{self.url}/api/2.0/mlflow-artifacts/artifacts{place.path}", content)
        elif place.scheme == "mlflow-artifacts":
            scheme = urlsplit(self.url).scheme
            self._put(f"{scheme}://{place.netloc}/api/2.0/mlflow-artifacts/artifacts{place.path}", content)
        elif place.scheme in ("http", "https"):
            self._put(place.geturl(), content)
        elif place.scheme in ("s3", "gs"):
            try:
                Folder.open(to.artifacts).write(name, content)
            except OSError as error:
                raise Unreachable(f"{to.artifacts}, where its artefacts lie, cannot be written ({error})") from error
        else:
            raise Refused(
                f"its artefacts lie in {to.artifacts}, which only its own machine can write; start it with --serve-artifacts"
            )

    def register(self, name: str, url: str, version_of: TrackedAs, tags: Mapping[str, str]) -> None:
        """A version of a registered model that lies at `url`, unless this run has made it before."""
        asked = {"filter": f"run_id = '{version_of.run_id}'"}
        for version in self._call("GET", "model-versions/search", asked).get("model_versions", []):
            there = {tag["key"]: tag["value"] for tag in version.get("tags", [])}
            if all(there.get(key) == value for key, value in tags.items()):
                return
        self._made_or_there("registered-models/create", {"name": name})
        # A path of a machine says nothing elsewhere, and MLflow takes none: the tag has it, and the run its card.
        source = f"runs:/{version_of.run_id}/model" if url.startswith("file:") else url
        made = {"name": name, "source": source, "run_id": version_of.run_id, "tags": _pairs(tags)}
        self._call("POST", "model-versions/create", made | {"description": f"The weights lie in {url}"}, tries=ONCE)

    def page(self, experiment: str, run_id: str) -> str:
        """Where people look at it."""
        return f"{self.url}/#/experiments/{experiment}/runs/{run_id}"

    def _made_or_there(self, path: str, asked: Mapping[str, Json]) -> None:
        """What has a name of its own is made, unless another run has made it."""
        try:
            self._call("POST", path, asked)
        except Refused as refused:
            if refused.code != THERE:
                raise

    def _call(self, method: str, path: str, asked: Mapping[str, Json], tries: int = TRIES) -> dict[str, Any]:
        url, body = f"{self.url}/api/2.0/mlflow/{path}", None
        if method == "GET":
            url = f"{url}?{urlencode(asked)}"
        else:
            body = json.dumps(asked).encode()
        answer = self._ask(urllib.request.Request(url, body, self._headers, method=method), TIMEOUT_SECONDS, tries)
        try:
            found = json.loads(answer)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise Refused(f"{self.url} answers, but not as MLflow does; write the address of its API, without #/…")
        return found

    def _put(self, url: str, content: bytes) -> None:
        self._ask(urllib.request.Request(url, content, self._headers | _BYTES, method="PUT"), UPLOAD_SECONDS)

    def _ask(self, request: urllib.request.Request, seconds: float, tries: int = TRIES) -> bytes:
        for number in range(tries):
            if number:
                time.sleep(PAUSE_SECONDS * 2 ** (number - 1))
            try:
                with self._open(request, timeout=seconds) as response:
                    return bytes(response.read())
            except urllib.error.HTTPError as error:
                with error:
                    if error.code not in AGAIN:
                        raise self._refused(error) from error
                    why = f"HTTP {error.code}"
            except (OSError, HTTPException) as error:
                why = str(getattr(error, "reason", error)) or type(error).__name__
        raise Unreachable(f"{self.url} does not answer ({why})")

    def _refused(self, error: urllib.error.HTTPError) -> Refused:
        if 300 <= error.code < 400:
            return Refused(f"{self.url} sends us on to {error.headers.get('Location')}; write that address")
        if error.code in (401, 403):
            return Refused(f"{self.url} refuses us (HTTP {error.code}); {MENDS.replace('ADDRESS', self.url)}")
        try:
            said = json.loads(error.read())
            return Refused(f"{self.url}: {said['message']}", said.get("error_code", ""))
        except (ValueError, KeyError, TypeError, OSError):
            return Refused(f"{self.url} answers HTTP {error.code}; is it the address of an MLflow server?")


_BYTES = {"Content-Type": "application/octet-stream"}


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """What is posted would be got from there, without its body."""

    def redirect_request(self, *_: Any) -> None:
        """None: whoever asks is told."""


def _authorization(environment: Mapping[str, str]) -> dict[str, str]:
    headers = {"Content-Type": "application/json"}
    if token := environment.get("MLFLOW_TRACKING_TOKEN"):
        return headers | {"Authorization": f"Bearer {token.strip()}"}
    if name := environment.get("MLFLOW_TRACKING_USERNAME"):
        pair = f"{name}:{environment.get('MLFLOW_TRACKING_PASSWORD', '')}"
        return headers | {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    return headers


def _tracked_as(run: dict[str, Any]) -> TrackedAs:
    info = run["info"]
    return TrackedAs(info["run_id"], info["artifact_uri"], info["status"])


def _pairs(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in values.items()]


def _slices(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _name(name: str) -> str:
    """A curve's name of characters that every version takes."""
    return re.sub(r"[^\w\-./ ]", "_", name)


def _milliseconds(at: float) -> int:
    return round(at * 1000)
