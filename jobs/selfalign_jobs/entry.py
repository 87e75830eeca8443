"""The entry point of every pod, and of each step of `selfalign run`.

    python -m selfalign_jobs RUN.json --step NAME --attempt N [--listen [HOST]:PORT] [--termination-message FILE]
        [--tracking JSON] [--collect | --read report|pairs|logs [--rows N] [--of STEP]]

RUN.json (`selfalign_api.run_file.RunFile`) is the same for all steps of a run; the plan lies in the run's folder, where the
step `accept` has written it.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

from selfalign_api.errors import ConfigError
from selfalign_api.life import Tracking
from selfalign_api.outcome import ACCEPT, Exit, termination_message
from selfalign_api.plan import Evaluate, Generate, Plan, Publish, Train
from selfalign_api.plan_values import Json
from selfalign_api.rounds import VALUE
from selfalign_api.run_file import RunFile, StepConfig
from selfalign_jobs.accept.program import accept
from selfalign_jobs.places.store import Folder, Manifest, read_manifest, read_plan, step_folder
from selfalign_jobs.publish.rounds import rounds_of
from selfalign_jobs.reading import WHAT, Asked, tell
from selfalign_jobs.step import second_look
from selfalign_jobs.step.context import ResultMissing, StepContext, Stopped, Summary
from selfalign_jobs.step.ending import ending
from selfalign_jobs.step.gang import Gang
from selfalign_jobs.step.init import take_signals
from selfalign_jobs.step.kept_log import KeptLog
from selfalign_jobs.step.parent import end_with_parent
from selfalign_jobs.step.progress import Progress, ProgressServer
from selfalign_jobs.step.reuse import done_before
from selfalign_jobs.surroundings import take_stops


def main(arguments: list[str] | None = None, log: KeptLog | None = None) -> int:
    """One attempt at one step: returns the exit code, and leaves the termination message however it ends.

    `log` is kept in the run's folder once that is known to be the run's.
    """
    options = parser().parse_args(arguments)
    stop = threading.Event()
    _on_stop(stop.set)
    take_signals()
    if options.with_parent:
        end_with_parent(signal.SIGTERM)  # a killed runner leaves no step behind
    code, message = ending(lambda: _attempt(options, stop, log))
    with suppress(OSError):  # where there is no room for words, the code has to do
        if options.termination_message:
            options.termination_message.write_bytes(termination_message(message))
        if code != Exit.DONE:
            print(message.get("error") or message.get("stopped"), file=sys.stderr, flush=True)
    return int(code)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    whole = argparse.ArgumentParser(prog="selfalign_jobs", description="Run one attempt at one step of a run.")
    whole.add_argument("run", type=Path, help="the RunFile, JSON")
    whole.add_argument("--step", required=True, help=f"name of a step of the plan, or {ACCEPT}")
    whole.add_argument("--attempt", type=int, required=True, help="which attempt at the step this is, from 1")
    whole.add_argument("--collect", action="store_true", help="only read what the step has published")
    whole.add_argument("--report", action="store_true", help="leave a report, though other steps follow in this round")
    whole.add_argument("--read", choices=WHAT, help="only print that of the run's folder, for `kubectl selfalign`")
    whole.add_argument("--rows", type=int, default=20, help="of --read pairs: how many")
    whole.add_argument("--of", help="of --read logs: the step")
    whole.add_argument(
        "--tracking",
        type=Tracking.model_validate_json,
        metavar="JSON",
        help="spec.tracking, which may change while the run is",
    )
    whole.add_argument("--listen", default="127.0.0.1:0", help="[HOST]:PORT of /progress and /metrics (0: any)")
    whole.add_argument("--address-file", type=Path, help="where to write the address that was bound")
    whole.add_argument("--termination-message", type=Path, help="where to write the summary (at most 4 kB of JSON)")
    whole.add_argument("--with-parent", action="store_true", help="stop, as by SIGTERM, when whoever started this dies")
    return whole


def _attempt(options: argparse.Namespace, stop: threading.Event, log: KeptLog | None) -> Summary:
    """Raises as `ending` has it."""
    file = RunFile.model_validate_json(options.run.read_bytes())
    progress = Progress(options.step)
    host, _, port = options.listen.rpartition(":")
    server = ProgressServer(progress, host, int(port))
    if options.address_file:
        options.address_file.write_text(server.address)
    try:
        if options.step == ACCEPT or options.collect or options.read:
            _on_stop(_give_up)  # whatever they write is written whole, and done again it comes to the same
            if stop.is_set():
                _give_up()
        if options.read:
            tell(Folder.open(file.storage), Asked(options.read, options.rows, options.of))
            return {"read": options.read}
        if options.step == ACCEPT:
            accepted = accept(file, options.run.parent, options.tracking)
            _keep(log, options, file)
            return accepted.summary(options.attempt)
        run = Folder.open(file.storage)
        if options.collect:
            return _collect(run, options.step)
        _keep(log, options, file)
        config = StepConfig.of(file, read_plan(run), options.step, options.attempt)
        return run_step(StepContext.of(config, progress, stop, Gang.here(os.environ)), options.tracking, options.report)
    finally:
        _on_stop(stop.set)  # how it has ended is said in any case
        server.close()


def _keep(log: KeptLog | None, options: argparse.Namespace, file: RunFile) -> None:
    if log is not None:
        log.keep_in(file.storage, Folder.open(file.storage).local, options.step, options.attempt)


def run_step(context: StepContext, tracking: Tracking | None = None, with_report: bool = False) -> Summary:
    """Do a step, or this pod's share of it, unless it is done; raises as `ending` has it.

    The last step of a round that does not publish leaves a report, and any `with_report`. Then it is tracked.
    """
    if context.gang is not None and context.gang.index > 0:
        return help_out(context, context.gang)
    plan = context.config.plan
    step = plan.step(context.config.step)
    if isinstance(step, Publish):  # which copies the report too
        leave_report(context)
    try:
        manifest = done_before(context.config) or execute(context)
    except ConfigError:
        if tracking is not None:
            track(context, tracking, failed=True)
        raise
    last = [each for each in plan.steps if each.iteration == step.iteration and not isinstance(each, Publish)][-1]
    if with_report or step == last:
        leave_report(context)
    summary = summary_of(manifest, context.run, plan)
    return summary if tracking is None else summary | track(context, tracking, summary["result"])


def summary_of(manifest: Manifest, run: Folder, plan: Plan) -> Summary:
    """What the termination message says of a step that is done; of a round that may be published, its value first.

    The operator reads neither plan nor storage, and by these values it sees when a loop ends early.
    """
    summary, step = manifest.summary(), plan.step(manifest.step)
    rounds = rounds_of(run, plan) if isinstance(step, Evaluate) else None
    value = None if rounds is None else rounds.values.get(step.iteration)
    return summary if value is None else summary | {"result": {VALUE: value} | summary["result"]}


def leave_report(context: StepContext) -> None:
    """Report and summary in the run's folder, as far as the run has come. A step does not fail for want of them."""
    from selfalign_jobs.report import write_report

    try:
        write_report(context.run, context.config.plan)
    except Exception:  # whatever a folder holds: `selfalign report` says it to whoever asks
        traceback.print_exc()
        print("the report could not be written; the step is not concerned", file=sys.stderr, flush=True)


