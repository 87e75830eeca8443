"""The command `kubectl selfalign`, which is `selfalign cluster` too: its words, its options, its exit codes."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from selfalign_api import __version__
from selfalign_api.errors import ConfigError
from selfalign_api.outcome import FAILED, Exit
from selfalign_kubectl import acting, waiting
from selfalign_kubectl.access import Where, open_cluster
from selfalign_kubectl.applying import check
from selfalign_kubectl.cluster import Cluster
from selfalign_kubectl.completion import (
    complete_for_kubectl,
    complete_for_shell,
    completes,
    context_names,
    run_names,
    step_names,
)
from selfalign_kubectl.logs import RunLog
from selfalign_kubectl.pairs import pair_lines
from selfalign_kubectl.reader import effective_of, read_run
from selfalign_kubectl.refusals import Refused, Unreachable, in_words, no_such_run, not_installed
from selfalign_kubectl.serving import deployment, inference_service, model_of
from selfalign_kubectl.shown import run_page, run_table
from selfalign_operator.kube.resources import RUN
from selfalign_operator.render import to_yaml
from selfalign_operator.views import RunView

WORDS = "List, follow, stop and read the runs of a cluster."
INTERRUPTED = 130  # as a shell has it: Ctrl-C ends `logs -f` and `wait`

Run = Callable[[argparse.Namespace, Cluster], int]


def main(arguments: list[str] | None = None) -> int:
    """`kubectl-selfalign`. Exit codes: 0; 64 what to write, or which right is missing; 1 a failure; of `wait`: see there."""
    from selfalign_jobs.surroundings import settle

    settle()
    whole = parser()
    complete_for_shell(whole)
    options = whole.parse_args(arguments)
    try:
        code: int = options.command(options)
    except ConfigError as error:
        code = _said(Exit.CONFIG, str(error))
    except Unreachable as error:
        code = _said(FAILED, str(error))
    except KeyboardInterrupt:
        code = INTERRUPTED
    with suppress(OSError):
        sys.stdout.flush()
    return code


def complete() -> int:
    """`kubectl_complete-selfalign`."""
    return complete_for_kubectl(parser())


def _said(code: int, words: str) -> int:
    with suppress(OSError):
        print(words, file=sys.stderr, flush=True)
    return code


def parser() -> argparse.ArgumentParser:
    """The command line of the plugin."""
    whole = argparse.ArgumentParser(prog="kubectl selfalign", description=WORDS)
    whole.add_argument("--version", action="version", version=__version__)
    add_commands(whole)
    return whole


def add_commands(whole: argparse.ArgumentParser) -> None:
    """All commands, each with kubectl's own options for the cluster."""
    commands = whole.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, words: str, run: Run, *namespace: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=words, description=words)
        _add_where(added, namespace or ("-n", "--namespace"))
        added.set_defaults(command=lambda options: _in_cluster(run, options))
        return added

    def of_run(name: str, words: str, run: Run, *namespace: str) -> argparse.ArgumentParser:
        added = command(name, words, run, *namespace)
        completes(added.add_argument("name", metavar="NAME", help="the run"), run_names)
        return added

    listing = command("list", "List the runs: where each is, and why it waits.", list_command)
    listing.add_argument("-A", "--all-namespaces", action="store_true", help="of every namespace")
    of_run("status", "Show one run: its steps and attempts, why it waits, its results.", status_command)
    wait = of_run("wait", "Wait until a run is complete, or for something else.", wait_command)
    wait.add_argument("--for", dest="wanted", default="complete", metavar="WHAT", help=", ".join(waiting.WANTED))
    wait.add_argument("--timeout", default="0", metavar="TIME", help="such as 90s, 10m, 1h30m; 0: no end (the default)")
    log = of_run("logs", "Print the log of a run, step by step and attempt by attempt.", logs_command)
    log.add_argument("-f", "--follow", action="store_true", help="as long as the run goes on")
    completes(log.add_argument("--step", metavar="STEP", help="of this step only"), step_names)
    log.add_argument("--index", type=int, default=0, metavar="N", help="of which pod of a gang; 0, which leads")
    report = of_run("report", "Fetch the report of a run: one HTML page.", report_command)
    report.add_argument(
        "-o", "--output", metavar="FILE", help="where it goes, - for stdout; NAME-report.html without it"
    )
    pairs = of_run("pairs", "Print pairs of a run: what was asked, chosen, rejected.", pairs_command, "--namespace")
    pairs.add_argument("--number", dest="rows", type=_positive, default=20, metavar="N", help="how many; 20")
    pairs.add_argument("-n", action=_NumberOrNamespace, metavar="N", help="the same; of anything else, the namespace")
    pairs.add_argument("-o", "--output", choices=("text", "json"), default="text", help="json: a line a pair")
    of_run("suspend", "Stop a run, and keep all that it has.", suspend_command)
    of_run("resume", "Let a suspended run go on.", resume_command)
    of_run("retry", "Let a run that is Failed or Held go on where it stopped.", retry_command)
    of_run("proceed", "Let a run begin the step that it is held before (spec.holdBefore).", proceed_command)
    applied = command("apply", "Check a run file by all rules, then apply it.", apply_command)
    applied.add_argument("file", type=Path, metavar="FILE", help="the run file, YAML")
    applied.add_argument("--dry-run", action="store_true", help="the apiserver checks it too, and keeps nothing")
    applied.add_argument("--force-conflicts", action="store_true", help="take over fields that others have set")
    applied.add_argument(
        "--operator-namespace", default="selfalign-system", metavar="NAME", help="where the operator's profiles are"
    )
    served = of_run("serve", "Print what serves the run's model: for `kubectl apply -f -`.", serve_command)
    served.add_argument("--kserve", action="store_true", help="an InferenceService in the place of vLLM's Deployment")
    served.add_argument("--image", metavar="IMAGE", help="with vLLM; else the run's own")


