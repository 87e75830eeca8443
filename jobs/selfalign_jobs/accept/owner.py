"""Who owns a run's folder: the method that its artefacts were made by."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selfalign_api.digest import differing_fields
from selfalign_api.errors import ConfigError, refused_as
from selfalign_api.plan import Frozen, Json, Plan
from selfalign_jobs.places.store import Folder

OWNER = "owner.json"


class Owner(Frozen):
    """The file that says whose a folder is."""

    digest: str
    version: str
    method: dict[str, Json]  # resolved, with the digests of the sources


def claim(folder: Folder, plan: Plan, method: dict[str, Json]) -> bool:
    """Take a run's folder for this method; True when its artefacts are adopted, False when it is new.

    Raises ConfigError when another method owns it, naming the fields that differ.
    """
    if folder.exists(OWNER):
        owner = Owner.model_validate_json(folder.read(OWNER))
        if owner.digest != plan.digest:
            fields = ", ".join(differing_fields(owner.method, method))
            message = (
                f"{folder.place} holds another run's artefacts, which differ in {fields}; write another storage.url (or "
                "--out DIR on one machine), another metadata.name, or the values that it was made with"
            )
            with refused_as("StorageInUse"):
                raise ConfigError.one("spec.storage.url", message)
        return True
    folder.write(
        OWNER, Owner(digest=plan.digest, version=plan.version, method=method).model_dump_json(indent=1).encode()
    )
    return False


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold a run's folder on this machine; ConfigError when another `selfalign run` works in it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+") as lock:
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
