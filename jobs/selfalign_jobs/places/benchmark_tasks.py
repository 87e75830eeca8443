"""Tasks of lm-evaluation-harness: found by name, loaded with their data, and what they ask as a table.

The tasks' own code runs here, the harness's and that of a folder of the user's; the data are fetched as `datasets` does it. What
is asked depends on the tasks' data alone, on no model: it is the same for the model as given and for the trained one.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Mapping, Sequence
from contextlib import chdir
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from selfalign_api.errors import ConfigError
from selfalign_api.sources import BenchmarkTasks
from selfalign_jobs.recipes.benchmarks import REQUESTS, chat_context

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager

# As lm_eval's own command has them: tasks draw their examples, and some shuffle their choices.
SEEDS = {"python": 0, "numpy": 1234, "shots": 1234}
MOST_TOKENS = 256  # of what is written, where a task does not say; the harness's own
WRITES, LIKELY, ROLLING = "generate_until", "loglikelihood", "loglikelihood_rolling"


def requests_table(asked: BenchmarkTasks, folder: Path | None, field: str) -> pa.Table:
    """What these tasks ask, a row a request, in the harness's order. Raises ConfigError as `load_tasks`."""
    rows = []
    for name, task in load_tasks(asked, folder, field)["tasks"].items():
        try:
            task.build_all_requests(
                limit=asked.limit,
                rank=0,
                world_size=1,
                apply_chat_template=asked.chat,
                fewshot_as_multiturn=True,
                chat_template=chat_context if asked.chat else None,
            )
        except Exception as error:  # whatever a task's code does with its data
            raise _broken(field, name, error) from error
        for each in task.instances:
            context, text, settings = request_of(each.request_type, each.args)
            row = {"task": name, "doc": each.doc_id, "kind": each.request_type}
            rows += [{**row, "context": context, "text": text, "settings": settings}] * (each.repeats or 1)
    return pa.Table.from_pylist(rows, REQUESTS)


def request_of(kind: str, arguments: Sequence[Any]) -> tuple[str, str, str]:
    """A request of the harness as a row has it: context, text, and, of what is to be written, how."""
    if kind == ROLLING:
        return "", arguments[0], ""
    if kind == LIKELY:
        return arguments[0], arguments[1], ""
    return arguments[0], "", json.dumps(_settings(arguments[1]), sort_keys=True)


def load_tasks(asked: BenchmarkTasks, folder: Path | None, field: str) -> Any:
    """The tasks by name with their data, as lm_eval's own command loads them (`lm_eval.tasks.manager.TaskDict`).

    And under `asked` the tasks that each name stands for. Paths in the files of a folder are below that folder.

    Raises ConfigError for a name that is no task, one that cannot be asked here, and one whose files or data are broken;
    ConnectionError where its data cannot be reached now.
    """
    manager = _manager(folder, asked.tasks)
    if unknown := [name for name in asked.tasks if name not in manager.all_tasks]:
        raise ConfigError.one(f"{field}.tasks", _unknown(unknown[0], manager, folder), unknown[0])
    random.seed(SEEDS["python"])
    np.random.seed(SEEDS["numpy"])  # the generators that tasks use
    loaded: dict[str, Any] = {"tasks": {}, "groups": {}, "group_map": {}, "asked": {}}
    for name in asked.tasks:
        try:
            with chdir(Path.cwd() if folder is None else folder):
                found = manager.load([name])
        except ConnectionError:
            raise
        except Exception as error:  # whatever is wrong with a task's files or its data
            raise _broken(field, name, error) from error
        loaded["asked"][name] = tuple(found["tasks"])
        for part, entries in found.items():
            loaded[part] |= entries
    for name, task in loaded["tasks"].items():
        _refuse(name, task, field)
        if task.get_config("num_fewshot") is None or (asked.shots is not None and task.get_config("num_fewshot") != 0):
            task.set_config(key="num_fewshot", value=asked.shots or 0)  # a task that says 0 has none to show
        task.set_fewshot_seed(seed=SEEDS["shots"])
    return loaded


def _manager(folder: Path | None, tasks: Sequence[str]) -> TaskManager:
    """Of the folder alone where it has all of these as tasks; the harness's own are 14 000 files."""
    if folder is not None:
        own = _indexed(folder, package=False)
        if set(tasks) <= {*own.all_subtasks}:
            return own
    return _indexed(folder, package=True)


@lru_cache(maxsize=2)
def _indexed(folder: Path | None, *, package: bool) -> TaskManager:
    os.environ.setdefault("TQDM_DISABLE", "1")  # steps show their own progress
    from datasets import disable_progress_bars
    from lm_eval.tasks import TaskManager

    disable_progress_bars()
    return TaskManager(include_path=None if folder is None else str(folder), include_defaults=package)


def _unknown(name: str, manager: TaskManager, folder: Path | None) -> str:
    like = get_close_matches(name, manager.all_tasks, n=3)
    meant = f"did you mean {', '.join(like)}? " if like else ""
    where = "the harness" if folder is None else f"the harness and {folder}"
    return f"is no task, group or tag of {where}; {meant}lm_eval ls tasks prints the harness's own"


def _refuse(name: str, task: Any, field: str) -> None:
    """ConfigError for a task that runs what a model writes, or that shows it pictures."""
    if getattr(task, "UNSAFE_CODE", False):
        message = f"{name} runs the code that a model writes, which is not done here; remove it, and run it by lm_eval in a sandbox"
        raise ConfigError.one(f"{field}.tasks", message, name)
    if getattr(task, "MULTIMODAL", False):
        raise ConfigError.one(f"{field}.tasks", f"{name} shows more than text; remove it", name)


def _broken(field: str, name: str, error: Exception) -> ConfigError:
    said = " ".join(str(error).split())[:300]
    message = f"the task {name} cannot be read: {type(error).__name__}: {said}; mend its files, or remove it"
    return ConfigError.one(f"{field}.tasks", message, name)


def _settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """How an answer is written, as the harness understands what a task says of it."""
    from lm_eval.models.utils import normalize_gen_kwargs

    said = normalize_gen_kwargs(dict(given), default_max_gen_toks=MOST_TOKENS)
    return {
        "until": [each for each in said["until"] if each],
        "max_gen_toks": said["max_gen_toks"],
        "temperature": float(said.get("temperature") or 0.0),
        "top_p": float(said.get("top_p") or 1.0),
    }
