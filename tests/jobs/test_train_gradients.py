"""Gradients of a step's micro batches add up in float32 in DeepSpeed's engines, whatever the model's precision."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from testbed.processes import free_port

pytestmark = pytest.mark.heavy
# 64 gradients of 2⁻⁹ after one of 1: in bfloat16 each of them is lost in rounding. The first two are of a loss that is 0.
PROGRAM = """
import json, sys
import torch
from selfalign_api.plan import TrainSettings
from selfalign_api.run_file import TrainingMeans
from selfalign_jobs.train.settings import deepspeed_config
from selfalign_jobs.train.work import _start_deepspeed

_start_deepspeed("CPU")
import deepspeed

found = {}
for stage in json.loads(sys.argv[1]):
    settings = TrainSettings(learning_rate=1, precision="bfloat16", max_gradient_norm=1e9)
    config = deepspeed_config(settings, TrainingMeans(device="CPU", nodes=2), stage)
    model = torch.nn.Linear(8, 8, bias=False)
    torch.nn.init.zeros_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    engine = deepspeed.initialize(model=model, optimizer=optimizer, config=config)[0]
    shares = [0.0, 0.0, 1.0, *[2.0**-9] * 64]
    for number, share in enumerate(shares, 1):
        engine.set_gradient_accumulation_boundary(number == len(shares))
        engine.backward(engine(torch.eye(8, dtype=torch.bfloat16)).sum() * share, scale_wrt_gas=False)
    engine.step()
    with deepspeed.zero.GatheredParameters(list(engine.module.parameters())):
        found[stage] = sorted(set(engine.module.weight.float().flatten().tolist()))
print(json.dumps(found))
"""


def test_what_is_small_beside_a_steps_first_gradient_is_not_lost() -> None:
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "DS_ACCELERATOR": "cpu",
        **dict.fromkeys(("RANK", "LOCAL_RANK"), "0"),
        "WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }
    done = subprocess.run([sys.executable, "-c", PROGRAM, "[1, 2, 3]"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {"1": [-1.125], "2": [-1.125], "3": [-1.125]}
