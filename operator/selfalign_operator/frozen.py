"""What was resolved when a run began, read back from its ConfigMap, by whatever version of the operator it was written."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import BaseModel

from selfalign_api.errors import ConfigError
from selfalign_api.lenient import without_unknown
from selfalign_api.load import parse_spec
from selfalign_api.run import Spec
from selfalign_api.run_file import RunFile
from selfalign_api.status import PlanStatus
from selfalign_operator.effective import Frozen, Platform
from selfalign_operator.names import is_name_of_content
from selfalign_operator.packed import unpacked
from selfalign_operator.views import Manifest
from selfalign_operator.workloads.objects import PLATFORM_FILE, RUN_FILE

__all__ = ["frozen_of", "frozen_of_status"]

M = TypeVar("M", bound=BaseModel)
FORMAT = 1  # of the newest ConfigMap that this version reads


def frozen_of(manifest: Manifest) -> Frozen | str:
    """What such a ConfigMap holds, without the fields that this version does not know; or why it cannot be read, in words."""
    try:
        name, data = manifest["metadata"]["name"], manifest["data"]
        run, platform = data[RUN_FILE], json.loads(data[PLATFORM_FILE])
        if not is_name_of_content(name, run + data[PLATFORM_FILE]):
            return "has another content than its name says"
        if _format(platform) > FORMAT:
            return f"was written by a newer operator (format {_format(platform)}, and this one reads {FORMAT})"
        file = _read(RunFile, json.loads(run))
        spec = without_unknown(Spec, file.run["spec"])
        parse_spec(spec)
        return Frozen(name, data, file, _read(Platform, platform), spec)
    except (AttributeError, KeyError, TypeError, ValueError, ConfigError, RecursionError) as error:
        return f"is not as this operator reads it ({type(error).__name__})"


def frozen_of_status(plan: PlanStatus) -> Frozen | str:
    """What a ConfigMap held that is gone, by the status, which anybody may have edited; or that it is gone."""
    if plan.content is None:
        return "is gone"
    try:
        data = unpacked(plan.content)
    except ValueError:
        return "is gone, and status.plan.content is not as an operator writes it"
    found = frozen_of({"metadata": {"name": plan.config_map_name}, "data": data})
    return found if isinstance(found, Frozen) else f"is gone, and status.plan.content {found}"


def _read(model: type[M], data: Any) -> M:
    return model.model_validate_json(json.dumps(without_unknown(model, data)))


def _format(platform: Any) -> int:
    found = platform.get("format", FORMAT)
    return found if isinstance(found, int) else FORMAT
