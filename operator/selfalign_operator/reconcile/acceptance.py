"""Before the first Job: is the run one that can be run here at all? Shown in the condition Accepted."""

from __future__ import annotations

from selfalign_api.errors import ConfigError
from selfalign_api.status import StepKind, StepStatus
from selfalign_operator.effective import EffectiveRun, RunError
from selfalign_operator.reasons import EventReason
from selfalign_operator.reconcile.plan import look_for_plan
from selfalign_operator.reconcile.steps import attempt_of, current_step, fail
from selfalign_operator.reconcile.turn import Turn
from selfalign_operator.views import ClaimView

__all__ = ["acceptable", "readable", "refused"]

NOT_VALID = (400, 413, 422)  # a field of another type is a bad request, and so is too large an object
CHECK_AGAIN_SECONDS = 30.0
LABELS_AGAIN_SECONDS = 300.0  # nobody tells of a namespace that has another label now
UNREADABLE = ("InvalidSpec", "ProfileNotFound", "ModelPathNotMounted")  # what `readable` says
NO_RAYJOB: tuple[EventReason, str] = (
    "RayJobNotInstalled",
    "this cluster has no RayJob (ray.io/v1); install KubeRay, or write compute.generation.runtime: Gang",
)
NO_POD_GROUP = (
    "this cluster has no PodGroup ({}), which the run's profile asks for; the platform installs that scheduler and its CRDs, "
    "or removes gangScheduling from the profile"
)
# What Argo CD and Flux write on all that they keep as it stands in a repository.
APPLIERS = (
    "argocd.argoproj.io/tracking-id",
    "argocd.argoproj.io/instance",
    "kustomize.toolkit.fluxcd.io/name",
    "helm.toolkit.fluxcd.io/name",
)
# One Job of each kind is shown to the apiserver before anything starts: a podTemplate is free in the schema. What steps the
# plan has is not known yet.
KINDS: tuple[StepKind, ...] = ("generate", "train", "evaluate")
TRIED = tuple(StepStatus(name=kind, kind=kind, iteration=1) for kind in KINDS)


def readable(turn: Turn) -> bool:
    """The spec and its profile, typed. A run that is not valid waits for a valid spec, or for its profile."""
    run = turn.observed.run
    try:
        turn.effective = turn.render.effective(run, turn.config, turn.observed.frozen)
    except RunError as error:
        if error.reason == "ProfileNotFound" and turn.config.asks_for_labels:
            turn.look_again(LABELS_AGAIN_SECONDS)
        return _not_accepted(turn, error.reason, str(error))
    except ConfigError as error:
        return _not_accepted(turn, "InvalidSpec", str(error))
    turn.spec = turn.effective.spec
    look_for_plan(turn)
    accepted = turn.status.condition("Accepted")
    if len(turn.status.steps) > 1 and accepted is not None and accepted.reason in UNREADABLE:
        turn.condition("Accepted", "True", "Accepted", "the spec is valid again")
    return False


def _not_accepted(turn: Turn, reason: EventReason, message: str) -> bool:
    progressing = turn.status.condition("Progressing")
    if progressing is None or progressing.reason == "Pending":  # the column Message of `kubectl get` is this one's
        turn.condition("Progressing", "Unknown", "Pending", message)
    if turn.condition("Accepted", "False", reason, message):
        turn.warn(reason, message)
    return True


def acceptable(turn: Turn) -> bool:
    """What the cluster must have: the claims, KubeRay where it is asked for. Only until the run is accepted."""
    assert turn.effective is not None
    if turn.status.is_true("Accepted") or (step := current_step(turn)) is None or step.workload is not None:
        return False
    if _had_begun(turn, step):
        turn.look_again(0.0)
        return True
    for found in (_claims(turn, turn.effective), _rayjob(turn, turn.effective)):
        if found is not None:
            turn.look_again(CHECK_AGAIN_SECONDS)
            return _not_accepted(turn, *found)
    if step.attempts == 0:
        _warn_of_one_node(turn, turn.effective)
        _warn_of_applier(turn)
        turn.dry_run(*(turn.render.workload(turn.effective, attempt_of(step, 1)) for step in TRIED))
    return False


def _had_begun(turn: Turn, step: StepStatus) -> bool:
    """Whether an attempt was under way, or the run had failed, when this was observed: no claim was looked up then."""
    seen = turn.observed.run.status
    same = seen.step(step.name)
    return seen.is_true("Failed") or (same is not None and same.workload is not None)


