"""The contract between a step program and whoever runs it, local runner or operator (design §3).

    python -m selfalign_jobs CONFIG.json [--listen HOST:PORT] [--address-file FILE] [--termination-message FILE]

Config in, manifest out, `/progress` and `/metrics` while it runs, a summary for the termination message, and the exit
code: 0 done, 64 the configuration is wrong, 75 stopped and resumable, anything else a failure. A step that finds its
manifest exits 0 at once with the same summary.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import json
import signal
import sys
import threading
import traceback
from dataclasses import dataclass, field
from pathlib import Path

from selfalign_api.errors import ConfigError
from selfalign_api.outcome import TERMINATION_MESSAGE_BYTES, Exit
from selfalign_api.plan import Evaluate, Generate, Json, StepConfig
from selfalign_jobs.progress import Progress, ProgressServer
from selfalign_jobs.store import Folder, Manifest, TableEntry, read_manifest, step_folder


class Stopped(Exception):
    """The step stopped on request at a durable boundary; the next attempt goes on there."""


@dataclass
class StepContext:
    """All that a step program works with."""

    config: StepConfig
    run: Folder  # the run's folder
    folder: Folder  # this step's folder
    progress: Progress
    stop: threading.Event  # set by SIGTERM or SIGINT: finish the append, then raise Stopped
    tables: dict[str, TableEntry] = field(default_factory=dict)  # what this step finished: its later loads read it


def execute(context: StepContext) -> Manifest:
    """Run the step by its kind. Imports late: an engine's libraries load only where an engine runs."""
    step = context.config.plan.step(context.config.step)
    if isinstance(step, Generate):
        from selfalign_jobs.generate.program import generate

        return generate(context, step)
    if isinstance(step, Evaluate):
        from selfalign_jobs.evaluate.program import evaluate

        return evaluate(context, step)
    from selfalign_jobs.train.program import train

    return train(context, step)


def run_step(context: StepContext) -> tuple[Exit | int, dict[str, Json]]:
    """Execute a step and say how it ended: the exit code and what the termination message holds."""
    try:
        manifest = read_manifest(context.folder) or execute(context)
    except ConfigError as error:
        return Exit.CONFIG, {"error": str(error)}
    except Stopped as stopped:
        return Exit.STOPPED, {"stopped": str(stopped)}
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return Exit.STOPPED, {
                "stopped": f"the storage is full ({error}); make room, then run the same command again"
            }
        traceback.print_exc()
        return 1, {"error": f"{type(error).__name__}: {error}"}
    except Exception as error:
        traceback.print_exc()
        return 1, {"error": f"{type(error).__name__}: {error}"}
    return Exit.DONE, manifest.summary()


def main(arguments: list[str] | None = None) -> int:
    """The entry point of every pod."""
    parser = argparse.ArgumentParser(prog="selfalign-step", description="Run one step of a plan.")
    parser.add_argument("config", type=Path, help="the StepConfig, JSON")
    parser.add_argument("--listen", default="127.0.0.1:0", help="HOST:PORT of /progress and /metrics (port 0: any)")
    parser.add_argument("--address-file", type=Path, help="where to write the address that was bound")
    parser.add_argument("--termination-message", type=Path, help="where to write the summary (at most 4 kB of JSON)")
    parser.add_argument(
        "--with-parent", action="store_true", help="stop, as by SIGTERM, when whoever started this dies"
    )
    options = parser.parse_args(arguments)
    if options.with_parent:
        stop_with_parent()

    config = StepConfig.model_validate_json(options.config.read_text())
    run = Folder.open(config.storage)
    step = config.plan.step(config.step)
    context = StepContext(
        config, run, step_folder(run, step.iteration, step.name), Progress(step.name), stop=threading.Event()
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: context.stop.set())
    host, _, port = options.listen.rpartition(":")
    server = ProgressServer(context.progress, host, int(port))
    if options.address_file:
        options.address_file.write_text(server.address)
    code, message = run_step(context)
    if options.termination_message:
        options.termination_message.write_bytes(termination_message(message))
    if code not in (Exit.DONE,):
        print(message.get("error") or message.get("stopped"), file=sys.stderr)
    server.close()
    return int(code)


def stop_with_parent() -> None:
    """Ask the kernel for SIGTERM when the parent dies, however it dies: a killed runner leaves no step behind."""
    libc = ctypes.CDLL(None, use_errno=True)
    pr_set_pdeathsig = 1
    if libc.prctl(pr_set_pdeathsig, signal.SIGTERM) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")


def termination_message(message: dict[str, Json]) -> bytes:
    """The message as JSON within the kubelet's bound; a long error loses its end, never the whole."""
    body = json.dumps(message)
    if len(body.encode()) <= TERMINATION_MESSAGE_BYTES:
        return body.encode()
    for keep in range(TERMINATION_MESSAGE_BYTES - 256, 0, -256):
        short = {key: (value[:keep] + " …" if isinstance(value, str) else value) for key, value in message.items()}
        body = json.dumps({key: value for key, value in short.items() if key != "result"})
        if len(body.encode()) <= TERMINATION_MESSAGE_BYTES:
            break
    return body.encode()
