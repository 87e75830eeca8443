"""DeepSpeed's engines as we set them up: gradients add up in float32, and a reference that has scored is let go."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import trainings

from testbed.processes import free_port

pytestmark = pytest.mark.heavy
# 64 gradients of 2⁻⁹ after one of 1: in bfloat16 each of them is lost in rounding. The first two are of a loss that is 0.
GRADIENTS = """
import json, sys
import torch
from selfalign_api.training_values import TrainSettings
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


RELEASED = """
import gc, sys, weakref
from pathlib import Path
import torch
from selfalign_api.training_values import TrainSettings
from selfalign_api.run_file import TrainingMeans
from selfalign_jobs.train import policy
from selfalign_jobs.train.settings import deepspeed_config
from selfalign_jobs.train.work import _start_deepspeed

_start_deepspeed("CPU")
from transformers.integrations import HfDeepSpeedConfig

settings, means = TrainSettings(learning_rate=1), TrainingMeans(device="CPU", nodes=2)
sharded = HfDeepSpeedConfig(deepspeed_config(settings, means, 3))
model = policy.load(Path(sys.argv[1]), torch.bfloat16, remote_code=False)
parameters = [weakref.ref(parameter) for parameter in model.parameters()]
engine = policy.inference_engine(model, settings, means, 3)
del model
with torch.no_grad():
    engine(torch.arange(10)[None])
policy.release(engine)
del engine
gc.collect()
print(len(parameters) > 0, sum(parameter() is not None for parameter in parameters))
"""


def said(program: str, argument: str) -> str:
    """The last line of a program that is the only rank of a group."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "DS_ACCELERATOR": "cpu",
        **dict.fromkeys(("RANK", "LOCAL_RANK"), "0"),
        **dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), "1"),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }
    done = subprocess.run([sys.executable, "-c", program, argument], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()[-1]


def test_what_is_small_beside_a_steps_first_gradient_is_not_lost() -> None:
    found = json.loads(said(GRADIENTS, "[1, 2, 3]"))
    assert found == {"1": [-1.125], "2": [-1.125], "3": [-1.125]}


def test_a_reference_under_zero_3_leaves_no_parameter_behind() -> None:
    assert said(RELEASED, str(trainings.MODEL)) == "True 0"
