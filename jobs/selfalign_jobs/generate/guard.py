"""What an engine's process leaves when it is killed: nothing.

Ray kills an actor by SIGKILL. The children that vLLM has for further GPUs watch for their parent's end only once they have
loaded their weights, so those of a large model would hold its GPUs for minutes, and the next engine would not start. A
guard beside the actor waits for its end, and kills its process group.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from contextlib import suppress


def guard_children() -> None:
    """From now on no child of this process, started in whatever way, outlives it."""
    with suppress(PermissionError):  # it leads a session, and a group of its own already
        os.setpgid(0, 0)
    command = [sys.executable, "-SEP", __file__, str(os.getpid())]  # it wants nothing but the standard library
    guard = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    assert guard.stdout is not None
    guard.stdout.readline()  # it watches


def main(leader: int) -> None:
    """Wait for the end of a process, then end its group."""
    watched = os.pidfd_open(leader)
    print("watching", flush=True)
    select.select([watched], [], [])
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]))
