"""`selfalign render FILE`: all manifests of a run without a cluster, for a person to read, or for a server's dry run.

What only a cluster gives stands there as a placeholder: the run's uid (all zeros) and Ray's token. Applied for good, the
objects would be garbage: their owner does not exist, so the cluster collects them.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from selfalign_api import __version__
from selfalign_api.kubectl_yaml import read_yaml
from selfalign_api.load import as_json, load_run, parse, parse_spec, read_file
from selfalign_api.operator_config import Images, OperatorConfig
from selfalign_api.run import SelfAlignmentRun
from selfalign_api.status import Status
from selfalign_operator.effective import Attempt, EffectiveRun
from selfalign_operator.resolve import effective_run
from selfalign_operator.views import Manifest, RunView
from selfalign_operator.workloads.attempt import attempt_workload
from selfalign_operator.workloads.objects import run_objects

PLACEHOLDER_UID = "00000000-0000-0000-0000-000000000000"
PLACEHOLDER_TOKEN = "the operator makes one for each run"
DEFAULT_CONFIG = OperatorConfig(
    images=Images(generate=f"selfalign/generate:{__version__}", train=f"selfalign/train:{__version__}")
)
ACCEPT = Attempt(step="accept", kind="accept", iteration=0, number=1)
HEADER = f"# selfalign {__version__} render: the uid and Ray's token are placeholders\n"


def rendered_text(file: Path, config: OperatorConfig) -> str:
    """What is printed of a run file. Raises ConfigError."""
    return HEADER + to_yaml(rendered(load_run(file), config))


def read_config(file: Path) -> OperatorConfig:
    """The operator's configuration in a file. Raises ConfigError."""
    return parse(OperatorConfig, read_yaml(read_file(file), str(file)) or {}, str(file))


def rendered(run: SelfAlignmentRun, config: OperatorConfig) -> list[Manifest]:
    """The run's own objects, and the first attempt of each of its steps. Raises ConfigError."""
    effective = effective_run(as_view(run), _without_selectors(config))
    workloads = [attempt_workload(effective, attempt) for attempt in (ACCEPT, *first_attempts(effective, run))]
    return [*run_objects(effective, PLACEHOLDER_TOKEN), *workloads]


def _without_selectors(config: OperatorConfig) -> OperatorConfig:
    """Without a cluster nobody knows the labels of a namespace: whoever names a profile has it."""
    open_to_all = {name: each.model_copy(update={"namespace_selector": None}) for name, each in config.profiles.items()}
    return config.model_copy(update={"profiles": open_to_all})


def as_view(run: SelfAlignmentRun) -> RunView:
    """The run as the operator would see it just after `kubectl apply`."""
    return RunView(
        namespace=run.metadata.namespace,
        name=run.metadata.name,
        uid=PLACEHOLDER_UID,
        generation=1,
        resource_version="1",
        created=datetime.fromtimestamp(0, UTC),
        deleting=False,
        labels=run.metadata.labels,
        annotations=run.metadata.annotations,
        spec=as_json(run.spec),
        status=Status(),
    )


def first_attempts(effective: EffectiveRun, run: SelfAlignmentRun) -> list[Attempt]:
    """What the accept step would plan. The names and kinds of the steps depend on no file that the run names."""
    from selfalign_jobs.accept.resolve import method_of, method_values, publish_steps
    from selfalign_jobs.recipes.base import recipe

    spec = as_json(effective.spec)
    spec["model"].pop("chatTemplateUrl", None)
    for role in spec.get("generation", {}).get("roles", ()):
        if "templateUrl" in role:
            role["template"] = role.pop("templateUrl")
    unread = run.model_copy(update={"spec": parse_spec(spec)})
    method = method_of(method_values(unread, effective.means.generation.device, {}, Path()))
    steps = recipe(method.recipe).plan(method)
    planned = (*steps, *publish_steps(steps, effective.spec.output, method.evaluation, Path()))
    return [Attempt(step=step.name, kind=step.kind, iteration=step.iteration, number=1) for step in planned]


class _Dumper(yaml.SafeDumper):
    """Text of several lines as it is; nothing by anchor."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        """Every object in full."""
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def to_yaml(manifests: Iterable[Manifest]) -> str:
    """The manifests as one YAML stream, for `kubectl apply -f -`."""
    return yaml.dump_all(manifests, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True, explicit_start=True)
