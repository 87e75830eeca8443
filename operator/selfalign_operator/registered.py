"""`selfalign render`: the operator's command, of which nothing is loaded before it is asked for."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path


def register(command: Callable[[str, str, Callable[[argparse.Namespace], int]], argparse.ArgumentParser]) -> None:
    """Add `render` (entry point group selfalign.commands)."""
    render = command("render", "Print the Kubernetes objects that a run becomes, without a cluster.", render_command)
    render.add_argument("file", type=Path, help="the run file, YAML")
    render.add_argument(
        "--config", type=Path, metavar="FILE", help="the operator's configuration: images, profiles, network (YAML)"
    )


def render_command(options: argparse.Namespace) -> int:
    """`selfalign render`."""
    from selfalign_operator.render import DEFAULT_CONFIG, read_config, rendered_text

    print(
        rendered_text(options.file, DEFAULT_CONFIG if options.config is None else read_config(options.config)), end=""
    )
    return 0
