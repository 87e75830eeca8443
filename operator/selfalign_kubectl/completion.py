"""Shell completion by argcomplete: of `kubectl-selfalign` itself, and of `kubectl selfalign`, for which kubectl asks a program."""

from __future__ import annotations

import argparse
import io
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

import argcomplete
from kubernetes import config

from selfalign_api.errors import ConfigError
from selfalign_kubectl.access import Where, open_cluster
from selfalign_kubectl.cluster import Cluster
from selfalign_kubectl.refusals import Refused, Unreachable

PROGRAM = "kubectl-selfalign"
NO_FILES = ":4"  # cobra's ShellCompDirectiveNoFileComp: what is printed is all that there is

Words = Callable[[argparse.Namespace], list[str]]


def complete_for_shell(parser: argparse.ArgumentParser) -> None:
    """Answer the shell that asks by argcomplete's variables, and end; returns at once without them."""
    if "_ARGCOMPLETE" in os.environ:
        argcomplete.autocomplete(parser)


def complete_for_kubectl(parser: argparse.ArgumentParser) -> int:
    """`kubectl_complete-selfalign WORD… BEGINNING`: a word a line, then kubectl's directive."""
    print("\n".join([*words_for(parser, sys.argv[1:]), NO_FILES]))
    return 0


def words_for(parser: argparse.ArgumentParser, words: Sequence[str]) -> list[str]:
    """What may stand in the place of the last of the words."""
    *before, beginning = words or [""]
    line = f"{shlex.join([PROGRAM, *before])} {beginning}"
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "COMP_LINE": line, "COMP_POINT": str(len(line.encode()))}
    found = io.StringIO()
    with suppress(SystemExit):
        os.environ.update(asked)
        try:
            argcomplete.autocomplete(parser, exit_method=sys.exit, output_stream=found, append_space=False)
        finally:
            for name in asked:
                del os.environ[name]
    return sorted(word for word in found.getvalue().splitlines() if word)


def completes(action: argparse.Action, words: Words) -> None:
    """Have an argument completed by these words."""

    def completer(parsed_args: argparse.Namespace, **_: object) -> Iterable[str]:
        with suppress(ConfigError, Refused, Unreachable, config.ConfigException, OSError):
            return words(parsed_args)
        return ()

    action.completer = completer  # type: ignore[attr-defined]


def run_names(options: argparse.Namespace) -> list[str]:
    """Of the runs in the namespace that is meant."""
    return [run.name for run in _cluster(options).runs()]


def step_names(options: argparse.Namespace) -> list[str]:
    """Of the steps of the run that is named."""
    return [step.name for step in _cluster(options).run(options.name).status.steps]


def context_names(options: argparse.Namespace) -> list[str]:
    """Of the kubeconfig that is meant."""
    contexts, _ = config.list_kube_config_contexts(options.kubeconfig)
    return [context["name"] for context in contexts]


def _cluster(options: argparse.Namespace) -> Cluster:
    return open_cluster(Where(options.kubeconfig, options.context, options.namespace))
