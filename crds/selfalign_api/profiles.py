"""Profiles: what a platform or a machine fills in where a run leaves its means open."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field

from selfalign_api.base import ApiModel, MapBy
from selfalign_api.errors import ConfigError
from selfalign_api.kubectl_yaml import read_yaml
from selfalign_api.life import Credential, Tracking
from selfalign_api.load import as_json, parse, parse_spec, read_file
from selfalign_api.means import Compute
from selfalign_api.merge import merge
from selfalign_api.method import Storage
from selfalign_api.run import Spec

__all__ = ["Profile", "load_profile", "profiles_file", "with_profile"]

DEFAULT_PROFILE = "default"


class Profile(ApiModel):
    """Partial values that stand below the run's own; lists replace."""

    compute: Compute | None = None
    """Where runs run."""

    storage: Storage | None = None
    """Where runs keep their artefacts."""

    credentials: Annotated[tuple[Credential, ...], Field(max_length=16), MapBy("urlPrefix")] | None = None
    """Which Secret opens which places."""

    tracking: Tracking | None = None
    """Where runs are shown beside one another."""

    gpu_hour_price: Annotated[float, Field(ge=0, examples=[2.5])] | None = None
    """What a GPU costs for an hour, in any currency: `selfalign estimate` multiplies by it."""


def profiles_file(environment: Mapping[str, str] = os.environ) -> Path:
    """`selfalign/profiles.yaml` under XDG_CONFIG_HOME, else under ~/.config: a map from profile name to `Profile`."""
    home = environment.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "selfalign" / "profiles.yaml"


def load_profile(name: str | None, environment: Mapping[str, str] = os.environ) -> Profile:
    """The profile of that name; None: the one named `default`, or an empty one where there is none.

    Raises ConfigError when a named profile is missing (naming those there are) or the file is not as it must be.
    """
    file = profiles_file(environment)
    profiles = read_yaml(read_file(file), str(file)) if file.exists() else None
    if profiles is not None and not isinstance(profiles, dict):
        raise ConfigError.one(str(file), "must be a map; write PROFILE: {compute: {...}}", profiles)
    known = profiles or {}
    wanted = DEFAULT_PROFILE if name is None else name
    if wanted in known:
        return parse(Profile, known[wanted] or {}, f"{file}: {wanted}")
    if name is None:
        return Profile()
    there = f"{file} has {', '.join(known)}" if known else f"there is none in {file}"
    raise ConfigError.one("spec.compute.profileName", f"names no profile ({there}); add it there or remove this", name)


def with_profile(spec: Spec, profile: Profile) -> Spec:
    """The spec with the profile's values wherever it leaves compute, storage, credentials or tracking open."""
    filled = set(Profile.model_fields) & set(Spec.model_fields)
    partial = profile.model_dump(mode="json", include=filled, exclude_unset=True, exclude_none=True)
    return parse_spec(merge(partial, as_json(spec)))
