"""One rank of a training: `python -m selfalign_jobs.train.rank WORK/job.json`, started by the elastic agent (launch.py)."""

from __future__ import annotations

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

from selfalign_api.run_file import TrainingMeans
from selfalign_jobs.machine import OPENMP
from selfalign_jobs.step.parent import end_with_parent
from selfalign_jobs.train.job import Job, Outcome, outcome_of, reserve_outcome, write_outcome
from selfalign_jobs.train.settings import uses_deepspeed

# torch reads the first that is there
ALLOCATOR = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF", "PYTORCH_ALLOC_CONF")


def main(path: Path) -> int:
    """Train, and leave the outcome in a file: the agent turns every exit code but 0 into the same failure.

    A stopped rank leaves with 0, so that the agent lets the others finish what they are at.
    """
    began = time.monotonic()
    end_with_parent(signal.SIGKILL)  # a killed program leaves no rank behind
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    job = Job.model_validate_json(path.read_bytes())
    rank = int(os.environ["RANK"])
    reserve_outcome(job.folder, rank)
    try:
        environment(job.config.means.training)
        from selfalign_jobs.train.work import work  # seconds of imports: only here, where signals are held already

        outcome = Outcome(rank=rank, kind="done", result=work(job, stop, began))
    except BaseException as error:
        outcome = outcome_of(rank, error)
        if outcome.kind in ("full", "failed", "lost"):  # its words go on, its frames stay in the log
            with suppress(OSError):
                traceback.print_exc()
    write_outcome(job.folder, outcome)
    return 0 if outcome.kind in ("done", "stopped") else 1


def environment(means: TrainingMeans) -> None:
    """What torch and its friends read when they are imported: local files only, nobody is told, no needless groups."""
    os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", TOKENIZERS_PARALLELISM="false")
    if means.device == "CPU":
        os.environ.update(OPENMP, DS_ACCELERATOR="cpu")
    if means.device == "GPU" and not any(name in os.environ for name in ALLOCATOR):
        os.environ["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"  # each micro batch has another length
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