def _add_where(added: argparse.ArgumentParser, namespace: Sequence[str]) -> None:
    """The options by which kubectl is told the cluster and the namespace."""
    added.add_argument(
        "--kubeconfig", metavar="FILE", help="how to reach the cluster; else $KUBECONFIG, ~/.kube/config"
    )
    context = added.add_argument("--context", metavar="NAME", help="of the kubeconfig; else its current one")
    completes(context, context_names)
    added.add_argument(*namespace, metavar="NAME", help="of the run; else the context's")


class _NumberOrNamespace(argparse.Action):
    """`-n 20` is how many, as in `selfalign preview -n 5`; `-n research` is kubectl's. A namespace of digits: --namespace."""

    def __call__(self, *given: Any) -> None:
        """By what was written."""
        _, namespace, values, *_ = given
        if values.isdecimal() and int(values) > 0:
            namespace.rows = int(values)
        else:
            namespace.namespace = values


def _in_cluster(run: Run, options: argparse.Namespace) -> int:
    cluster = open_cluster(Where(options.kubeconfig, options.context, options.namespace))
    try:
        return run(options, cluster)
    except Refused as refused:
        if refused.code == 403 and refused.call.resource == RUN and not cluster.has(RUN):
            raise not_installed(refused) from refused  # rights are asked before whether there is such a thing
        raise in_words(refused) from refused


def list_command(options: argparse.Namespace, cluster: Cluster) -> int:
    """`list`."""
    runs = cluster.runs(everywhere=options.all_namespaces)
    if not runs:
        where = "the cluster" if options.all_namespaces else f"namespace {cluster.namespace}"
        print(f"no runs in {where}", file=sys.stderr)
        return Exit.DONE
    _print(run_table(runs, cluster.now, everywhere=options.all_namespaces))
    return Exit.DONE


def status_command(options: argparse.Namespace, cluster: Cluster) -> int:
    """`status`."""
    run = find_run(cluster, options.name)
    _print(run_page(run, cluster.now))
    return Exit.DONE


