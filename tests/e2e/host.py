"""This machine's programs for step pods: its folders by read-only claims, in place of an image of 6 GB.

The restricted standard refuses hostPath in a pod; a claim may lead to one.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from testbed.standing import REPOSITORY


def host_folders() -> dict[str, Path]:
    """Claim -> folder, which the pods have at the same place: programs, this Python, the environment, the source."""
    wanted = {
        "host-usr": Path("/usr"),
        "host-python": Path(sys.base_prefix),
        "host-source": REPOSITORY,
        "host-environment": Path(sys.prefix),
    }
    return {
        claim: folder
        for claim, folder in wanted.items()
        if not any(folder.is_relative_to(other) for other in wanted.values() if other != folder)
    }


def pod_template() -> dict[str, Any]:
    """The part of a pod template that brings them."""
    folders = host_folders()
    step = {
        "name": "step",
        "env": [{"name": "PATH", "value": f"{sys.prefix}/bin:/usr/bin:/bin"}],
        "volumeMounts": [
            {"name": claim, "mountPath": str(folder), "readOnly": True} for claim, folder in folders.items()
        ],
    }
    volumes = [{"name": claim, "persistentVolumeClaim": {"claimName": claim, "readOnly": True}} for claim in folders]
    return {"spec": {"containers": [step], "volumes": volumes}}
