"""Every tiny example on this machine, with --controls the control of each, then all of them on one page: `make recipes`.

    python benchmarks/every_recipe.py --out out/recipes [--seed 1] [--controls]

Runs `examples/*-tiny.yaml` one after another, each as it stands but that it takes finished steps of equal digest from the
others; given again it goes on. Ends with the page of `selfalign compare` on those that are asked the same, and one line: of
how many recipes a held-out figure of every example rose, its whole interval above zero, and in how many controls
(controls.py) none did.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from controls import CONTROLS, EXAMPLES

from selfalign_api.merge import merge

SELFALIGN = Path(sys.executable).with_name("selfalign")
UNPUBLISHED = "pairs"  # a training on pairs of one's own is nobody's method of self-alignment


def main() -> None:
    """The runs, the page, the line; ends as the first command does that fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/recipes"))
    parser.add_argument("--examples", type=Path, nargs="+", default=sorted(EXAMPLES.glob("*-tiny.yaml")))
    parser.add_argument("--seed", type=int, default=0, help="of every run")
    parser.add_argument("--controls", action="store_true", help="the control of each example too")
    options = parser.parse_args()
    out, folders = options.out.resolve(), dict[str, Path]()
    seeded = {"spec": {"seed": options.seed}}
    for example in options.examples:
        folders[example.stem] = run(example, example.stem, seeded, out, folders.values())
    for name, control in CONTROLS.items() if options.controls else ():
        example = EXAMPLES / control.example
        if example.stem in folders:
            made = out / "controls" / name
            made.mkdir(parents=True, exist_ok=True)
            print(f"{name}: {control.example} with {control.words}", flush=True)
            spec = merge(seeded, {"spec": control.change(folders[example.stem], made)})
            folders[name] = run(example, name, spec, out, [folders[example.stem]])
    selfalign("compare", *(folder for folder in folders.values() if asks_what_is_given(folder)), "--out", out)
    for folder in (folder for folder in folders.values() if not asks_what_is_given(folder)):
        print(f"{folder.name} asks its own held-out users, so it is on no page with others: {folder}/report.html")
    print(line_of(json.loads((folder / "summary.json").read_text(encoding="utf-8")) for folder in folders.values()))


def asks_what_is_given(folder: Path) -> bool:
    """Whether a run's held-out prompts are the file that the examples name: FSPO holds out users of its own table."""
    return "evaluation" in json.loads((folder / "plan.json").read_text(encoding="utf-8"))["sources"]


def run(example: Path, name: str, change: dict[str, Any], out: Path, before: Iterable[Path]) -> Path:
    """The example's run with this name and change, which takes what runs before it have done; its folder."""
    document = merge(yaml.safe_load(example.read_text(encoding="utf-8")), change)
    document["metadata"]["name"] = name
    document["spec"].setdefault("storage", {})["reuseFrom"] = [folder.as_uri() for folder in before]
    file = out / "run-files" / f"{name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    selfalign("run", file, "--mount", f"selfalign={EXAMPLES}", "--out", out)
    return out / document["metadata"].get("namespace", "default") / name


def selfalign(*arguments: str | Path) -> None:
    """One command, its output as it comes."""
    done = subprocess.run([SELFALIGN, *arguments], check=False)
    if done.returncode:
        sys.exit(done.returncode)


def line_of(runs: Iterable[dict[str, Any]]) -> str:
    """How many methods, how many of them with an effect, and how many controls without."""
    recipes: dict[str, bool] = {}
    quiet: list[bool] = []
    for found in runs:
        if found["name"] in CONTROLS:
            quiet.append(not rose(found))
        elif found["recipe"] != UNPUBLISHED:
            recipes[found["recipe"]] = recipes.get(found["recipe"], True) and rose(found)
    line = f"recipes {len(recipes)}, effects {sum(recipes.values())} of {len(recipes)}"
    return f"{line}, controls quiet {sum(quiet)} of {len(quiet)}" if quiet else line


def rose(found: dict[str, Any]) -> bool:
    """Whether a figure is above what the initial model has, its whole interval: a gain above 0, a win rate above .5."""
    gains = [figure["gainInterval"][0] > 0 for figure in found["accuracy"].values()]
    return any(gains) or any(figure["low"] > 0.5 for figure in found["winRate"].values())


if __name__ == "__main__":
    main()
