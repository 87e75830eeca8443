"""Layout, attention, scores and losses need torch and transformers only: so does benchmarks/gpu/train.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
ABSENT = (
    "accelerate", "datasets", "deepspeed", "peft", "psutil", "pyarrow", "pydantic", "pynvml", "ray", "rich", "trl", "vllm",
)  # fmt: skip
PROGRAM = f"""
import runpy, sys
sys.modules.update(dict.fromkeys({ABSENT!r}))  # importing one fails, and nobody finds it
sys.path.insert(0, {str(ROOT / "benchmarks/gpu")!r})
found = runpy.run_path({str(ROOT / "benchmarks/gpu/train.py")!r}, run_name="bare")
print([words.split("failed")[0] for name, words in found["kernel_rows"]("cpu")])
print(found["row_of"]("TRL", None, None, "cpu", 1.0))
print({{"selfalign_api"}} & set(sys.modules))
"""


def test_kernels_are_held_to_their_oracle_where_nothing_else_is_installed() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kernels, beside, ours = done.stdout.splitlines()[-3:]
    assert kernels.count("at most") == 7
    assert "**" not in kernels
    for kind in ("window None, soft cap None", "window 24, soft cap None", "window 24, soft cap 50.0"):
        assert kind in kernels
    assert beside == "not installed"
    assert ours == "set()"
