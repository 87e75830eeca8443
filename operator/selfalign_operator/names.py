"""Names of everything that the operator makes for a run.

Pure and stable: the same run, step and attempt always have the same name, so a creation that is repeated meets its own
object. The uid is in each name: a deleted run of the same name shares nothing with its successor.
"""

from __future__ import annotations

import re
from hashlib import sha256

WORKLOAD_MAX = 57  # a pod of an Indexed Job is called JOB-INDEX, its label at most 63 characters
RAYJOB_MAX = 47  # KubeRay 1.7 refuses longer ones: it makes the cluster's and the pods' names from it
BASE_MAX = 49  # a run's name (40, by a rule of the CRD), a hyphen, 8 hex
HASH_LENGTH = 8


def base_name(run: str, uid: str) -> str:
    """`RUN-<8 hex of the uid>`: name of the run's Service, and what every other name begins with."""
    return _cut(f"{_label(run)}-{_hash(uid)}", BASE_MAX)


def config_map_name(run: str, uid: str, content: str) -> str:
    """Name of the immutable ConfigMap with this content."""
    return f"{base_name(run, uid)}-{_hash(content)}"


def is_name_of_content(name: str, content: str) -> bool:
    """Whether a ConfigMap of this name was made with this content."""
    return name.endswith(f"-{_hash(content)}")


def ray_name(run: str, uid: str) -> str:
    """Name of the Secret with Ray's token, and of the NetworkPolicy."""
    return f"{base_name(run, uid)}-ray"


def pod_group_name(run: str, uid: str, size: int) -> str:
    """Name of the PodGroup of the run's gangs of so many pods."""
    return f"{base_name(run, uid)}-{size}"


def workload_name(
    run: str, uid: str, step: str, attempt: int, *, collect: bool = False, longest: int = WORKLOAD_MAX
) -> str:
    """Name of an attempt's workload, or of the Job that collects its result."""
    suffix = "-c" if collect else ""
    return _cut(f"{base_name(run, uid)}-{_label(step)}-{attempt}{suffix}", longest)


def volume_name(claim: str) -> str:
    """Name of the volume of a claim inside a pod: a claim's name may have dots and 253 characters."""
    return _cut(f"pvc-{_label(claim)}", 63)


def _label(text: str) -> str:
    """`text` if it is a DNS label that begins with a letter, whatever its length; else one made from it, with its hash."""
    if re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", text):
        return text
    legal = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return f"x-{legal}-{_hash(text)}" if legal else f"x-{_hash(text)}"


def _cut(name: str, longest: int) -> str:
    """`name`, or its beginning and end with its hash between: the end tells attempts apart."""
    if len(name) <= longest:
        return name
    kept = longest - HASH_LENGTH - 2
    end = kept // 2
    return f"{name[: kept - end].rstrip('-')}-{_hash(name)}-{name[-end:].lstrip('-')}"


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:HASH_LENGTH]
