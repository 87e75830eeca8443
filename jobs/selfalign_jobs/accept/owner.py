"""Who owns a run's folder: the method that its artefacts were made by."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selfalign_api.digest import differing_fields
from selfalign_api.errors import ConfigError, refused_as
from selfalign_api.plan import Plan
from selfalign_api.plan_values import Frozen, Json
from selfalign_jobs.places.store import PLAN_FILE, Folder, read_json, read_plan

OWNER = "owner.json"
ELSEWHERE = "write another storage.url (or --out DIR on one machine), another metadata.name"


class Owner(Frozen):
    """The file that says whose a folder is."""

    digest: str
    version: str
    method: dict[str, Json]  # resolved, with the digests of the sources


def claim(folder: Folder, plan: Plan, method: dict[str, Json]) -> bool:
    """Take a run's folder for this method; True when its artefacts are adopted, False when it is new.

    Raises ConfigError when another method owns it, naming the fields that differ, or when nobody can say whose it is.
    """
    with refused_as("StorageInUse"):
        owned = _is_ours(folder, plan, method)
    if not owned or not folder.exists(OWNER):
        owner = Owner(digest=plan.digest, version=plan.version, method=method)
        folder.write(OWNER, owner.model_dump_json(indent=1).encode())
    return owned


def read_owner(folder: Folder) -> Owner:
    """Whose a folder is; FileNotFoundError for one of nobody's, ConfigError for a broken file."""
    mend = f"put it back from a copy, or delete it where {PLAN_FILE} beside it is whole; else {ELSEWHERE}"
    return read_json(folder, OWNER, Owner, mend)


def _is_ours(folder: Folder, plan: Plan, method: dict[str, Json]) -> bool:
    """Whether the folder is this method's; False for one of nobody's. ConfigError for another's."""
    if folder.exists(OWNER):
        owner = read_owner(folder)
        if owner.digest != plan.digest:
            raise _others(folder, f"which differ in {', '.join(differing_fields(owner.method, method))}")
        return True
    if not folder.exists(PLAN_FILE):
        return False
    if read_plan(folder).digest != plan.digest:
        raise _others(folder, f"as its {PLAN_FILE} says")
    return True


def _others(folder: Folder, how: str) -> ConfigError:
    message = f"{folder.place} holds another run's artefacts, {how}; {ELSEWHERE}, or the values that it was made with"
    return ConfigError.one("spec.storage.url", message)


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold a run's folder on this machine; ConfigError when another `selfalign run` works in it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+", encoding="utf-8", errors="replace") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            message = f"another selfalign run (process {lock.read().strip()}) works in {folder}; wait for it or stop it"
            raise ConfigError.one("--out", message) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
