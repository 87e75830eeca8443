"""The command `selfalign`: run, validate, plan, preview, estimate, report, compare, recipes, crd; more by entry point (render)."""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path

from rich.console import Console
from rich.text import Text

from selfalign_api import __version__
from selfalign_api.errors import ConfigError
from selfalign_api.load import as_json, load_run
from selfalign_api.machine import ignored_on_one_machine, resolve_compute
from selfalign_api.outcome import FAILED, Exit
from selfalign_api.places import file_url, local_path, mounts_from
from selfalign_api.plan import Plan, Publish
from selfalign_api.profiles import load_profile, with_profile
from selfalign_api.rules import check_rules
from selfalign_api.run import SelfAlignmentRun
from selfalign_api.run_file import Means, RunFile
from selfalign_jobs.accept.owner import only_one
from selfalign_jobs.accept.program import accept, examine
from selfalign_jobs.accept.resolve import Resolved
from selfalign_jobs.local.panel import Panel, PlainLines
from selfalign_jobs.local.runner import LocalRun, RunHeld, RunStopped, StepFailed, work_folder
from selfalign_jobs.machine import gpus_here
from selfalign_jobs.places.store import PLAN_FILE, Folder, read_manifest, read_plan, step_folder
from selfalign_jobs.publish.rounds import rounds_of
from selfalign_jobs.step.failure import kind_of, told
from selfalign_jobs.tracking.follow import follow


@dataclass(frozen=True)
class Loaded:
    """A run file with its profile's values, and what it gets of this machine."""

    run: SelfAlignmentRun
    means: Means
    mounts: dict[str, str]
    beside: Path  # what `./PATH` is relative to
    gpu_hour_price: float | None = None

    def examine(self) -> Resolved:
        """The run resolved, or ConfigError."""
        return examine(self.run, self.means, self.mounts, self.beside)


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 0, 64 the configuration is wrong, 75 stopped or out of room, 1 a step or we ourselves failed."""
    options = parser().parse_args(arguments)
    try:
        code: int = options.command(options)
    except ConfigError as error:
        return _said(Exit.CONFIG, str(error))
    except RunStopped as stopped:
        return _said(Exit.STOPPED, str(stopped))
    except StepFailed as failed:
        return _said(FAILED, str(failed))
    except Exception as error:
        code, words = told(error)
        if kind_of(error) is None and not isinstance(error, OSError):
            traceback.print_exc()  # a mistake of ours
        return _said(code, words)
    return code


def _said(code: int, words: str) -> int:
    with suppress(OSError):
        if code == Exit.STOPPED:
            words = f"stopped: {words}\nrun the same command again to go on"
        print(words, file=sys.stderr, flush=True)
    return code


def parser() -> argparse.ArgumentParser:
    """The command line."""
    whole = argparse.ArgumentParser(prog="selfalign", description="A language model aligns itself: one YAML, one run.")
    whole.add_argument("--version", action="version", version=__version__)
    commands = whole.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, words: str, function: object) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=words, description=words)
        added.set_defaults(command=function)
        return added

    run = command("run", "Run a SelfAlignmentRun on this machine; the same command again resumes it.", run_command)
    check = command("validate", "Say what is wrong with a run file, or that it would start here.", validate_command)
    plan = command("plan", "Print the steps that would run, or the whole plan as JSON.", plan_command)
    look = command("preview", "Write and judge the first records, and print them; nothing is kept.", preview_command)
    guess = command("estimate", "Say what a run will take: tokens, time, storage, cost.", estimate_command)
    run.add_argument("--proceed", metavar="STEP", help="let this step begin, which spec.holdBefore keeps waiting")
    for sub in (run, check, plan, look, guess):
        sub.add_argument("file", type=Path, help="the run file, YAML")
        sub.add_argument(
            "--mount",
            action="append",
            default=[],
            metavar="CLAIM=DIR",
            help="the folder that stands for pvc://CLAIM here (or SELFALIGN_MOUNTS=CLAIM=DIR,…)",
        )
        if sub not in (look, guess):
            sub.add_argument(
                "--out", type=Path, metavar="DIR", help="keep artefacts here instead of in spec.storage.url"
            )
        sub.add_argument("--fit", action="store_true", help="take the GPUs that are here instead of those asked for")
    look.add_argument("-n", type=positive, default=5, metavar="N", dest="records", help="how many of each table; 5")
    measured = guess.add_mutually_exclusive_group()
    measured.add_argument(
        "-n",
        type=positive,
        metavar="N",
        dest="records",
        help="go by the first N records of each table, as preview has them",
    )
    measured.add_argument(
        "--like", metavar="RUN", help="go by the finished steps of another run of the recipe: its folder or URL"
    )
    guess.add_argument("--json", action="store_true", help="for programs; null is what is not known")
    plan.add_argument("--json", action="store_true", help="the whole plan, as the step programs read it")

    report = command("report", "Write the report of a run again, finished or not.", report_command)
    report.add_argument("folder", help="the run's folder or its URL, as `selfalign run` printed it")
    beside = command("compare", "Compare runs: one page, one JSON file, a table.", compare_command)
    beside.add_argument("first", metavar="RUN", help="the folder or URL of a run that has been evaluated")
    beside.add_argument("others", metavar="RUN", nargs="+", help="those that are compared with it")
    beside.add_argument("--out", default=".", metavar="DIR", help="where compare.html and compare.json go; here")
    known = command("recipes", "List the recipes that are built: paper, data, trainings, defaults.", recipes_command)
    known.add_argument("-o", "--output", choices=("table", "json"), default="table", help="json has every default too")
    command("crd", "Print the CustomResourceDefinition that a cluster needs.", crd_command)
    for further in entry_points(group="selfalign.commands"):  # the operator's: nothing here imports it
        further.load()(command)
    return whole


def load(options: argparse.Namespace) -> Loaded:
    """Read the run file and see what this machine has for it; nothing is written. Raises ConfigError."""
    mounts = mounts_from(options.mount, os.environ)
    run = load_run(options.file)
    profile = load_profile(run.spec.compute.profile_name if run.spec.compute else None)
    run = run.model_copy(update={"spec": with_profile(run.spec, profile)})
    check_rules(run)
    keep = (run.spec.storage and run.spec.storage.keep_checkpoints) or 1
    means = resolve_compute(run.spec.compute, gpus=gpus_here(), fit=options.fit, keep_checkpoints=keep)
    return Loaded(run, means, mounts, options.file.resolve().parent, profile.gpu_hour_price)


def run_file(loaded: Loaded, storage_url: str) -> RunFile:
    """The run as its step programs read it, places of this machine in the place of those that the run file names."""
    storage = loaded.run.spec.storage
    return RunFile(
        run=as_json(loaded.run),
        storage=storage_url,
        mounts=loaded.mounts,
        means=loaded.means,
        reuse_from=tuple(
            place(url, loaded, "spec.storage.reuseFrom") for url in (storage and storage.reuse_from) or ()
        ),
    )


def run_folder(loaded: Loaded, options: argparse.Namespace) -> str:
    """URL of the run's folder: <storage>/<namespace>/<name>."""
    storage = loaded.run.spec.storage
    if options.out is not None:
        base = file_url(options.out.resolve())
    elif storage is None or storage.url is None:
        raise ConfigError.one("spec.storage.url", "no place for artefacts is named; write it, or give --out DIR")
    else:
        base = place(storage.url, loaded, "spec.storage.url")
    return f"{base.rstrip('/')}/{loaded.run.metadata.namespace}/{loaded.run.metadata.name}"


