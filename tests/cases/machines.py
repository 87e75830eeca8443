"""Machines and habits as they are: environments, places, pipes, the form of the run file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from cases.case import PEOPLE, Case, Room, base, with_spec

OK = ("would run here",)
PLACES = ("a folder", "für run", "c#", "100%", "%41", "q?x", "[x]", "a'b", "${HOME}", "日本")
ODD = "für #1 100% 'new'"
PLAIN = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def _in(folder: str) -> Callable[[Room], Path]:
    """A run file in this folder, with its personas beside it."""

    def write(room: Room) -> Path:
        room.data(f"{folder}/personas.txt", "\n".join(PEOPLE) + "\n")
        return room.run({"data.personas": {"url": "./personas.txt", "count": 48}}, f"{folder}/run.yaml")

    return write


def _text(change: Callable[[str], str | bytes], name: str = "run.yaml") -> Callable[[Room], Path]:
    """The base's own text, changed."""

    def write(room: Room) -> Path:
        room.data(name, change(yaml.safe_dump(base())))
        return room.folder / name

    return write


def _parent(room: Room) -> Path:
    room.data("personas.txt", "\n".join(PEOPLE) + "\n")
    return room.run({"data.personas": {"url": "../personas.txt", "count": 48}}, "runs/run.yaml")


def _documents(*entries: Callable[[dict[str, Any]], Any]) -> Callable[[Room], Path]:
    """A file of several documents, each made of the base."""
    return lambda room: room.text(yaml.safe_dump_all([entry(base()) for entry in entries]))


def _shown(run: dict[str, Any]) -> dict[str, Any]:
    """A run as `kubectl get -o yaml` prints it."""
    added = {"uid": "3c9d", "resourceVersion": "812", "generation": 2, "creationTimestamp": "2026-11-24T10:00:00Z"}
    applied = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps(run)}
    metadata = run["metadata"] | added | {"managedFields": [{"manager": "kubectl"}], "annotations": applied}
    return run | {"metadata": metadata, "status": {"state": "Running", "steps": [{"name": "accept"}]}}


def _claim(run: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}}