def wait_command(options: argparse.Namespace, cluster: Cluster) -> int:
    """`wait`: 0 it is so; 1 it cannot be any more without a person; 75 the time was over, and waiting again may do."""
    wanted, seconds = waiting.wanted_of(options.wanted), waiting.seconds_of(options.timeout)
    found = waiting.wait_for(lambda: find_run(cluster, options.name), wanted, seconds)
    print(f"{options.name} {found.words}", file=sys.stdout if found.answer == "yes" else sys.stderr)
    return {"yes": int(Exit.DONE), "never": FAILED, "no": int(Exit.STOPPED)}[found.answer]


def logs_command(options: argparse.Namespace, cluster: Cluster) -> int:
    """`logs`."""
    log = RunLog(
        cluster, options.name, options.step, options.index, lambda: find_run(cluster, options.name), _say, _note
    )
    if options.follow:
        log.follow()
    else:
        log.tell()
    return Exit.DONE


def _say(words: str) -> None:
    sys.stdout.write(words)
    sys.stdout.flush()


def _note(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def report_command(options: argparse.Namespace, cluster: Cluster) -> int:
    """`report`."""
    page = read_run(cluster, find_run(cluster, options.name), ("report",), _note)
    if options.output == "-":
        _say(page)
        return Exit.DONE
    file = Path(options.output or f"{options.name}-report.html")
    try:
        file.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ConfigError.one("-o", f"cannot be written ({error.strerror}); write another file", str(file)) from error
    print(f"report: {file}")
    return Exit.DONE


def pairs_command(options: argparse.Namespace, cluster: Cluster) -> int:
    """`pairs`."""
    what = ("pairs", "--rows", str(options.rows))
    pairs = read_run(cluster, find_run(cluster, options.name), what, _note)
    if options.output == "json":
        _say("".join(f"{json.dumps(pair, ensure_ascii=False)}\n" for pair in pairs))
    else:
        _print(pair_lines(pairs))
    return Exit.DONE


def apply_command(options: argparse.Namespace, cluster: Cluster) -> int:
    """`apply`."""
    checked = check(options.file, cluster, options.operator_namespace)
    if checked.note:
        _note(checked.note)
    name = checked.run.metadata.name
    cluster.namespace = checked.run.metadata.namespace
    cluster.apply(RUN, name, checked.manifest, force=options.force_conflicts, dry_run=options.dry_run)
    print(f"{name} {'would be applied' if options.dry_run else 'applied'} in namespace {cluster.namespace}")
    return Exit.DONE


def serve_command(options: argparse.Namespace, cluster: Cluster) -> int:
    """`serve`."""
    run = find_run(cluster, options.name)
    effective = effective_of(cluster, run)
    model = model_of(effective, run.status)
    made = inference_service(effective, model) if options.kserve else deployment(effective, model, options.image)
    _say(f"# {model.words}: {model.url}\n" + to_yaml(made))
    return Exit.DONE


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError(text)
    return number


def suspend_command(options: argparse.Namespace, cluster: Cluster) -> int:
    """`suspend`."""
    return _act(cluster, options.name, acting.suspend)


def resume_command(options: argparse.Namespace, cluster: Cluster) -> int:
    """`resume`."""
    return _act(cluster, options.name, acting.resume)


def retry_command(options: argparse.Namespace, cluster: Cluster) -> int:
    """`retry`."""
    return _act(cluster, options.name, lambda run: acting.retry(run, cluster.now))


def proceed_command(options: argparse.Namespace, cluster: Cluster) -> int:
    """`proceed`."""
    return _act(cluster, options.name, acting.proceed)


def _act(cluster: Cluster, name: str, what: Callable[[RunView], acting.Act]) -> int:
    act = what(find_run(cluster, name))
    if act.patch is not None:
        cluster.patch(RUN, name, act.patch)
    print(f"{name} {act.words}")
    return Exit.DONE


def find_run(cluster: Cluster, name: str) -> RunView:
    """The run of that name. Raises ConfigError with the names that are near."""
    try:
        return cluster.run(name)
    except Refused as refused:
        if refused.code != 404 or not refused.found_kind:
            raise
    try:
        there = [run.name for run in cluster.runs()]
    except Refused:  # who may get one run may not list them all
        there = []
    raise no_such_run(name, cluster.namespace, there)


def _print(lines: Iterable[Text]) -> None:
    console = Console()
    for line in lines:
        console.print(line, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
