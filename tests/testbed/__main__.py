"""`python -m testbed build | up | down`: the programs, and a cluster that stays for a person to try."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

from testbed.binaries import NoBinaries, binary, build
from testbed.cluster import Cluster
from testbed.processes import stop_by_pid

REPOSITORY = Path(__file__).parents[2]
CRD = REPOSITORY / "crds" / "selfalignmentruns.yaml"


def main() -> int:
    """Runs one command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m testbed", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="build what is missing of the programs")
    for name, explanation in (("up", "start a cluster and leave it running"), ("down", "end it and remove its folder")):
        command = commands.add_parser(name, help=explanation)
        command.add_argument("--folder", type=Path, default=Path("out/cluster"))
    arguments = parser.parse_args()
    try:
        if arguments.command == "down":
            down(arguments.folder.absolute())
            return 0
        build()
        if arguments.command == "up":
            up(arguments.folder.absolute())
    except (NoBinaries, RuntimeError) as problem:
        print(f"testbed: {problem}", file=sys.stderr)
        return 1
    return 0


def up(folder: Path) -> None:
    """Starts a cluster in `folder` that goes on after us, in place of one that is there."""
    down(folder)
    folder.mkdir(parents=True)
    start = time.monotonic()
    cluster = Cluster(folder, outlives_us=True)
    pids = {process.name: process.pid for process in cluster.control_plane.processes}
    (folder / "pids.json").write_text(json.dumps(pids))
    cluster.kubectl("apply", "--server-side", "-f", str(CRD))
    print(
        f"A cluster with two nodes of 8 GPUs (played by KWOK) is up after {time.monotonic() - start:.0f} s. To look around:\n"
    )
    print(f"  export KUBECONFIG={folder}/kubeconfig PATH={binary('kubectl').parent}:$PATH")
    print("  kubectl get nodes\n")
    print("`make cluster-down` ends it.")


def down(folder: Path) -> None:
    """Ends the cluster in `folder`, if there is one, and removes the folder."""
    pids = folder / "pids.json"
    if pids.exists():
        for pid in json.loads(pids.read_text()).values():
            stop_by_pid(pid, mark=str(folder))
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