def _list(*entries: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda run: {"apiVersion": "v1", "kind": "List", "items": [entry(run) for entry in entries]}


def _with_file(name: str, content: str) -> Callable[[Room], Path]:
    """A run whose folder holds a file already."""

    def write(room: Room) -> Path:
        room.data(f"out/default/base/{name}", content)
        return room.run()

    return write


def _everywhere(room: Room) -> Path:
    """Run file, model, personas, storage and output in one folder of an odd name, where modules of the user's lie too."""
    for module in ("random.py", "datasets.py", "torch/__init__.py"):
        room.data(f"{ODD}/{module}", "raise SystemExit('a file of the user was imported')\n")
    room.data(f"{ODD}/personas.txt", "\n".join(PEOPLE) + "\n")
    room.model({}, f"{ODD}/the model")
    return room.run(
        {
            "data.personas": {"url": "./personas.txt", "count": 48},
            "model.url": "./the model",
            "output": {"url": "./made/100% new", "datasetUrl": "./made/pairs"},
        },
        f"{ODD}/run.yaml",
    )


def _published(room: Room) -> Iterator[str]:
    for name in ("100% new/model.safetensors", "pairs/selfalign.json"):
        if not (room.folder / ODD / "made" / name).exists():
            yield f"{name} was not published"


def _stopped_by(signal: str) -> str:
    """Ended while it still imports, which is seen by what it has mapped: by our own words, never by Python's."""
    return (
        "selfalign validate {run} & until grep -q pyarrow /proc/$!/maps 2>/dev/null || ! kill -0 $!; do sleep 0.01; done; "
        f"kill -{signal} $!; wait $!; case $? in 75|0) true;; *) false;; esac"
    )


CASES = [
    Case("help", with_spec({}), command="selfalign --help", says=("validate", "report")),
    *[Case(f"a place called {name}", _in(name), says=OK, reads={"personas": {"persona": PEOPLE}}) for name in PLACES],
    Case("a place above the run file", _parent, says=OK, reads={"personas": {"persona": PEOPLE}}),
    Case("a run file with a byte order mark", _text(lambda text: "\ufeff" + text), says=OK),
    Case("a run file of Windows", _text(lambda text: text.replace("\n", "\r\n")), says=OK),
    Case("a run file of JSON", _text(lambda text: json.dumps(base()), "run.json"), says=OK),
    Case("a run file in UTF-16", _text(lambda text: text.encode("utf-16")), code=64, says=("UTF-8",)),
    Case("a run file with tabs", _text(lambda text: text.replace("  ", "\t", 3)), code=64, says=("run.yaml:4:1", "not valid YAML")),
    Case("an override beyond unwritten iterations",
         with_spec({"training.iterationOverrides": [{"fromIteration": 3, "learningRate": 1e-5}]}), code=64,
         says=("iterationOverrides", "iterations")),
    Case("a run file as kubectl prints it", _documents(_shown), says=OK),
    Case("a list of one run", _documents(_list(_shown)), says=OK),
    Case("a run among other documents", _documents(_claim, lambda run: run, _claim), says=OK),
    Case("two runs in a file", _documents(lambda run: run, lambda run: run), code=64,
         says=("holds 2 runs (base, base); write each into a file of its own",)),
    Case("a list of two runs", _documents(_list(_shown, _shown)), code=64, says=("holds 2 runs",)),
    Case("a file of other kinds", _documents(_claim, _claim), code=64, says=("and no SelfAlignmentRun",)),
    *[Case(f"an owner.json that is {words}", _with_file("owner.json", content), command="selfalign run {run} --out {out}",
           code=64, says=("owner.json: is", "put it back from a copy"))
      for words, content in (("empty", ""), ("half", '{"digest": "sha2'), ("a list", "[]"), ("another's", '{"a": 1}'))],
    Case("a plan.json that is half", _with_file("plan.json", '{"name": "ba'), command="selfalign report {out}/default/base",
         code=64, says=("plan.json: is", "writes it again")),
    Case("a run file from a pipe", with_spec({}), command="cat {run} | selfalign validate /dev/stdin", says=OK),
    Case("no run file", lambda room: room.folder / "none.yaml", code=64, says=("there is no such file",)),
    Case("a folder for a run file", lambda room: room.folder, code=64, says=("this is a folder",)),
    Case("output in ASCII", with_spec({}), command="selfalign plan {run}", environment={"PYTHONIOENCODING": "ascii"}),
    Case("a name that ASCII lacks", _in("für run"), environment={"PYTHONIOENCODING": "ascii"}, says=OK),
    Case("a C locale", _in("für run"), environment=PLAIN, says=OK),
    Case(
        "an error that ASCII lacks",
        with_spec({"model.url": "pvc://selfalign/für"}),
        code=64,
        environment={"PYTHONIOENCODING": "ascii"},
        says=("spec.model.url",),
    ),
    Case("a pipe to head", with_spec({}), command="selfalign plan --json {run} | head -1", says=("{",)),
    Case("a pipe that nobody reads", with_spec({}), command="selfalign plan --json {run} | true"),
    Case("closed output", with_spec({}), command="selfalign validate {run} >&-"),
    Case("closed errors", with_spec({"trainning": {}}), command="selfalign validate {run} 2>&-", code=64),
    Case("output on a full disk", with_spec({}), command="selfalign plan --json {run} > /dev/full", code=75),
    Case("a narrow terminal", with_spec({}), command="selfalign plan {run}", environment={"COLUMNS": "20"}),
    Case("a terminal without colours", with_spec({}), command="selfalign plan {run}", environment={"TERM": "dumb"}),
    Case("no home", with_spec({}), command="env -u HOME selfalign validate {run}", says=OK),
    Case("a home that cannot be written", with_spec({}), environment={"HOME": "/proc/nobody"}, says=OK),
    Case("a TMPDIR that is not there", with_spec({}), environment={"TMPDIR": "/nonexistent"}, says=OK),
    Case("a proxy in the environment", with_spec({}), environment={"http_proxy": "http://127.0.0.1:9"}, says=OK),
    Case("Ctrl-C while it starts", with_spec({}), command=_stopped_by("INT")),
    Case("SIGTERM while it starts", with_spec({}), command=_stopped_by("TERM")),
    Case("no command", with_spec({}), command="selfalign", code=2, says=("usage",)),
    Case("a mount without a claim", with_spec({}), environment={"SELFALIGN_MOUNTS": "examples"}, code=64,
         says=("write CLAIM=DIR",)),
    Case("a mount that is no folder", with_spec({}), environment={"SELFALIGN_MOUNTS": "selfalign=/nowhere"}, code=64,
         says=("SELFALIGN_MOUNTS", "make /nowhere or write another")),
    Case("a report of nothing", with_spec({}), command="selfalign report {room}/nowhere", code=64, says=("plan.json",)),
    Case("out is a file", lambda room: (room.data("out", "x"), room.run())[1],
         command="selfalign run {run} --out {out}", code=64, says=("cannot be written",)),
    Case("a module of the user's in the current folder", _everywhere, command="cd {room}/* && selfalign validate {run}",
         says=OK),
    Case(
        "a run behind a proxy, in a folder of an odd name, among modules of the user's",
        _everywhere,
        command="cd {room}/* && selfalign run {run} --out ./'the runs'",
        environment=dict.fromkeys(("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"), "http://127.0.0.1:9"),
        says=("i1-train: train", "i1-train: done", "publish: done"),
        holds=_published,
        engine=True,
    ),
]  # fmt: skip