def track(
    context: StepContext, tracking: Tracking, result: Mapping[str, Json] = MappingProxyType({}), *, failed: bool = False
) -> Summary:
    """Track the run as far as it has come; the result of the step, with a note where the server does not take it."""
    from selfalign_jobs.tracking.follow import PATIENCE_SECONDS, follow

    config, stopped = context.config, context.stop.is_set
    state = follow(
        context.run, config.plan, tracking, config.mounts, failed=failed, patience=PATIENCE_SECONDS, stopped=stopped
    )
    print(state.words, file=sys.stderr, flush=True)
    notes = [*([] if state.behind is None else [f"{state.words}."]), *result.get("notes", ())]
    first = {name: result[name] for name in (VALUE,) if name in result}  # what is last is cut first
    told = {"notes": second_look.kept_short(notes)} if notes else {}
    return {"result": first | told | {name: value for name, value in result.items() if name != "notes"}}


def execute(context: StepContext) -> Manifest:
    """Run the step by its kind. Imports late: an engine's libraries load only where an engine runs."""
    step = context.config.plan.step(context.config.step)
    if isinstance(step, Generate):
        from selfalign_jobs.generate.program import generate

        return generate(context, step)
    if isinstance(step, Evaluate):
        from selfalign_jobs.evaluate.program import evaluate

        return evaluate(context, step)
    if isinstance(step, Publish):
        from selfalign_jobs.publish.program import publish

        return publish(context, step)
    from selfalign_jobs.train.program import train

    return train(context, step)


def help_out(context: StepContext, gang: Gang) -> Summary:
    """What the other pods of a gang do for its head, which alone publishes."""
    step = context.config.plan.step(context.config.step)
    context.progress.begin("helping", 0, "records")
    if isinstance(step, Train):
        from selfalign_jobs.train.program import train_share

        train_share(context, step, gang)
    else:
        from selfalign_jobs.generate.helper import help_head
        from selfalign_jobs.generate.program import means_of

        help_head(gang, means_of(context.config), context.stop)
    return {"step": step.name, "attempt": context.config.attempt, "index": gang.index}


def _collect(run: Folder, name: str) -> Summary:
    """The summary of a step that is done, whose own message was lost."""
    plan = read_plan(run)
    step = plan.step(name)
    folder = step_folder(run, step.iteration, name)
    manifest = read_manifest(folder)
    if manifest is None:
        raise ResultMissing(f"{name} has published no result in {folder.place}")
    return summary_of(manifest, run, plan)


def _give_up() -> None:
    raise Stopped("stopped before it was done")


def _on_stop(act: Callable[[], None]) -> None:
    take_stops(lambda *_: act())
