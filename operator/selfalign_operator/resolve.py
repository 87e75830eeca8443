"""From a run as it stands in the cluster to the run as it counts."""

from __future__ import annotations

from typing import Any

from selfalign_api.cluster import ProfileNotFound, effective_spec, profile_of, resolve_on_cluster
from selfalign_api.errors import ConfigError, Problem
from selfalign_api.load import parse_spec
from selfalign_api.merge import merge
from selfalign_api.operator_config import OperatorConfig
from selfalign_api.plan import digest_of
from selfalign_api.platform import claims_of
from selfalign_api.profiles import DEFAULT_PROFILE
from selfalign_api.run import LIFE_FIELDS
from selfalign_operator.credentials import refuse_shadowing
from selfalign_operator.effective import EffectiveRun, Frozen, Platform, RunError
from selfalign_operator.kube.nesting import MAX_DEPTH, is_cut
from selfalign_operator.places import mount_path, refuse_unmounted, url_in_pod
from selfalign_operator.views import RunView
from selfalign_operator.workloads.owned import refuse_owned_fields


def effective_run(run: RunView, config: OperatorConfig, frozen: Frozen | None = None) -> EffectiveRun:
    """The run with its profile's values. Its spec may be anything: it is checked here, once more.

    What was resolved before (`frozen`) stands: the method for ever, compute until the run changes it. How a run lives is
    always what it says now. Raises ConfigError with all that is wrong, as RunError where Accepted has a reason for it.
    """
    if frozen is not None and is_resolved(run, frozen):
        return as_resolved(run, config, frozen)
    _refuse_unread(run, config)
    config = config.of_namespace(run.namespace, run.namespace_labels)
    written = run.spec if frozen is None else _with_own_compute(run, frozen)
    if is_cut(written):
        raise ConfigError.one("spec", f"is nested deeper than {MAX_DEPTH} levels; write it flatter")
    try:
        spec = effective_spec(written, config)
    except ProfileNotFound as error:
        raise RunError("ProfileNotFound", error.problems) from None
    refuse_owned_fields(spec.compute)
    refuse_unmounted(spec)
    refuse_shadowing(spec)
    assert spec.storage is not None and spec.storage.url is not None  # effective_spec refuses a run without
    mounts = {claim: mount_path(claim) for claim in claims_of(spec)}
    profile = profile_of(spec, config)
    return EffectiveRun(
        namespace=run.namespace,
        name=run.name,
        uid=run.uid,
        labels=run.labels,
        annotations=run.annotations,
        spec=spec,
        means=resolve_on_cluster(spec.compute, keep_checkpoints=spec.storage.keep_checkpoints or 1),
        storage=f"{url_in_pod(spec.storage.url, mounts).rstrip('/')}/{run.namespace}/{run.name}",
        reuse_from=tuple(url_in_pod(url, mounts) for url in spec.storage.reuse_from or ()),
        mounts=mounts,
        platform=Platform(
            compute_digest=_digest(run.spec.get("compute")),
            images=config.images if frozen is None else frozen.platform.images,
            gpu_resource_name=profile.gpu_resource_name,
            gpu_claim_template_name=profile.gpu_claim_template_name,
            capabilities=profile.capabilities,
            host_network=profile.host_network,
            disruption_budget=profile.disruption_budget,
            gang_scheduling=profile.gang_scheduling,
            credentials=profile.credentials or (),
            tracking=profile.tracking,
            propagate_labels=profile.propagate_labels,
        ),
        config=config,
    )


def is_resolved(run: RunView, frozen: Frozen | None) -> bool:
    """Whether what was resolved before stands: the run has not changed its compute."""
    return frozen is not None and frozen.platform.compute_digest == _digest(run.spec.get("compute"))


def _refuse_unread(run: RunView, config: OperatorConfig) -> None:
    """A profile that is chosen by labels which cannot be read is not left out in silence."""
    if run.namespace_labels is not None:
        return
    compute = run.spec.get("compute")
    named = compute.get("profileName") if isinstance(compute, dict) else None
    wanted = DEFAULT_PROFILE if named is None else named
    profile = config.profiles.get(wanted) if isinstance(wanted, str) else None
    if profile is not None and profile.namespace_selector is not None:
        said = (
            f"profile {wanted} is for namespaces by their labels, and the operator may not get namespace {run.namespace}; the "
            "platform gives it that right there (the chart's roles have it), or names namespaces in the profile"
        )
        raise RunError("ProfileNotFound", [Problem("spec.compute.profileName", named, said)])


def as_resolved(run: RunView, config: OperatorConfig, frozen: Frozen) -> EffectiveRun:
    """The run as it was resolved; of its spec only how it lives is read."""
    file, platform = frozen.run_file, frozen.platform
    profile = platform.model_dump(mode="json", by_alias=True, include={"credentials", "tracking"}, exclude_none=True)
    return EffectiveRun(
        namespace=run.namespace,
        name=run.name,
        uid=run.uid,
        labels=run.labels,
        annotations=run.annotations,
        spec=parse_spec(merge(profile, dict(frozen.spec) | _life(run))),
        means=file.means,
        storage=file.storage,
        reuse_from=file.reuse_from,
        mounts=file.mounts,
        platform=platform,
        config=config,
        frozen=frozen,
    )


def _with_own_compute(run: RunView, frozen: Frozen) -> dict[str, Any]:
    """The spec whose compute is resolved anew: the method stays what it was, with the profile's storage of then."""
    method = {field: value for field, value in frozen.run_file.run["spec"].items() if field != "compute"}
    return method | _life(run) | ({"compute": run.spec["compute"]} if "compute" in run.spec else {})


def _life(run: RunView) -> dict[str, Any]:
    return {field: run.spec[field] for field in LIFE_FIELDS if run.spec.get(field) is not None}


def _digest(compute: Any) -> str:
    try:
        return digest_of(compute)
    except RecursionError:
        raise ConfigError.one("spec.compute", "the nesting is too deep; write it flatter") from None
