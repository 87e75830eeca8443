"""One rank of a training: `python -m selfalign_jobs.train.rank WORK/job.json`, started by the elastic agent (launch.py)."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from contextlib import suppress
from pathlib import Path

from selfalign_jobs.train.job import Job, Outcome, outcome_of, reserve_outcome, write_outcome
from selfalign_jobs.train.settings import uses_deepspeed

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(path: Path) -> int:
    """Train, and leave the outcome in a file: the agent turns every exit code but 0 into the same failure.

    A stopped rank leaves with 0, so that the agent lets the others finish what they are at.
    """
    began = time.monotonic()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # a killed program leaves no rank behind
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    job = Job.model_validate_json(path.read_bytes())
    rank = int(os.environ["RANK"])
    reserve_outcome(job.folder, rank)
    try:
        _environment(job)
        from selfalign_jobs.train.work import work  # seconds of imports: only here, where signals are held already

        outcome = Outcome(rank=rank, kind="done", result=work(job, stop, began))
    except BaseException as error:
        outcome = outcome_of(rank, error)
        if outcome.kind in ("full", "failed", "lost"):  # its words go on, its frames stay in the log
            with suppress(OSError):
                traceback.print_exc()
    write_outcome(job.folder, outcome)
    return 0 if outcome.kind in ("done", "stopped") else 1


def _environment(job: Job) -> None:
    """What torch and its friends read when they are imported: local files only, nobody is told, no needless groups."""
    means = job.config.means.training
    os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", TOKENIZERS_PARALLELISM="false")
    if means.device == "CPU":
        os.environ["DS_ACCELERATOR"] = "cpu"
    if means.device == "GPU":  # each micro batch has another length
        os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    if not uses_deepspeed(means):
        # One rank: without these names Trainer makes no process group and wraps nothing in DDP.
        for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
            del os.environ[name]
        if means.device == "GPU":  # with several in sight Trainer would spread one process over them
            os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    logging.getLogger().setLevel(logging.WARNING)
    # Trainer counts micro batches itself and leaves accelerate's plugin at 1, which accelerate remarks on each time.
    logging.getLogger("accelerate.accelerator").setLevel(logging.ERROR)
    # DeepSpeed 0.19 calls collectives by names that torch 2.13 deprecates.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed\.c10d_logger")


if __name__ == "__main__":
    code = main(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads of the collectives must not hold a rank that has said how it ended
