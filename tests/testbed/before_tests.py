"""What tests need is there before the first of them starts: a test's timeout does not count its building."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from testbed.binaries import NoBinaries
from testbed.machine import NoNode


def before_tests(
    config: pytest.Config, items: list[pytest.Item], place: Path, prepare: Callable[[], None], lacking: str
) -> None:
    """Calls `prepare` for the tests in `place`, a folder or a file; its output shows.

    Where this machine cannot, they skip, saying so in one line. With CI=true what needs it fails, saying why.
    """
    ours = [item for item in items if item.path.is_relative_to(place)]
    if not ours or config.option.collectonly:
        return
    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        try:
            prepare()
        except (NoNode, NoBinaries) as problem:
            if os.environ.get("CI") == "true":
                return
            for item in ours:
                item.add_marker(pytest.mark.skip(reason=f"{lacking}: {problem}"))
