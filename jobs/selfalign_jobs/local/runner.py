"""The local runner: the plan's steps one after another, each in a process of its own, as pods would run them.

It knows steps, attempts and exit codes, and nothing of recipes. Killed at any line and started again, it finds what is
done by the manifests, and each step goes on from what is durable.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from selfalign_api.errors import ConfigError, Problem
from selfalign_api.life import FailurePolicy, Tracking
from selfalign_api.outcome import Exit
from selfalign_api.plan import Plan
from selfalign_api.run_file import RunFile, StepConfig
from selfalign_jobs.places.store import Folder, Manifest, read_manifest, step_folder
from selfalign_jobs.publish.rounds import rounds_of
from selfalign_jobs.recipes.base import Step
from selfalign_jobs.step.reuse import done_before
from selfalign_jobs.step.words import ended_by, plain_lines
from selfalign_jobs.surroundings import take_stops

RUN_FILE = "run.json"
POLL_SECONDS = 0.3
GRACE_SECONDS = 120  # between SIGTERM and SIGKILL, as for a training pod
ROOM_BYTES = 64 << 10  # less is a full disk: a step could not even say so
TAIL_LINES = 20  # of the log of a step that could say nothing

DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # this machine is asked through no proxy


class StepFailed(Exception):
    """A step failed after all its tries; its message says what happened and where its log is."""


class RunStopped(Exception):
    """Somebody asked to stop; the same command goes on."""


class RunHeld(Exception):
    """The run waits before a step until a person lets it begin (spec.holdBefore)."""

    def __init__(self, step: str) -> None:
        super().__init__(step)
        self.step = step


class Watcher(Protocol):
    """Who is told what happens: the live panel, or plain lines."""

    def found(self, step: Step, manifest: Manifest) -> None:
        """The step was done before, here or in another run."""

    def started(self, step: Step, attempt: int) -> None:
        """An attempt began."""

    def progress(self, step: Step, snapshot: Mapping[str, Any]) -> None:
        """The step's `/progress`."""

    def finished(self, step: Step, manifest: Manifest) -> None:
        """The step is done."""

    def retried(self, step: Step, reason: str, wait: float) -> None:
        """An attempt failed and another follows after `wait` seconds."""

    def left_out(self, step: Step) -> None:
        """The loop has ended before the step (evaluation.stopAfterWorse)."""