def place(url: str, loaded: Loaded, field: str) -> str:
    """A place of the store as this machine reaches it."""
    if url.startswith(("s3://", "gs://")):
        return url
    return file_url(local_path(url, loaded.mounts, loaded.beside, field).resolve())


def run_command(options: argparse.Namespace) -> int:
    """`selfalign run`."""
    loaded = load(options)
    file = run_file(loaded, run_folder(loaded, options))
    spec = loaded.run.spec
    accepted = accept(file, loaded.beside, spec.tracking)
    plan, folder = accepted.plan, Folder.open(file.storage)
    console = Console()
    if ignored := ignored_on_one_machine(spec):
        console.print(Text(f"without effect on one machine: {', '.join(ignored)}"), soft_wrap=True)
    for note in accepted.notes:
        console.print(Text(f"worth a second look: {note}", style="yellow"), soft_wrap=True)
    work = work_folder(file.storage, plan.digest)
    with only_one(work):
        if accepted.adopted:
            console.print(Text(f"found this run's artefacts in {folder.place}: going on there"), soft_wrap=True)
        watcher: Panel | PlainLines = Panel(plan, console) if console.is_terminal else PlainLines(console)
        from selfalign_jobs.report import finish_report, has_report, show_report

        try:
            with watcher:
                worked = LocalRun(
                    plan, file, work, spec.failure_policy, watcher, spec.hold_before, options.proceed, spec.tracking
                ).run()
        except RunHeld as held:
            finish_report(folder, plan, console)
            console.print(Text(f"{held.step} waits for you; run the same command with --proceed {held.step}"))
            return Exit.STOPPED
        except ConfigError:
            if is_evaluated(folder, plan):  # a gate was not passed: the report says by how much
                finish_report(folder, plan, console)
            raise
        if spec.tracking is not None:  # what the steps before this command's could not
            follow(folder, plan, spec.tracking, file.mounts)
        if worked or not has_report(folder):
            finish_report(folder, plan, console)
        else:
            show_report(folder, console)
    return Exit.DONE


