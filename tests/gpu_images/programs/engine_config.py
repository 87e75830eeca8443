"""In a container: each run in RUNS up to the moment when vLLM would put an engine on the GPU; a line of JSON for each.

What is asked meanwhile of the network, and which programs are started, is in the line.
"""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from selfalign_api.plan import Generate
from selfalign_api.run_file import RunFile, StepConfig
from selfalign_jobs.generate.program import EngineSpec, VllmEngine, environment, means_of
from selfalign_jobs.places.models import locate_model
from selfalign_jobs.places.store import Folder, read_plan

REAL = sorted(Path("/mnt/selfalign/configs").glob("*.json"))


class Reached(BaseException):
    """All that vLLM decides before it asks for the device has been decided."""


def reach(config: Any, *_: Any, **__: Any) -> Any:
    """In the place of `LLMEngine`."""
    raise Reached(config)


def watch() -> dict[str, list[str]]:
    asked: dict[str, list[str]] = {"network": [], "programs": []}

    def look(event: str, arguments: Any) -> None:
        if event == "socket.connect":
            asked["network"].append(str(arguments[1]))
        elif event == "subprocess.Popen":
            asked["programs"].append(str(arguments[0]))

    sys.addaudithook(look)
    return asked


def engine(file: Path) -> tuple[EngineSpec, Path]:
    """What the step's actor would start."""
    run = RunFile.model_validate_json(file.read_bytes())
    plan = read_plan(Folder.open(run.storage))
    step = next(step for step in plan.steps if isinstance(step, Generate))
    config = StepConfig.of(run, plan, step.name, 1)
    return EngineSpec(step.engine, means_of(config)), in_full(locate_model(config, step.load.model))


def in_full(small: Path) -> Path:
    """The folder with the config of the real model, whose weights are not read."""
    kind = json.loads((small / "config.json").read_text())["model_type"]
    folder = Path(tempfile.mkdtemp()) / "model"
    shutil.copytree(small, folder)
    real = next(file for file in REAL if json.loads(file.read_text())["model_type"] == kind)
    shutil.copyfile(real, folder / "config.json")
    return folder


def decided(config: Any) -> dict[str, Any]:
    """What vLLM has chosen for the card, its classes imported."""
    from vllm.config import set_current_vllm_config
    from vllm.model_executor.models import ModelRegistry
    from vllm.utils.import_utils import resolve_obj_by_qualname
    from vllm.v1.attention.backends.fa_utils import get_flash_attn_version
    from vllm.v1.attention.selector import get_attn_backend

    model, cache = config.model_config, config.cache_config
    with set_current_vllm_config(config):
        heads = model.get_num_attention_heads(config.parallel_config)
        backend = get_attn_backend(model.get_head_size(), model.dtype, cache.cache_dtype, num_heads=heads)
        softcap = getattr(model.hf_text_config, "attn_logit_softcapping", None) is not None
        version = get_flash_attn_version(
            head_size=model.get_head_size(), requires_softcap=softcap, supports_fa4_hd256=True
        )
        backend.get_impl_cls()
        architecture, _ = ModelRegistry.resolve_model_cls(model.architectures, model)
    return {
        "attention": backend.get_name(),
        "flashAttention": version,
        "model": architecture.__name__,
        "worker": resolve_obj_by_qualname(config.parallel_config.worker_cls).__name__,
        "runner": "V2" if config.use_v2_model_runner else "V1",
        "sequences": config.scheduler_config.max_num_seqs,
        "batchTokens": config.scheduler_config.max_num_batched_tokens,
        "context": model.max_model_len,
        "head": str(getattr(model, "head_dtype", model.dtype)).removeprefix("torch."),
        "compiles": config.compilation_config.mode.name,
    }


engines = {file.stem: engine(file) for file in sorted(Path(os.environ["RUNS"]).glob("*.json"))}
(first, _), *_ = engines.values()
os.environ.update(environment(first.means, 1))  # before vLLM is imported: as the actor does
asked = watch()

import vllm.v1.engine.llm_engine  # noqa: E402

vllm.v1.engine.llm_engine.LLMEngine = reach
for name, (spec, model) in engines.items():
    try:
        VllmEngine(spec, model)
    except Reached as reached:
        (config,) = reached.args
        print(json.dumps({"run": name, **decided(config), "asked": asked}), flush=True)
    for each in asked.values():
        each.clear()
