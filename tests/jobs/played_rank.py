"""A rank of a training whose GPU is played: all that a real rank does on a CPU, and a gauge that says what a test wants.

`python -m played_rank WORK/job.json`. In PLAYED is a folder with `places`: a JSON list of the places that each rank has room
for; the rank leaves `rank-N.json` there: what it saw.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selfalign_jobs.train import rank

FOLDER = Path(os.environ["PLAYED"])
RANK = int(os.environ["RANK"])
CONSTANT, A_PLACE = 1_000_000, 1_000  # bytes of a pass
seen: dict[str, Any] = {"dummies": [], "scored": []}  # places of each dummy, trained on or only scored
to_come = [0]


class Gauge:
    """Of a GPU on which a micro batch of just so many places has room."""

    def free(self) -> int:
        places = json.loads((FOLDER / "places").read_text())[RANK]
        return to_come[-1] + round((CONSTANT + A_PLACE * places) / 0.85) + 1

    def taken(self, act: Callable[[], None]) -> int:
        act()
        return CONSTANT + A_PLACE * int((seen["dummies"] or seen["scored"])[-1])


def states(trainer: Any) -> int:
    """Bytes of the optimiser's states, those of single numbers left out."""
    import torch

    optimizer: Any = trainer.optimizer
    while hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    found = [value for state in optimizer.state.values() for value in state.values()]
    return sum(value.nbytes for value in found if isinstance(value, torch.Tensor) and value.numel() > 1)


def play() -> None:
    """Put the gauge in the GPU's place, and watch."""
    import torch

    from selfalign_jobs.train import work
    from selfalign_jobs.train.trainer import StepTrainer

    expected, export = work.states_to_come, work.Rank.export
    rehearse = StepTrainer.rehearse

    def noted(*given: Any) -> int:
        to_come.append(expected(*given))
        return to_come[-1]

    def watched(self: Any, micro: Any) -> None:
        rehearse(self, micro)
        seen["dummies"].append(micro.places)
        found = [p.grad for p in self.model.parameters() if p.grad is not None]
        seen["gradients"] = [len(found), max((float(grad.abs().max()) for grad in found), default=0.0)]

    def at_the_end(self: Any, trained: Any) -> None:
        seen.update(threads=torch.get_num_threads(), to_come=to_come[-1], states=states(trained))
        (FOLDER / f"rank-{RANK}.json").write_text(json.dumps(seen))
        export(self, trained)

    def scored_at(model: Any, micro: Any) -> Any:
        seen["scored"].append(micro.places)
        return scores(model, micro)

    scores = work.answer_scores
    for owner, name, played in (
        (work, "CudaGauge", Gauge),
        (work, "states_to_come", noted),
        (work, "answer_scores", scored_at),
        (work.Rank, "export", at_the_end),
        (StepTrainer, "rehearse", watched),
    ):
        setattr(owner, name, played)


if __name__ == "__main__":
    real = rank.environment

    def then_played(means: Any) -> None:
        real(means)
        play()

    rank.environment = then_played
    code = rank.main(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