def _claims(turn: Turn, effective: EffectiveRun) -> tuple[EventReason, str] | None:
    for name in effective.mounts:
        if name not in turn.observed.claims:
            continue  # not looked up: in this turn a Job of accept has just ended
        claim = turn.observed.claims[name]
        if claim is None:
            return (
                "ClaimNotFound",
                f"there is no PersistentVolumeClaim {name} in namespace {effective.namespace}; create it",
            )
        if (said := _access(claim, effective)) is not None:
            return said
    return None


def _access(claim: ClaimView, effective: EffectiveRun) -> tuple[EventReason, str] | None:
    """ReadWriteOncePod can never serve a gang; ReadWriteOnce can, on one node (`_warn_of_one_node`)."""
    pods = _most_pods(effective)
    if pods > 1 and claim.access_modes == ("ReadWriteOncePod",):
        message = (
            f"PersistentVolumeClaim {claim.name} is ReadWriteOncePod, and this run has steps of {pods} pods; "
            "take a ReadWriteMany claim or a bucket, or one pod a step"
        )
        return "InvalidSpec", message
    return None


def _most_pods(effective: EffectiveRun) -> int:
    """Pods of the largest step."""
    means = effective.means
    return max(means.generation.pods, means.training.nodes, means.evaluation.pods)


def _warn_of_one_node(turn: Turn, effective: EffectiveRun) -> None:
    """Said once, with the first attempt: such a run works, but only where one node has room for all its pods."""
    claims = [turn.observed.claims.get(name) for name in effective.mounts]
    narrow = [claim.name for claim in claims if claim is not None and claim.access_modes == ("ReadWriteOnce",)]
    if narrow and _most_pods(effective) > 1:
        turn.warn(
            "OneNodeVolume",
            f"PersistentVolumeClaim {', '.join(narrow)} is ReadWriteOnce, and this run has steps of {_most_pods(effective)} "
            "pods: all of them must find room on one node; take a ReadWriteMany claim or a bucket",
        )


def _warn_of_applier(turn: Turn) -> None:
    """Said once: a run that its time to live deletes is made anew by whoever keeps it as it stands in a repository."""
    run = turn.observed.run
    marks = [mark for mark in APPLIERS if mark in run.labels or mark in run.annotations]
    if marks and run.spec.get("ttlSecondsAfterFinished") is not None:
        turn.warn(
            "TtlUnderApplier",
            f"{marks[0]} says that a GitOps tool keeps this run: once ttlSecondsAfterFinished deletes it, that tool makes it "
            "anew, and it runs again; remove ttlSecondsAfterFinished, and delete the run in its repository",
        )


def _rayjob(turn: Turn, effective: EffectiveRun) -> tuple[EventReason, str] | None:
    compute = effective.spec.compute
    runtime = compute.generation.runtime if compute and compute.generation else None
    if runtime != "RayJob" or turn.observed.rayjob_installed:
        return None
    return NO_RAYJOB


def refused(turn: Turn) -> bool:
    """What the apiserver did not take; nothing of this turn's creations counts."""
    if not turn.observed.refusals:
        return False
    refusal = turn.observed.refusals[0]
    turn.look_again(CHECK_AGAIN_SECONDS)
    kind, name = refusal.manifest["kind"], refusal.manifest["metadata"]["name"]
    if refusal.code == 409:
        message = f"{kind} {name} is there and not this run's; rename or delete it"
        return _not_accepted(turn, "NameConflict", message)
    if refusal.code == 404 and kind == "RayJob":
        return _not_accepted(turn, *NO_RAYJOB)
    if refusal.code == 404 and kind == "PodGroup":
        return _not_accepted(turn, "PodGroupNotInstalled", NO_POD_GROUP.format(refusal.manifest["apiVersion"]))
    if refusal.code in NOT_VALID:
        return _invalid(turn, f"the cluster refuses {kind} {name}: {refusal.message}")
    if refusal.code == 403 and "exceeded quota" in refusal.message:
        return _not_progressing(turn, "QuotaExceeded", f"{kind} {name}: {refusal.message}; raise the quota, or wait")
    return _not_progressing(turn, "PodRejected", f"{kind} {name}: {refusal.message}")


def _invalid(turn: Turn, message: str) -> bool:
    """Before the run is accepted its spec can be mended by a new run; later its workload is what is wrong."""
    if not turn.status.is_true("Accepted"):
        return _not_accepted(turn, "InvalidSpec", f"{message}; mend spec.compute.podTemplate or resources")
    fail(turn, "WorkloadRejected", message)
    return True


def _not_progressing(turn: Turn, reason: EventReason, message: str) -> bool:
    if turn.condition("Progressing", "False", reason, message):
        turn.warn(reason, message)
    return True
