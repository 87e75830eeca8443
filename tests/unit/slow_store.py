"""A rank of two, whose store gives rank 0 what it asks for only when every collective would have given up.

python slow_store.py RANK FOLDER
"""

from __future__ import annotations

import os
import sys
import threading
from datetime import timedelta
from pathlib import Path

import torch

from selfalign_jobs.train.saving import awaited, together

PATIENCE = timedelta(seconds=5)  # of a collective; in a training an hour


def main(rank: int, folder: Path) -> None:
    """Leave in the folder what this rank has heard of both: awaited, and, for the control, asked for inside a collective."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2, timeout=PATIENCE
    )

    def download() -> str:
        if rank == 0:
            threading.Event().wait(2 * PATIENCE.total_seconds())
        return f"of rank {rank}"

    said = [*together(awaited(download).result)]
    try:
        said += together(download)
    except RuntimeError:
        said.append("gave up")
    (folder / f"said-{rank}").write_text(", ".join(said))
    os._exit(0)  # a process group that has lost a member may not end by itself


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
