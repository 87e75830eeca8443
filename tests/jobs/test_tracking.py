"""Runs on a real MLflow server: what it shows, and that nothing is there twice, whoever was killed and whenever it was down."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from published_run import context_of, published_run
from report_run import MadeRun
from shown_by_mlflow import Shown

from selfalign_api.life import Tracking
from selfalign_api.plan import Train
from selfalign_jobs import entry
from selfalign_jobs.places.store import SUMMARY, read_manifest, read_parts, step_folder
from selfalign_jobs.tracking import follow as tracking
from selfalign_jobs.tracking import mlflow
from selfalign_jobs.tracking.follow import follow, state_of
from testbed.mlflow import TrackingServer, serve

pytestmark = [pytest.mark.heavy]
STEPS = ["i1-evaluate", "i1-generate", "i1-train", "i2-evaluate", "i2-generate", "i2-train", "publish"]
Make = Callable[[], MadeRun]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrackingServer]:
    with serve(tmp_path_factory.mktemp("mlflow")) as running:
        yield running


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeRun:
    return published_run(tmp_path_factory.mktemp("run"))


def to(server: TrackingServer, experiment: str) -> Tracking:
    return Tracking(type="MLflow", url=server.url, experiment=experiment)


def track(made: MadeRun, tracking: Tracking) -> None:
    assert follow(made.folder, made.plan, tracking, {}).behind is None


def logged(made: MadeRun, name: str, column: str) -> list[tuple[int, float]]:
    step = made.plan.step(name)
    folder = step_folder(made.folder, step.iteration, name)
    manifest = read_manifest(folder)
    assert manifest is not None
    return [(row["step"], row[column]) for row in read_parts(folder, manifest.tables["log"]).to_pylist()]


def is_whole(made: MadeRun, shown: Shown) -> None:
    """One tracked run, one below it a step, and every point of every curve once."""
    assert sorted(name for name in shown.runs if name != made.plan.name) == STEPS
    parent = shown.id_of(made.plan.name)
    for name in STEPS:
        assert shown.described(name, "tags")["mlflow.parentRunId"] == parent
        assert shown.run(name)["info"]["status"] == "FINISHED"
    assert shown.run(made.plan.name)["info"]["status"] == "FINISHED"
    for step in made.plan.steps:
        if isinstance(step, Train):
            for curve, column in (("train/loss", "loss"), ("train/rewards/accuracies", "accuracy")):
                assert shown.curve(step.name, curve) == logged(made, step.name, column)
    for name in ("eval/win", "eval/win_low", "eval/accuracy.greedy.gain_high"):
        assert [step for step, _ in shown.curve(made.plan.name, name)] == [1, 2]
    assert len(shown.versions(made.plan.name)) == 1


def test_a_run_is_one_tracked_run_with_its_steps_below(made: MadeRun, server: TrackingServer) -> None:
    track(made, to(server, "whole"))
    is_whole(made, shown := Shown(server, "whole"))
    parameters = shown.described(made.plan.name, "params")
    assert (parameters["recipe"], parameters["training.loss.beta"]) == ("sao", "2")
    assert shown.described("i1-train", "params")["loss.type"] == "simpo"
    assert shown.artefacts(made.plan.name) == {"report.html", "summary.json"}
    assert shown.artefacts("i1-train") == {"model/README.md"}
    assert {"model/README.md", "dataset/README.md"} <= shown.artefacts("publish")
    assert all(name.startswith("tables/pairs/") for name in shown.artefacts("i1-generate"))
    (version,) = shown.versions(made.plan.name)
    tags = {tag["key"]: tag["value"] for tag in version["tags"]}
    assert version["name"] == made.plan.name
    assert tags["selfalign.digest"] == made.plan.step_digest("i2-train")
    assert tags["selfalign.url"].endswith("/published/model")


def test_tracked_again_nothing_is_there_twice(made: MadeRun, server: TrackingServer) -> None:
    track(made, to(server, "again"))
    first = Shown(server, "again")
    track(made, to(server, "again"))
    is_whole(made, second := Shown(server, "again"))
    assert {name: first.id_of(name) for name in first.runs} == {name: second.id_of(name) for name in second.runs}


def test_killed_at_any_request_it_ends_as_if_nothing_had_been(made: MadeRun, server: TrackingServer) -> None:
    """SIGKILL at the 4th request, then some further on: in the middle of making runs, of points, of artefacts, of the model."""
    probe, experiment, ids = Path(__file__).with_name("track_probe.py"), "killed", set[str]()
    for requests in (4, 7, 12, 19, 40):
        command = [sys.executable, str(probe), f"file://{made.folder.path}", server.url, experiment]
        program = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert program.stdout is not None
        for _ in range(requests):
            if not program.stdout.readline():
                break
        program.kill()
        program.wait()
        ids |= {run["info"]["run_id"] for run in Shown(server, experiment).runs.get(made.plan.name, [])}
    track(made, to(server, experiment))
    is_whole(made, shown := Shown(server, experiment))
    assert ids == {shown.id_of(made.plan.name)}


def test_a_server_that_is_down_is_told_and_caught_up_with(
    made: MadeRun, server: TrackingServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tracking, "PATIENCE_SECONDS", 0.0)
    asked = to(server, "down")
    server.process.stop()
    summary = entry.run_step(context_of(made, made.plan, "i2-evaluate"), asked)  # which is done, and then tracked
    assert f"{server.url} does not answer" in summary["result"]["notes"][0]
    assert "tracking is behind: " in capfd.readouterr().err
    told = json.loads(made.folder.read(SUMMARY))["tracking"]
    assert "does not answer" in told["behind"]
    server.process.restart()
    summary = entry.run_step(context_of(made, made.plan, "publish"), asked)
    assert "notes" not in summary["result"]
    is_whole(made, shown := Shown(server, "down"))
    told, state = json.loads(made.folder.read(SUMMARY))["tracking"], state_of(made.folder)
    assert state is not None
    assert (told["behind"], told["page"]) == (None, state.page)
    assert str(told["page"]).endswith(shown.id_of(made.plan.name))


@contextmanager
def losing_answers(server: TrackingServer, *calls: str) -> Iterator[str]:
    """The address of one who passes requests on, and loses the first answer to each of these calls: it was done."""
    lost: set[str] = set()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked = urllib.request.Request(
                server.url + self.path, body or None, dict(self.headers.items()), method=self.command
            )
            try:
                with urllib.request.urlopen(asked) as answer:
                    status, content = answer.status, answer.read()
            except urllib.error.HTTPError as refused:
                status, content = refused.code, refused.read()
            if (call := self.path.rpartition("mlflow/")[2]) in {*calls} - lost:
                lost.add(call)
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_PUT = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    between = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=between.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{between.server_port}"
    between.shutdown()
    between.server_close()
    thread.join()
    assert lost == {*calls}


def test_what_was_made_while_its_answer_was_lost_is_not_made_again(
    made: MadeRun, server: TrackingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow, "PAUSE_SECONDS", 0.0)
    calls = ("experiments/create", "runs/create", "runs/log-batch", "runs/update", "model-versions/create")
    with losing_answers(server, *calls) as url:
        asked = Tracking(type="MLflow", url=url, experiment="lost")
        said = [follow(made.folder, made.plan, asked, {}).behind for _ in range(3)]
    assert all(words is not None and "does not answer" in words for words in said[:2])  # for a run, and for the model
    assert said[2] is None
    is_whole(made, Shown(server, "lost"))


@pytest.mark.parametrize(
    "url", ["s3://b/model", "gs://b/model", "pvc://claim/model", "hf://org/model", "file:///model"]
)
def test_a_model_is_a_version_whose_source_is_where_it_lies(url: str, server: TrackingServer) -> None:
    client = mlflow.MLflow(server.url, {})
    run = client.create(client.experiment("models"), url, url, {}, 1.0)
    for _ in range(2):
        client.register("a-model", url, run, {"selfalign.url": url})
    (version,) = Shown(server, "models").versions(url)
    assert version["source"] == (f"runs:/{run.run_id}/model" if url.startswith("file:") else url)


def test_an_experiment_that_was_deleted_is_told(made: MadeRun, server: TrackingServer) -> None:
    asked = to(server, "deleted")
    track(made, asked)
    shown = Shown(server, "deleted")
    shown.post("experiments/delete", experiment_id=shown.run(made.plan.name)["info"]["experiment_id"])
    behind = follow(made.folder, made.plan, asked, {}).behind
    assert behind is not None
    assert "the experiment deleted was deleted there" in behind


def test_a_step_that_fails_for_good_ends_the_tracked_run(made: MadeRun, server: TrackingServer) -> None:
    follow(made.folder, made.plan, to(server, "failed"), {}, failed=True)
    assert Shown(server, "failed").run(made.plan.name)["info"]["status"] == "FAILED"
