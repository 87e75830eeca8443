"""What `kubectl selfalign` decides before it asks a cluster, and after: acts, waits, refusals, access."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_kubectl_shown import condition, view

from selfalign_api.errors import ConfigError
from selfalign_api.status import State, Status, StepStatus
from selfalign_kubectl import acting
from selfalign_kubectl.access import Where, open_cluster
from selfalign_kubectl.command import parser
from selfalign_kubectl.refusals import Call, Refused, Unreachable, in_words, no_such_run
from selfalign_kubectl.waiting import WANTED, seconds_of, verdict, wait_for, wanted_of
from selfalign_operator.kube.resources import POD, RUN
from selfalign_operator.views import RunView

NOW = datetime(2026, 11, 29, 10, 0, tzinfo=UTC)
ENDED = {"Complete": condition("Complete", "True", "AllStepsDone"), "Failed": condition("Failed", "True", "X", "why")}


def of_state(state: State, **spec: Any) -> RunView:
    conditions = (ENDED[state],) if state in ENDED else ()
    if state == "Suspended":
        conditions = (condition("Suspended", "True", "SpecSuspended"),)
    return view(Status(state=state, conditions=conditions), **spec)


@pytest.mark.parametrize("state", get_args(State))
def test_only_what_has_stopped_is_tried_again(state: State) -> None:
    run = of_state(state)
    if state in ("Failed", "Held"):
        act = acting.retry(run, NOW)
        assert act.patch == {"metadata": {"annotations": {"selfalign.dev/retry": "2026-11-29T10:00:00Z"}}}
    else:
        with pytest.raises(ConfigError, match="only a run that is Failed or Held"):
            acting.retry(run, NOW)


@pytest.mark.parametrize("state", get_args(State))
def test_a_run_that_has_ended_is_neither_suspended_nor_resumed(state: State) -> None:
    for act, spec in ((acting.suspend, {}), (acting.resume, {"suspend": True})):
        if state in ENDED:
            with pytest.raises(ConfigError, match="has ended"):
                act(of_state(state, **spec))
        else:
            assert act(of_state(state, **spec)).patch == {"spec": {"suspend": not spec}}


def test_a_run_that_is_held_before_a_step_proceeds_and_is_not_tried_again() -> None:
    steps = (StepStatus(name="accept", kind="accept", state="Succeeded"), StepStatus(name="i1-train", kind="train"))
    held = view(Status(state="Held", steps=steps, conditions=(condition("Progressing", "False", "HeldBefore"),)))
    assert acting.proceed(held).patch == {"metadata": {"annotations": {"selfalign.dev/proceed": "i1-train"}}}
    with pytest.raises(ConfigError, match="kubectl selfalign proceed"):
        acting.retry(held, NOW)
    with pytest.raises(ConfigError, match="held before no step"):
        acting.proceed(of_state("Running"))


def test_what_is_so_already_is_written_no_second_time() -> None:
    assert acting.suspend(of_state("Suspended", suspend=True)).patch is None
    assert acting.resume(of_state("Running")).patch is None


@pytest.mark.parametrize(
    ("state", "wanted", "answer"),
    [
        ("Complete", "complete", "yes"), ("Failed", "complete", "never"), ("Held", "complete", "never"),
        ("Waiting", "complete", "no"), ("Complete", "failed", "never"), ("Failed", "failed", "yes"), ("Failed", "ended", "yes"),
        ("Held", "failed", "no"), ("Suspended", "suspended", "yes"), ("Complete", "suspended", "never"),
        ("Running", "running", "yes"),
        ("Queued", "running", "no"), ("Pending", "accepted", "no"), ("Failed", "step=i1-train", "never"),
    ],
)  # fmt: skip
def test_what_is_waited_for_is_so_or_can_come_or_cannot(state: State, wanted: str, answer: str) -> None:
    assert verdict(of_state(state).status, wanted).answer == answer


def test_a_step_is_waited_for_by_its_name_once_the_plan_is_known() -> None:
    accept = StepStatus(name="accept", kind="accept", state="Succeeded")
    train = StepStatus(name="i1-train", kind="train", state="Reused")
    assert verdict(Status(steps=(accept,)), "step=i1-train").answer == "no"
    assert verdict(Status(steps=(accept, train)), "step=i1-train").answer == "yes"
    with pytest.raises(ConfigError, match="there are accept, i1-train"):
        verdict(Status(steps=(accept, train)), "step=i2-train")


def test_a_step_that_the_run_has_left_out_never_comes() -> None:
    left_out = StepStatus(
        name="i4-train", kind="train", state="Skipped", message="the loop has ended after iteration 3"
    )
    found = verdict(Status(steps=(left_out,)), "step=i4-train")
    assert (found.answer, found.words) == ("never", "has left i4-train out: the loop has ended after iteration 3")


def test_a_wait_outlasts_an_apiserver_that_does_not_answer() -> None:
    answers: list[Any] = [Unreachable("down"), of_state("Running"), Unreachable("down"), of_state("Complete")]

    def look() -> RunView:
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found  # type: ignore[no-any-return]

    assert wait_for(look, "complete", None, sleep=lambda _: None).answer == "yes"
    assert answers == []


def test_a_wait_ends_in_its_time_with_why_it_waits() -> None:
    times = iter([0.0, 1.0, 3.5, 4.0, 9.0])
    slept: list[float] = []
    run = view(Status(state="Waiting", conditions=(condition("Progressing", "False", "Unschedulable", "no GPU"),)))
    found = wait_for(lambda: run, "complete", 4.0, clock=lambda: next(times), sleep=slept.append)
    assert (found.answer, found.words) == ("no", "Unschedulable: no GPU")
    assert sum(slept) <= 4.0


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("1h30m", 5400), ("2d", 172_800), ("0", None), ("0s", None)]
)
def test_a_timeout_is_read_as_kubectl_has_it(text: str, seconds: float | None) -> None:
    assert seconds_of(text) == seconds


@given(st.text(max_size=8).filter(lambda text: not text.strip("0123456789smhd")))
def test_no_timeout_is_read_as_another_one_than_it_says(text: str) -> None:
    try:
        seconds = seconds_of(text)
    except ConfigError:
        return
    assert (seconds is None) == (text in ("0", "0s"))
    assert text == "0" or text[-1] in "smhd"


def test_what_to_wait_for_is_also_kubectl_s_word() -> None:
    assert wanted_of("condition=Complete") == "complete"
    assert wanted_of("step=i1-train") == "step=i1-train"
    for wrong in ("step=", "done", "condition="):
        with pytest.raises(ConfigError, match=", ".join(WANTED)):
            wanted_of(wrong)


def refusal(call: Call, code: int, message: str, **status: Any) -> str:
    body = json.dumps({"message": message} | status).encode()
    return str(in_words(Refused.of(call, code, body)))


FORBIDDEN = 'pods is forbidden: User "{}" cannot {}'


@pytest.mark.parametrize(
    ("call", "user", "given"),
    [
        (Call("list", RUN, "x"), "jane", "kubectl create role selfalign-list-selfalignmentruns --verb=list "
         "--resource=selfalignmentruns.selfalign.dev -n x && kubectl create rolebinding selfalign-list-selfalignmentruns "
         "--role=selfalign-list-selfalignmentruns --user=jane -n x"),
        (Call("list", RUN, None), "jane", "kubectl create clusterrole selfalign-list-selfalignmentruns --verb=list"),
        (Call("get", POD, "x", "p", "log"), "jane", "--verb=get --resource=pods/log -n x"),
        (Call("create", POD, "x"), "system:serviceaccount:ci:bot", "--serviceaccount=ci:bot -n x"),
        (Call("delete", POD, "x", "p"), "a b", "--verb=delete --resource=pods -n x"),
    ],
)  # fmt: skip
def test_a_missing_right_is_told_with_what_gives_it(call: Call, user: str, given: str) -> None:
    said = refusal(call, 403, FORBIDDEN.format(user, call.verb))
    assert f"{user} may not {call}" in said
    assert given in said


@pytest.mark.parametrize(
    ("call", "code", "body", "words"),
    [
        (Call("list", RUN, "x"), 404, b"404 page not found\n", "install the chart"),
        (Call("get", RUN, "x", "a"), 401, b"{}", "log in again"),
        (Call("create", POD, "x"), 403, b'{"message": "exceeded quota: q"}', "exceeded quota: q"),
        (Call("patch", RUN, "x", "a"), 409, b'{"message": "conflict with kubectl", "reason": "Conflict"}', "--force-conflicts"),
        (Call("get", POD, "x", "a"), 502, b"<html>Bad Gateway", "<html>Bad Gateway"),
        (Call("get", POD, "x", "a"), 500, b"", "the answer is 500"),
    ],
)  # fmt: skip
def test_what_an_apiserver_refuses_is_told_in_words(call: Call, code: int, body: bytes, words: str) -> None:
    assert words in str(in_words(Refused.of(call, code, body)))


@pytest.mark.parametrize(
    ("there", "words"),
    [
        (["my-run", "other"], "did you mean my-run?"),
        (["xxxx"], "there are xxxx"),
        ([], "see `kubectl selfalign list -A`"),
    ],
)
def test_a_run_that_is_not_there_is_told_with_those_that_are(there: list[str], words: str) -> None:
    assert words in str(no_such_run("my-rnu", "team", there))


KUBECONFIG = {
    "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
    "users": [{"name": "u", "user": {"token": "t"}}],
    "contexts": [{"name": "a", "context": {"cluster": "c", "user": "u", "namespace": "team"}},
                 {"name": "b", "context": {"cluster": "c", "user": "u"}}],
    "current-context": "a",
}  # fmt: skip


@pytest.fixture
def kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    file = tmp_path / "kubeconfig"
    file.write_text(json.dumps(KUBECONFIG))
    return file


@pytest.mark.parametrize(
    ("context", "namespace", "meant"), [(None, None, "team"), ("b", None, "default"), ("a", "mine", "mine")]
)
def test_the_namespace_is_the_option_s_else_the_context_s(
    kubeconfig: Path, context: str | None, namespace: str | None, meant: str
) -> None:
    assert open_cluster(Where(str(kubeconfig), context, namespace)).namespace == meant


def test_the_kubeconfig_is_the_option_s_else_the_environment_s(
    kubeconfig: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", f"/nowhere:{kubeconfig}")
    assert open_cluster(Where()).namespace == "team"


@pytest.mark.parametrize(
    ("content", "where", "words"),
    [
        (None, Where(), "set KUBECONFIG=FILE, or give --kubeconfig FILE"),
        ("", Where("FILE"), "names no cluster"),
        ("[", Where("FILE"), "names no cluster"),
        ("{}", Where("FILE"), "names no cluster"),
        ("clusters: [1]", Where("FILE"), "names no cluster"),
        (json.dumps(KUBECONFIG | {"current-context": "x"}), Where("FILE"), "names no cluster"),
        (json.dumps(KUBECONFIG | {"clusters": []}), Where("FILE"), "names no cluster"),
        (json.dumps(KUBECONFIG), Where("FILE", "c"), "there are a, b"),
    ],
)
def test_no_cluster_is_told_with_what_to_set(kubeconfig: Path, content: str | None, where: Where, words: str) -> None:
    if content is not None:
        kubeconfig.write_text(content)
        where = Where(str(kubeconfig), where.context)
    with pytest.raises(ConfigError) as error:
        open_cluster(where)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["re"], ["report", "resume", "retry"]),
        (["logs", "x", "--fol"], ["--follow"]),
        (["pairs", "x", "-o", ""], ["json", "text"]),
        (["list", "--context", ""], ["a", "b"]),
        (["status", "x"], []),  # names of a cluster that does not answer
    ],
)
def test_kubectl_completes_what_may_stand_there(kubeconfig: Path, words: list[str], found: list[str]) -> None:
    program = "from selfalign_kubectl.command import complete; complete()"
    answer = subprocess.run(
        [sys.executable, "-c", program, *words],
        env=os.environ | {"KUBECONFIG": str(kubeconfig)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert answer.stdout.splitlines() == [*found, ":4"]


@pytest.mark.parametrize(
    ("given", "rows", "namespace"),
    [
        (["-n", "5"], 5, None),
        (["-n", "research"], 20, "research"),
        (["-n", "team", "-n", "7"], 7, "team"),
        (["--number=3", "--namespace=42"], 3, "42"),
        ([], 20, None),
    ],
)
def test_pairs_takes_both_numbers_and_kubectl_s_namespace_by_n(
    given: list[str], rows: int, namespace: str | None
) -> None:
    options = parser().parse_args(["pairs", "x", *given])
    assert (options.rows, options.namespace) == (rows, namespace)


def test_selfalign_cluster_is_the_plugin_and_loads_it_only_when_asked(kubeconfig: Path) -> None:
    program = (
        "import sys; from selfalign_jobs.local.cli import main, parser; parser(); "
        "assert 'selfalign_kubectl.command' not in sys.modules; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, "cluster", "list", "--kubeconfig", str(kubeconfig), "-n", "x"]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("https://127.0.0.1:1 does not answer (")