def is_evaluated(folder: Folder, plan: Plan) -> bool:
    """Whether all is done but what publishes, and what the loop ended before."""
    rounds = rounds_of(folder, plan)
    return all(
        isinstance(step, Publish)
        or (rounds is not None and rounds.leave_out(step))
        or read_manifest(step_folder(folder, step.iteration, step.name)) is not None
        for step in plan.steps
    )


def validate_command(options: argparse.Namespace) -> int:
    """`selfalign validate`."""
    loaded = load(options)
    found = loaded.examine()
    print(f"{options.file}: {loaded.run.metadata.name} would run here in {len(found.plan.steps)} steps")
    for note in found.notes:
        print(f"worth a second look: {note}")
    return Exit.DONE


def positive(text: str) -> int:
    """A number of at least 1. Raises ValueError, as argparse wants it."""
    if (number := int(text)) < 1:
        raise ValueError(text)
    return number


def preview_command(options: argparse.Namespace) -> int:
    """`selfalign preview`."""
    from selfalign_jobs.local.preview import preview

    loaded = load(options)
    preview(loaded.examine().plan, partial(run_file, loaded), options.records, Console())
    return Exit.DONE


def estimate_command(options: argparse.Namespace) -> int:
    """`selfalign estimate`."""
    from selfalign_jobs.local import look_ahead
    from selfalign_jobs.local.estimate import estimate
    from selfalign_jobs.local.show_estimate import estimate_json, estimate_table

    loaded, assumed = load(options), list[str]()
    found = loaded.examine()
    tables = look_ahead.own_tables(found, partial(run_file, loaded))
    most = look_ahead.at_most(found, loaded.mounts, tables)
    if options.like is not None:
        more, assumed = look_ahead.run_like(found.plan, loaded.means, folder_at(look_ahead.LIKE, options.like))
    elif options.records is not None:
        progress = Console(stderr=True)
        more = look_ahead.first_records(found.plan, partial(run_file, loaded), options.records, progress)
    else:
        more, assumed = most, [look_ahead.AT_MOST]
    measured = look_ahead.of_own(found, tables).over(more)
    weights = look_ahead.weights_of(found, loaded.means)
    told = estimate(found.plan, found.rows, measured, most, loaded.means, weights)
    told = replace(told, assumed=(*assumed, *told.assumed))
    if options.json:
        print(json.dumps(estimate_json(told, loaded.gpu_hour_price), indent=2, ensure_ascii=False))
    else:
        Console().print(estimate_table(told, loaded.gpu_hour_price))
    return Exit.DONE


def plan_command(options: argparse.Namespace) -> int:
    """`selfalign plan`."""
    from selfalign_jobs.local.show_plan import plan_table

    loaded = load(options)
    found = loaded.examine()
    if options.json:
        print(found.plan.model_dump_json(indent=2))
    else:
        Console().print(plan_table(found.plan, found.rows, loaded.means, found.notes))
    return Exit.DONE


def report_command(options: argparse.Namespace) -> int:
    """`selfalign report`."""
    from selfalign_jobs.report import finish_report

    folder = folder_at("FOLDER", options.folder)
    if not folder.exists(PLAN_FILE):
        raise ConfigError.one(
            "FOLDER", f"{folder.place} has no {PLAN_FILE}; write the folder that `selfalign run` printed"
        )
    finish_report(folder, read_plan(folder), Console())
    return Exit.DONE


def compare_command(options: argparse.Namespace) -> int:
    """`selfalign compare`."""
    from selfalign_jobs.compare import compare

    folders, out = [folder_at("RUN", run) for run in (options.first, *options.others)], folder_at("--out", options.out)
    if out.local is not None and not (there := next(p for p in (out.local, *out.local.parents) if p.exists())).is_dir():
        raise ConfigError.one("--out", f"{there} is a file; write another folder")
    compare(folders, out, Console())
    return Exit.DONE


def folder_at(argument: str, place: str) -> Folder:
    """A folder by its path or its URL. ConfigError for a URL of another kind."""
    if "://" in place and not place.startswith(("file:///", "s3://", "gs://")):
        raise ConfigError.one(
            argument, "is no place of artefacts; write a folder, s3://BUCKET/PATH or gs://BUCKET/PATH", place
        )
    return Folder.open(place if "://" in place else file_url(Path(place).resolve()))


def recipes_command(options: argparse.Namespace) -> int:
    """`selfalign recipes`."""
    from selfalign_jobs.local.show_recipes import recipes_json, recipes_table

    if options.output == "json":
        print(json.dumps(recipes_json(), indent=2, ensure_ascii=False))
    else:
        Console().print(recipes_table())
    return Exit.DONE


def crd_command(options: argparse.Namespace) -> int:  # noqa: ARG001
    """`selfalign crd`."""
    from selfalign_api.crd import crd_yaml

    sys.stdout.write(crd_yaml())
    return Exit.DONE
