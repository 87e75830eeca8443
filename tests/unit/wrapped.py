"""A program of ours with what a test needs around it: steps played by light_step.py, a halt at a named moment.

    python wrapped.py [--light-steps] [--halt MOMENT FILE] selfalign … | step …

MOMENT is `module` (as it is imported) or `module:function` (as it is called). There the program makes FILE and waits until
it is gone: a signal that comes meanwhile comes at that moment.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import runpy
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

STEP = Path(__file__).with_name("light_step.py")


class Hook(importlib.abc.MetaPathFinder):
    """Acts before a module is imported, or on the module after."""

    def __init__(self) -> None:
        self.before: dict[str, Callable[[], None]] = {}
        self.after: dict[str, list[Callable[[Any], None]]] = defaultdict(list)

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name in self.before:
            self.before.pop(name)()
        if name not in self.after:
            return None
        acts = self.after.pop(name)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        loader: Any = spec.loader
        execute = loader.exec_module

        def exec_module(module: Any) -> None:
            execute(module)
            for act in acts:
                act(module)

        loader.exec_module = exec_module
        return spec


def halt(file: Path) -> None:
    file.touch()
    while file.exists():
        time.sleep(0.01)


def halt_at(hook: Hook, moment: str, file: Path) -> None:
    module, _, function = moment.partition(":")
    if not function:
        hook.before[module] = partial(halt, file)
        return

    def wrap(loaded: Any) -> None:
        whole = getattr(loaded, function)

        def halted(*arguments: Any, **named: Any) -> Any:
            halt(file)
            return whole(*arguments, **named)

        setattr(loaded, function, halted)

    hook.after[module].append(wrap)


def light_steps(cli: Any) -> None:
    cli.LocalRun = partial(cli.LocalRun, program=(sys.executable, str(STEP)))


def main() -> None:
    arguments = sys.argv[1:]
    hook = Hook()
    sys.meta_path.insert(0, hook)
    if arguments[0] == "--light-steps":
        hook.after["selfalign_jobs.local.cli"].append(light_steps)
        arguments = arguments[1:]
    if arguments[0] == "--halt":
        halt_at(hook, arguments[1], Path(arguments[2]))
        arguments = arguments[3:]
    sys.argv = arguments
    module = {"selfalign": "selfalign_jobs.local.start", "step": "selfalign_jobs"}[arguments[0]]
    runpy.run_module(module, run_name="__main__")


main()
