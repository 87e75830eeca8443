"""Every tiny example on this machine, with --controls the control of each, then all of them on one page: `make recipes`.

    python benchmarks/every_recipe.py --out out/recipes [--seed 1] [--controls]

Runs `examples/*-tiny.yaml`, two at once, each as it stands but that it takes finished steps of equal digest from those that
are done; given again it goes on. Ends with the page of `selfalign compare` on those that are asked the same, and one line: of
how many recipes a held-out figure of every example rose, its whole interval above zero, and in how many controls
(controls.py) none did.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import yaml
from controls import CONTROLS, EXAMPLES, Control

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
    parser.add_argument("--at-once", type=int, default=2, help="runs: engines start, and tables are made, on one core")
    options = parser.parse_args()
    out, began = options.out.resolve(), time.monotonic()
    seeded = {"spec": {"seed": options.seed}}
    runs: dict[str, Future[Path]] = {}

    def example_run(example: Path) -> Path:
        done = [each.result() for each in [*runs.values()] if each.done()]
        return run(example, example.stem, seeded, out, done)

    def control_run(name: str, control: Control) -> Path:
        example, made = EXAMPLES / control.example, out / "controls" / name
        made.mkdir(parents=True, exist_ok=True)
        finished = runs[example.stem].result()
        spec = merge(seeded, {"spec": control.change(finished, made)})
        return run(example, name, spec, out, [finished])

    with ThreadPoolExecutor(options.at_once) as pool:
        for example in options.examples:
            runs[example.stem] = pool.submit(example_run, example)
        for name, control in CONTROLS.items() if options.controls else ():
            if Path(control.example).stem in runs:
                runs[name] = pool.submit(control_run, name, control)
        if failed := wait(runs.values(), return_when=FIRST_EXCEPTION).not_done:
            for each in failed:
                each.cancel()  # those under way end first
    folders = {name: each.result() for name, each in runs.items() if not each.cancelled()}
    compare = ["compare", *(folder for folder in folders.values() if asks_what_is_given(folder)), "--out", out]
    if code := subprocess.run([SELFALIGN, *compare], check=False).returncode:
        sys.exit(code)
    for folder in (folder for folder in folders.values() if not asks_what_is_given(folder)):
        print(f"{folder.name} asks its own held-out users, so it is on no page with others: {folder}/report.html")
    line = line_of(summary_of(folder) for folder in folders.values())
    print(f"{line}, in {(time.monotonic() - began) / 60:.1f} minutes")


def asks_what_is_given(folder: Path) -> bool:
    """Whether a run's held-out prompts are the file that the examples name: FSPO holds out users of its own table."""
    return "evaluation" in json.loads((folder / "plan.json").read_text(encoding="utf-8"))["sources"]


def run(example: Path, name: str, change: dict[str, Any], out: Path, before: Iterable[Path]) -> Path:
    """The example's run with this name and change, which takes what runs before it have done; its folder."""
    document = merge(yaml.safe_load(example.read_text(encoding="utf-8")), change)
    document["metadata"]["name"] = name
    document["spec"].setdefault("storage", {})["reuseFrom"] = [folder.as_uri() for folder in before]
    file, log = out / "run-files" / f"{name}.yaml", out / "logs" / f"{name}.txt"
    for each in (file, log):
        each.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    what = f"{example.name} with {CONTROLS[name].words}" if name in CONTROLS else example.name
    print(f"{name}: {what}, started; {log}", flush=True)
    began = time.monotonic()
    with log.open("w") as output:
        command = [SELFALIGN, "run", file, "--mount", f"selfalign={EXAMPLES}", "--out", out]
        code = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False).returncode
    if code:
        print("\n".join(log.read_text(encoding="utf-8").splitlines()[-20:]), file=sys.stderr)
        raise SystemExit(code)
    folder = out / document["metadata"].get("namespace", "default") / name
    found = [
        f"{role} {each['before']:.3f} → {each['after']:.3f}" for role, each in summary_of(folder)["accuracy"].items()
    ]
    print(f"{name}: done in {time.monotonic() - began:.0f} s; {', '.join(found)}", flush=True)
    return folder


def summary_of(folder: Path) -> dict[str, Any]:
    """The figures of a run that is done."""
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return found


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
