"""What is tracked of a run, from what lies in its folder; and what a server that does not take it is told as."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from published_run import published_run
from report_run import MadeRun

from selfalign_api.errors import ConfigError
from selfalign_api.life import Tracking
from selfalign_jobs.places.store import read_manifest, step_folder
from selfalign_jobs.tracking import follow as following
from selfalign_jobs.tracking import mlflow, tracked
from selfalign_jobs.tracking.follow import check, follow
from selfalign_jobs.tracking.mlflow import MLflow, Refused, TrackedAs, Unreachable
from selfalign_jobs.tracking.tracked import (
    MAX_NAME,
    MAX_VALUE,
    Tracked,
    parameters,
    published,
    tracked_run,
    tracked_step,
)

TAKEN = re.compile(r"[/\w.\- :]+")  # what MLflow takes as a name
JSON = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=700)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeRun:
    return published_run(tmp_path_factory.mktemp("run"))


def of_step(made: MadeRun, name: str) -> Tracked:
    manifest = read_manifest(step_folder(made.folder, made.plan.step(name).iteration, name))
    assert manifest is not None
    return tracked_step(made.folder, made.plan, name, manifest, {})


# --- pure ---------------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.text(max_size=300), JSON), max_size=12))
def test_every_value_has_a_name_of_its_own_that_mlflow_takes(values: list[tuple[str, Any]]) -> None:
    found = parameters(values)
    assert len(found) == len(values)
    for name, text in found.items():
        assert TAKEN.fullmatch(name)
        assert len(name) <= MAX_NAME
        assert name not in (".", "..")
        assert "/" not in name
        assert len(text) <= MAX_VALUE


def test_paths_are_names() -> None:
    values = [("generation.roles[judge].topP", 0.5), ("sources[0]", None), ("model.url", "hf://o/n"), ("a/b", True)]
    assert parameters(values) == {
        "generation.roles.judge.topP": "0.5",
        "sources.0": "null",
        "model.url": "hf://o/n",
        "a_b": "true",
    }


# --- from a run's folder ------------------------------------------------------------------------------------------------


def test_two_looks_at_the_same_folder_find_the_same(made: MadeRun) -> None:
    assert tracked_run(made.folder, made.plan).key == tracked_run(made.folder, made.plan).key
    for step in made.plan.steps:
        assert replace(of_step(made, step.name), artefacts=()) == replace(of_step(made, step.name), artefacts=())


def test_every_step_and_the_run_have_a_key_of_their_own(made: MadeRun, tmp_path: Path) -> None:
    other = MadeRun(made.folder, made.plan.model_copy(update={"name": "other"}))
    keys = [tracked_run(run.folder, run.plan).key for run in (made, other)]
    keys += [of_step(made, step.name).key for step in made.plan.steps]
    assert len(keys) == len(set(keys))


def test_a_training_has_its_curve_with_times_that_a_second_look_finds_too(made: MadeRun) -> None:
    found = of_step(made, "i1-train")
    losses = [point for point in found.points if point.name == "train/loss"]
    assert [point.step for point in losses] == list(range(1, len(losses) + 1))
    assert losses[-1].at == found.finished
    assert found.started is not None
    assert [point.at for point in losses] == sorted(point.at for point in losses)
    assert found.parameters["learning_rate"] == "0.0006"


def test_an_evaluation_has_figures_with_their_intervals(made: MadeRun) -> None:
    names = {point.name for point in of_step(made, "i2-evaluate").points}
    assert {"eval/win", "eval/win_low", "eval/win_high", "eval/accuracy.greedy.gain"} <= names
    assert {point.step for point in of_step(made, "i2-evaluate").points} == {2}
    assert {point.step for point in tracked_run(made.folder, made.plan).points} == {1, 2}


def test_the_tables_that_are_learned_from_are_artefacts_unless_they_are_large(
    made: MadeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {artefact.name.rsplit("/", 1)[0] for artefact in of_step(made, "i1-generate").artefacts} == {"tables/pairs"}
    monkeypatch.setattr(tracked, "LARGEST_TABLE", 10)
    assert of_step(made, "i1-generate").artefacts == ()


def test_the_model_that_is_published_is_named_with_its_digest(made: MadeRun) -> None:
    found = published(made.folder, made.plan)
    assert found is not None
    assert found.name == made.plan.name
    assert found.tags["selfalign.digest"] == made.plan.step_digest("i2-train")
    assert found.tags["selfalign.iteration"] == "2"


def test_a_run_that_is_not_done_has_no_end_and_no_model(made: MadeRun) -> None:
    later = made.plan.model_copy(
        update={"steps": (*made.plan.steps, made.plan.steps[0].model_copy(update={"name": "more"}))}
    )
    assert tracked_run(made.folder, later).finished is None
    without = made.plan.model_copy(update={"steps": made.plan.steps[:-1]})
    assert published(made.folder, without) is None
    assert tracked_run(made.folder, without).finished is not None


# --- servers that do not take it ------------------------------------------------------------------------------------------

Answer = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def answering(code: int, body: bytes, **headers: str) -> Iterator[tuple[str, list[str]]]:
    """A server that answers everything so; its address, and what it was asked."""
    asked: list[str] = []  # of each request: what it wants, and who asks

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(f"{self.command} {self.path} {self.headers.get('Authorization', '')}")
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(code)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PUT = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def words(said: str, code: str = "INTERNAL_ERROR") -> bytes:
    return json.dumps({"error_code": code, "message": said}).encode()


REFUSALS = [
    (401, b"", {}, r"refuses us \(HTTP 401\); give MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"),
    (403, words("no"), {}, r"refuses us \(HTTP 403\); give MLFLOW_TRACKING_USERNAME"),
    (404, b"<html>", {}, "answers HTTP 404; is it the address of an MLflow server"),
    (200, b"<html>a page to log in", {}, "answers, but not as MLflow does"),
    (200, b"[1]", {}, "answers, but not as MLflow does"),
    (302, b"", {"Location": "https://sso.example"}, "sends us on to https://sso.example; write that address"),
    (400, words("the name is too long"), {}, "the name is too long"),
    (500, b"", {}, r"does not answer \(HTTP 500\)"),
    (503, b"", {}, r"does not answer \(HTTP 503\)"),
]


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow, "PAUSE_SECONDS", 0.0)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize(("code", "body", "headers", "said"), REFUSALS)
def test_a_server_that_does_not_take_runs_is_told_and_refuses_the_run_only_if_it_is_required(
    made: MadeRun, code: int, body: bytes, headers: dict[str, str], said: str
) -> None:
    with answering(code, body, **headers) as (url, _):
        asked = Tracking(type="MLflow", url=url)
        told = check(asked)
        assert told is not None
        assert re.search(said, told)
        with pytest.raises(ConfigError, match=rf"spec\.tracking: .*{said}.*; mend that, or write required: false"):
            check(asked.model_copy(update={"required": True}))
        behind = follow(made.folder, made.plan, asked, {}).behind
        assert behind is not None
        assert re.search(said, behind)


@pytest.mark.usefixtures("hurried")
def test_a_server_that_nobody_runs_is_told() -> None:
    with answering(200, b"") as (url, _):
        pass
    assert "does not answer" in str(check(Tracking(type="MLflow", url=url)))


@pytest.mark.parametrize(
    ("environment", "header"),
    [
        ({}, ""),
        ({"MLFLOW_TRACKING_TOKEN": "secret\n"}, "Bearer secret"),
        (
            {"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": "wörd"},
            "Basic " + base64.b64encode("me:wörd".encode()).decode(),
        ),
    ],
)
def test_who_we_are_is_said_by_mlflows_own_variables(
    environment: dict[str, str], header: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with answering(200, b'{"experiment": {"experiment_id": "1"}}') as (url, asked):
        assert check(Tracking(type="MLflow", url=url)) is None
    assert [each.split(" ", 2)[2] for each in asked] == [header]


@pytest.mark.parametrize(
    ("artifacts", "path"),
    [
        ("mlflow-artifacts:/1/abc/artifacts", "/team/api/2.0/mlflow-artifacts/artifacts/1/abc/artifacts/a%20b/x.md"),
        ("mlflow-artifacts://HOST/1/abc", "/api/2.0/mlflow-artifacts/artifacts/1/abc/a%20b/x.md"),
        ("http://HOST/api/2.0/mlflow-artifacts/artifacts/1", "/api/2.0/mlflow-artifacts/artifacts/1/a%20b/x.md"),
    ],
)
def test_artefacts_go_through_the_server_that_serves_them(artifacts: str, path: str) -> None:
    with answering(200, b"{}") as (url, asked):
        host = url.removeprefix("http://")
        run = TrackedAs("abc", artifacts.replace("HOST", host), "RUNNING")
        MLflow(f"{url}/team/", {}).upload(run, "a b/x.md", b"text")
    assert asked == [f"PUT {path} "]


@pytest.mark.parametrize("artifacts", ["file:///mlruns/1", "/mlruns/1", "dbfs:/mlruns/1", "./mlruns"])
def test_artefacts_that_only_the_servers_machine_can_write_are_told(artifacts: str) -> None:
    with pytest.raises(Refused, match="which only its own machine can write; start it with --serve-artifacts"):
        MLflow("http://127.0.0.1:9", {}).upload(TrackedAs("1", artifacts, "RUNNING"), "x.md", b"text")


# --- patience -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("done", "failed", "stopped", "asked"),
    [(True, False, False, 3), (False, False, False, 1), (False, True, False, 3), (True, False, True, 1)],
)
def test_a_server_is_waited_for_only_once_nothing_follows_that_could_catch_up(
    made: MadeRun, monkeypatch: pytest.MonkeyPatch, done: bool, failed: bool, stopped: bool, asked: int
) -> None:
    answers = iter([Unreachable("down"), Unreachable("down"), "http://the/page"])
    times = 0

    def answer(*_: object, **__: object) -> str:
        nonlocal times
        times += 1
        if isinstance(found := next(answers), Unreachable):
            raise found
        return found

    monkeypatch.setattr(following, "_follow", answer)
    monkeypatch.setattr(following, "PAUSE_SECONDS", 0.0)
    more = made.plan.steps[0].model_copy(update={"name": "more"})
    plan = made.plan if done else made.plan.model_copy(update={"steps": (*made.plan.steps, more)})
    nobody = Tracking(type="MLflow", url="http://127.0.0.1:9")
    state = follow(made.folder, plan, nobody, {}, failed=failed, patience=600, stopped=lambda: stopped)
    assert times == asked
    assert (state.behind is None) == (asked == 3)
