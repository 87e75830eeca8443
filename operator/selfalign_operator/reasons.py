"""Reasons of events, and of the conditions that they tell of: typed, so that none is misspelt."""

from __future__ import annotations

from typing import Literal

__all__ = ["EventReason"]

EventReason = Literal[
    "Accepted", "StepStarted", "StepSucceeded", "StepReused", "IterationFinished", "Suspended", "Resumed",
    "EndedEarly", "Completed", "StepRetrying", "Held", "HeldBefore", "Failed", "StatusRepaired", "OneNodeVolume", "StatusRefused",
    "InvalidSpec", "ModelPathNotMounted", "UnsupportedKubernetes", "NameConflict", "ProfileNotFound", "SecretNotFound",
    "ClaimNotFound", "ModelNotFound", "DataNotFound", "StorageInUse", "RayJobNotInstalled", "PodGroupNotInstalled",
    "Unschedulable", "ImagePullFailed", "OutOfMemory", "QuotaExceeded", "PodRejected", "StorageUnavailable", "Stalled",
    "NodeLost", "GangNotPlaced", "NotStarted", "PlanLost", "ResultMissing", "SecondLook", "TtlUnderApplier",
]  # fmt: skip
