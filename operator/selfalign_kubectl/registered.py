"""`selfalign cluster …`: the plugin under the command `selfalign`, of which nothing is loaded before it is asked for."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def register(command: Callable[[str, str, Callable[[argparse.Namespace], int]], argparse.ArgumentParser]) -> None:
    """Add `cluster` (entry point group selfalign.commands)."""
    cluster = command("cluster", "The runs of a cluster: what `kubectl selfalign` does.", cluster_command)
    cluster.prefix_chars = "\0"  # whatever follows is the plugin's, its options too
    cluster.add_argument("arguments", nargs=argparse.REMAINDER)


def cluster_command(options: argparse.Namespace) -> int:
    """`selfalign cluster`."""
    from selfalign_kubectl.command import main

    return main(options.arguments)
