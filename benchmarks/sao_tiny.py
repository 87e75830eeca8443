"""Does the tiny model align itself? The demo over run seeds, with SimPO, with DPO, and with SAO's control (random verdicts).

    python benchmarks/sao_tiny.py --seeds 0 1 2 --out out/sao-tiny-seeds

Prints one row of Markdown a run. DPO takes its pairs from the SimPO run of the same seed (`storage.reuseFrom`). Run again,
it goes on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from selfalign_api.kubectl_yaml import read_yaml

EXAMPLE = Path(__file__).parents[1] / "examples" / "sao-tiny.yaml"
VARIANTS: dict[str, dict[str, Any]] = {
    "simpo": {},
    "dpo": {"training": {"loss": {"type": "dpo", "beta": 0.5}, "learningRate": 3e-4}},
    "random verdicts": {"judge": {"method": "random", "verdicts": None}},
}


def run_file(out: Path, variant: str, seed: int) -> Path:
    """The example with a variant's values, a seed, and a name of its own."""
    document: dict[str, Any] = read_yaml(EXAMPLE.read_text(), str(EXAMPLE))
    spec = document["spec"]
    document["metadata"]["name"] = f"{variant.replace(' ', '-')}-{seed}"
    spec["seed"] = seed
    for part, values in VARIANTS[variant].items():
        spec[part] = {key: value for key, value in (spec[part] | values).items() if value is not None}
    if variant == "dpo":
        spec["storage"]["reuseFrom"] = [(out / "default" / f"simpo-{seed}").resolve().as_uri()]
    file = out / f"{document['metadata']['name']}.yaml"
    file.write_text(json.dumps(document))
    return file


def row(folder: Path, variant: str, seed: int) -> str:
    """A finished run's figures."""
    summary = json.loads((folder / "summary.json").read_text())
    cells = []
    for role in ("greedy", "sampled"):
        figure = summary["accuracy"][role]
        low, high = figure["gainInterval"]
        cells.append(f"{figure['before']:.3f} → {figure['after']:.3f} ({low:+.3f} … {high:+.3f})")
    return f"| {variant} | {seed} | {summary['pairs']:,} | {cells[0]} | {cells[1]} |"


def main() -> None:
    """Run what is not finished, one after another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--out", type=Path, default=Path("out/sao-tiny-seeds"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    print(
        "| verdicts and loss | seed | pairs | greedy (gain, 95 %) | T = 1 (gain, 95 %) |\n|---|---|---|---|---|",
        flush=True,
    )
    for seed in options.seeds:
        for variant in options.variants:
            file = run_file(options.out, variant, seed)
            command = [sys.executable, "-m", "selfalign_jobs.local.start", "run", str(file)]
            command += ["--mount", f"selfalign={EXAMPLE.parent}", "--out", str(options.out)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            print(row(options.out / "default" / file.stem, variant, seed), flush=True)


if __name__ == "__main__":
    main()
