"""What a GPU's machine and the network have that this one lacks: a driver, the models and data of the examples."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from testbed.buckets import amazon
from testbed.hub import hub
from testbed.loopback import Loopback
from testbed.standing import EXAMPLE_MODEL

HERE = Path(__file__).parent
CONFIGS = HERE / "configs"  # of the real models
LLAMA, GEMMA = "Meta-Llama-3-8B-Instruct", "gemma-2-9b-it"
SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "tie_word_embeddings", "vocab_size")
TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")
TOKEN = "hf_played"
ROWS = 61_000  # as many as an example draws, and what its evaluation sets apart
PERSONAS = [f"a quiet baker who counts {number} loaves" for number in range(ROWS)]
COMPILE = """
import subprocess
for library in ("nvidia-ml", "cuda"):
    source = f"/mnt/selfalign/driver/{library}.c"
    out = f"/mnt/selfalign/driver/lib{library}.so.1"
    subprocess.run(["gcc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", out, source], check=True)
"""


def driver(**played: str) -> dict[str, str]:
    """The variables of a pod on a node with a GPU: where its driver's libraries are, and what the driver says."""
    folder = "/mnt/selfalign/driver"
    told = {f"PLAYED_{name.upper()}": value for name, value in played.items()}
    # torch asks the driver's libcuda, which knows of no device, unless it is told to ask NVML.
    return {"LD_LIBRARY_PATH": folder, "TRITON_LIBCUDA_PATH": folder, "PYTORCH_NVML_BASED_CUDA_CHECK": "1", **told}


def model(name: str, folder: Path) -> None:
    """A model folder that can be accepted: the real model's config as small as the tiny model, whose weights are there."""
    shutil.copytree(EXAMPLE_MODEL / "model", folder)
    real, tiny = (json.loads(file.read_text()) for file in (CONFIGS / f"{name}.json", folder / "config.json"))
    (folder / "config.json").write_text(json.dumps(real | {field: tiny[field] for field in (*SIZES, *TOKENS)}))


@contextmanager
def places(folder: Path, network: Loopback) -> Iterator[Mapping[str, str]]:
    """The hub and the bucket that the examples name, in that network; yields the variables by which pods find them."""
    repositories, root = folder / "hub", folder / "bucket"
    for name, owner in ((LLAMA, "meta-llama"), (GEMMA, "google")):
        model(name, repositories / "models" / owner / name)
    dataset = repositories / "datasets/proj-persona/PersonaHub"
    dataset.mkdir(parents=True)
    (dataset / "persona.jsonl").write_text("".join(json.dumps({"persona": each}) + "\n" for each in PERSONAS))
    with network.inside(), hub(repositories, TOKEN) as endpoint, amazon(root) as buckets:
        bucket = buckets.bucket("ml-team")
        (bucket / "models").mkdir()
        (bucket / "personas").mkdir()
        model(LLAMA, bucket / "models" / LLAMA)
        pq.write_table(pa.table({"persona": PERSONAS}), bucket / "personas/personas.parquet")
        yield {"HF_ENDPOINT": endpoint, "HF_TOKEN": TOKEN, **buckets.environment}
