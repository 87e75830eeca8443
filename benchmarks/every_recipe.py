"""Every tiny example on this machine, then all of them on one page: `make recipes`.

    python benchmarks/every_recipe.py --out out/recipes

Runs `examples/*-tiny.yaml` one after another, each as it stands but that it takes finished steps of equal digest from the others;
given again it goes on. Ends with the page of `selfalign compare`, and one line: of how many a held-out figure rose, its
whole interval above zero.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
SELFALIGN = Path(sys.executable).with_name("selfalign")


def main() -> None:
    """The runs, the page, the line; ends as the first command does that fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/recipes"))
    parser.add_argument("--examples", type=Path, nargs="+", default=sorted(EXAMPLES.glob("*-tiny.yaml")))
    options = parser.parse_args()
    out, folders = options.out.resolve(), list[Path]()
    for example in options.examples:
        document = yaml.safe_load(example.read_text(encoding="utf-8"))
        others = [folder.as_uri() for folder in folders]
        document["spec"].setdefault("storage", {})["reuseFrom"] = others
        file = out / "run-files" / example.name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
        selfalign("run", file, "--mount", f"selfalign={EXAMPLES}", "--out", out)
        folders.append(out / document["metadata"].get("namespace", "default") / document["metadata"]["name"])
    selfalign("compare", *folders, "--out", out)
    runs = json.loads((out / "compare.json").read_text(encoding="utf-8"))["runs"].values()
    risen = sum(rose(run["results"]) for run in runs)
    print(f"recipes {len({run['recipe'] for run in runs})}, examples {len(runs)}, effects {risen} of {len(runs)}")


def selfalign(*arguments: str | Path) -> None:
    """One command, its output as it comes."""
    done = subprocess.run([SELFALIGN, *arguments], check=False)
    if done.returncode:
        sys.exit(done.returncode)


def rose(results: dict[str, dict[str, float]]) -> bool:
    """Whether a figure is above what the initial model has, its whole interval: a gain above 0, a win rate above .5."""
    gains = [figure["low"] > 0 for name, figure in results.items() if name.endswith(".gain")]
    return any(gains) or any(figure["low"] > 0.5 for name, figure in results.items() if "." not in name)


if __name__ == "__main__":
    main()
