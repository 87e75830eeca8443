"""`python -m testbed build | prometheus | up | down`: the programs, and a cluster that stays for a person to try."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from testbed import prometheus
from testbed.binaries import NoBinaries, build
from testbed.standing import down, play, up


def main() -> int:
    """Runs one command; returns the exit code."""
    given = parser().parse_args()
    try:
        match given.command:
            case "build":
                build()
            case "prometheus":
                prometheus.fetch()
            case "up":
                build()
                up(given.folder.absolute(), with_operator=given.operator, default_rates=given.default_rates)
            case "play":
                play(given.folder.absolute(), given.gate)
            case "down":
                down(given.folder.absolute())
    except (NoBinaries, RuntimeError) as problem:
        print(f"testbed: {problem}", file=sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    whole = argparse.ArgumentParser(prog="python -m testbed", description=__doc__)
    commands = whole.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="build what is missing of the programs")
    commands.add_parser("prometheus", help="unpack Debian's Prometheus, unless there is one")
    start = commands.add_parser("up", help="start a cluster and leave it running")
    start.add_argument("--without-operator", dest="operator", action="store_false", help="you run your own")
    start.add_argument("--default-rates", action="store_true", help="the controllers as nobody has tuned them")
    player = commands.add_parser("play", help="run the programs of its pods (`up` starts this)")
    player.add_argument("--gate", required=True, help="where the apiserver looks for the way to pods")
    end = commands.add_parser("down", help="end it and remove its folder")
    for command in (start, player, end):
        command.add_argument("--folder", type=Path, default=Path("out/cluster"))
    return whole


if __name__ == "__main__":
    sys.exit(main())