@dataclass
class LocalRun:
    """A run on this machine that was accepted; `work` is where its file and its attempts' logs lie."""

    plan: Plan
    file: RunFile
    work: Path
    policy: FailurePolicy
    watcher: Watcher
    hold_before: str | None = None  # kind of the steps that wait for a person,
    proceed: str | None = None  # but for the one of this name
    tracking: Tracking | None = None  # where each step shows the run when it has ended
    program: Sequence[str] = (sys.executable, "-m", "selfalign_jobs")
    _stop: bool = field(default=False, init=False)

    def run(self) -> bool:
        """All steps in order; whether any was not done before.

        Raises ConfigError (64), RunStopped and RunHeld (75), StepFailed (1).
        """
        worked = False
        previous = take_stops(self._on_signal)
        try:
            run = Folder.open(self.file.storage)
            (self.work / RUN_FILE).write_bytes(self.file.model_dump_json(indent=1).encode())
            rounds = rounds_of(run, self.plan)
            for step in self.plan.steps:
                if rounds is not None and rounds.leave_out(step):
                    self.watcher.left_out(step)
                    continue
                if manifest := done_before(StepConfig.of(self.file, self.plan, step.name, attempt=1)):
                    self.watcher.found(step, manifest)
                else:
                    self._do(step, step_folder(run, step.iteration, step.name))
                    worked = True
                if step.kind == "evaluate":
                    rounds = rounds_of(run, self.plan)
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
        return worked

    def _do(self, step: Step, folder: Folder) -> None:
        """A step that was not done before, to its manifest."""
        if self._stop:
            raise RunStopped("stopped between two steps")
        if step.kind == self.hold_before and step.name != self.proceed and not self._attempts(step).exists():
            raise RunHeld(step.name)
        self._run_step(step)
        manifest = read_manifest(folder)
        if manifest is None:
            raise StepFailed(f"{step.name} ended well but wrote no manifest in {folder.place}")
        self.watcher.finished(step, manifest)

    def _on_signal(self, *_: object) -> None:
        self._stop = True

    def _run_step(self, step: Step) -> None:
        """Attempts until one succeeds or the retries are used up; backoff doubles."""
        failures = 0
        while True:
            code, message, log = self._attempt(step)
            if code == Exit.DONE:
                return
            if code == Exit.CONFIG:
                raise ConfigError([Problem(step.name, None, message)])
            if code == Exit.STOPPED or self._stop:
                raise RunStopped(message)
            failures += 1
            if failures > self.policy.max_retries_per_step:
                raise StepFailed(f"{step.name} failed {failures} times, last: {message}\nits log: {log}")
            wait = min(self.policy.backoff_seconds * 2 ** (failures - 1), self.policy.max_backoff_seconds)
            self.watcher.retried(step, f"{message} (log: {log})", wait)
            self._wait(wait)

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self._stop and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        if self._stop:
            raise RunStopped("stopped between two tries")

    def _attempt(self, step: Step) -> tuple[int, str, Path]:
        """One process: its exit code, what it says, its log."""
        folder = self._new_attempt(step)
        address, message, log = folder / "address", folder / "termination.json", folder / "log.txt"
        self.watcher.started(step, int(folder.name))
        with log.open("wb") as output:
            process = subprocess.Popen(
                [
                    *(*self.program, str(self.work / RUN_FILE), "--step", step.name, "--attempt", folder.name),
                    *("--address-file", str(address), "--termination-message", str(message), "--with-parent"),
                    *(() if self.tracking is None else ("--tracking", self.tracking.model_dump_json())),
                ],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,  # Ray's actors import from where their driver works: the user's folder may hold a torch.py
                start_new_session=True,  # Ctrl-C reaches the runner, which asks the step to stop at a durable boundary
            )
            code = self._watch(step, process, address)
        return *_end(message, code, log), log

    def _attempts(self, step: Step) -> Path:
        return self.work / "attempts" / step.name

    def _new_attempt(self, step: Step) -> Path:
        attempts = self._attempts(step)
        attempts.mkdir(parents=True, exist_ok=True)
        number = 1 + max((int(path.name) for path in attempts.iterdir() if path.name.isdigit()), default=0)
        folder = attempts / str(number)
        folder.mkdir()
        return folder

    def _watch(self, step: Step, process: subprocess.Popen[bytes], address: Path) -> int:
        """Show progress until the process ends; pass a stop on, once, and end it when the grace period is over."""
        asked: float | None = None
        while (code := process.poll()) is None:
            if self._stop and asked is None:
                process.terminate()
                asked = time.monotonic()
            if asked is not None and time.monotonic() - asked > GRACE_SECONDS:
                os.killpg(process.pid, signal.SIGKILL)
            if (snapshot := _read_progress(address)) is not None:
                self.watcher.progress(step, snapshot)
            time.sleep(POLL_SECONDS)
        return code


def _read_progress(address: Path) -> dict[str, Any] | None:
    """The `/progress` of a step; None while it does not answer."""
    try:
        with DIRECT.open(f"http://{address.read_text()}/progress", timeout=2) as response:
            document: dict[str, Any] = json.loads(response.read(65536))
            return document
    except (OSError, ValueError):
        return None


def _end(file: Path, code: int, log: Path) -> tuple[int, str]:
    """The exit code of an attempt, and what it said; of one that could say nothing, what is known and the end of its log."""
    try:
        document = json.loads(file.read_bytes())
        return code, str(document.get("error") or document.get("stopped") or "done")
    except (OSError, ValueError, AttributeError):
        if code != Exit.DONE and shutil.disk_usage(log.parent).free < ROOM_BYTES:
            return Exit.STOPPED, f"{log.parent} is on a disk that is full; make room"
        end = ended_by(-code) if code < 0 else f"ended with exit code {code}"
        return code, "\n".join((end, *_tail(log))) if code not in (Exit.DONE, Exit.STOPPED) else end


def _tail(log: Path) -> list[str]:
    """The last lines of a log."""
    return plain_lines(log.read_text(encoding="utf-8", errors="replace"))[-TAIL_LINES:]


def work_folder(storage: str, digest: str) -> Path:
    """Where attempts keep their files: in the run's folder, or, for an object store, in the user's state folder."""
    local = Folder.open(storage).local
    if local is not None:
        return local
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return state / "selfalign" / digest.removeprefix("sha256:")[:16]
