"""One run of a step program in a process of its own, and what can be done to it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil
from run_files import entry_arguments

from selfalign_api.run_file import StepConfig

PATIENCE_SECONDS = 300.0  # for a state that must come; never part of what is asserted
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


class Attempt:
    """One run of the step program, and every process under it."""

    def __init__(
        self,
        folder: Path,
        config: StepConfig,
        engine: str,
        kill: str | None = None,
        environment: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> None:
        """`engine` is the folder of a fake one's log, or `vllm`; `kill` is a place in a commit (killed_step.py)."""
        script = Path(__file__).with_name("killed_step.py")
        command = [sys.executable, str(script), engine, kill or "-", *entry_arguments(config, folder), *options]
        self._output = folder / f"output-{config.attempt}.txt"
        with self._output.open("w") as output:
            self.process = subprocess.Popen(
                command, env=ENVIRONMENT | dict(environment or {}), stdout=output, stderr=subprocess.STDOUT
            )
        self.root = psutil.Process(self.process.pid)
        self.family: set[psutil.Process] = set()

    def look(self) -> set[psutil.Process]:
        """All processes under this attempt, dead or alive."""
        with suppress(psutil.NoSuchProcess):
            self.family |= set(self.root.children(recursive=True))
        return self.family

    def wait_until(self, state: Callable[[], bool]) -> None:
        """Until a state is there, or the program is over."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.process.poll() is None and not state():
            self.look()
            assert time.monotonic() < deadline, f"nothing happens: {self.output}"
            time.sleep(0.01)

    def kill(self, target: str) -> None:
        """SIGKILL one actor, the raylet, the driver, or everything at once."""
        family = [process for process in self.look() if process.is_running()]
        if target == "actor":
            victims = [process for process in family if is_actor(process)][:1]
        elif target == "raylet":
            victims = [process for process in family if is_raylet(process)]
        else:
            victims = [self.root, *(family if target == "everything" else [])]
        for victim in victims:
            with suppress(psutil.NoSuchProcess):  # it has just ended by itself
                victim.kill()

    def end(self) -> int:
        """Wait until the program has ended, and all that it started."""
        while self.process.poll() is None:
            self.look()
            time.sleep(0.05)
        # Ray's own agents notice a killed raylet within a minute; nothing that holds an engine may outlive the step.
        engines = [process for process in self.family if not is_ray_agent(process)]
        _, alive = psutil.wait_procs(engines, timeout=PATIENCE_SECONDS)
        assert not alive, f"these outlive the step: {[command_of(process) for process in alive]}"
        for agent in self.family:
            with suppress(psutil.NoSuchProcess):
                agent.kill()
        return self.process.returncode

    @property
    def output(self) -> str:
        """The end of what it printed."""
        return self._output.read_text()[-3000:]


def command_of(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess):
        return " ".join(process.cmdline())
    return ""


def is_actor(process: psutil.Process) -> bool:
    return command_of(process).startswith("ray::EngineActor")


def is_raylet(process: psutil.Process) -> bool:
    return command_of(process).split(" ")[0].endswith("/raylet")


def is_ray_agent(process: psutil.Process) -> bool:
    return command_of(process).startswith(("ray::DashboardAgent", "ray::RuntimeEnvAgent")) or any(
        f"{agent}.py" in command_of(process) for agent in ("dashboard/agent", "runtime_env/agent/main")
    )
