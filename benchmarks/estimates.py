"""How near `selfalign estimate` comes to what a run then takes: by its first records, and by a smaller run that is done.

    python benchmarks/estimates.py examples/sao-tiny.yaml --smaller data.personas.count=1500 --first 60

Runs the example once smaller and once as it stands (what is there already is not run again), asks for both estimates, and
prints each figure beside what the run took: tokens read, written and trained on, and seconds of its steps.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from selfalign_api.merge import merge
from selfalign_api.plan import Evaluate, Generate, Train
from selfalign_jobs.local.measured import of_loads
from selfalign_jobs.places.store import Folder, read_manifest, read_plan, step_folder

SELFALIGN = Path(sys.executable).with_name("selfalign")
FIGURES = ("read", "written", "trained", "seconds")


def main() -> None:
    """Both runs, both estimates, the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("example", type=Path)
    parser.add_argument("--mount", default="selfalign=examples")
    parser.add_argument("--smaller", default="data.personas.count=1500", metavar="PATH=NUMBER", help="of spec")
    parser.add_argument("--first", type=int, default=60, help="records that the other estimate goes by")
    parser.add_argument("--out", type=Path, default=Path("out/estimates"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    whole = yaml.safe_load(options.example.read_text(encoding="utf-8"))
    name = whole["metadata"]["name"]
    path, _, number = options.smaller.partition("=")
    change: Any = int(number)
    for field in reversed(path.split(".")):
        change = {field: change}
    small = merge(whole, {"metadata": {"name": f"{name}-smaller"}, "spec": change})
    smaller, run = (go(document, options.mount, options.out) for document in (small, whole))
    given = ("--mount", options.mount, "--json")
    by = {
        f"first {options.first} records": told(options.example, *given, "-n", options.first),
        f"a run with {options.smaller}": told(options.example, *given, "--like", smaller),
    }
    took = taken(run)
    print("| by | " + " | ".join(FIGURES) + " |")
    print("|---|" + "---|" * len(FIGURES))
    print(f"| the run itself | {' | '.join(f'{took[figure]:,.0f}' for figure in FIGURES)} |")
    for words, found in by.items():
        print(f"| {words} | {' | '.join(beside(found[figure], took[figure]) for figure in FIGURES)} |")


def go(document: dict[str, Any], mount: str, out: Path) -> Path:
    """Run it; its folder."""
    name = document["metadata"]["name"]
    file = out / f"{name}.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    with (out / f"{name}.log").open("w") as log:
        subprocess.run([SELFALIGN, "run", file, "--mount", mount, "--out", out], stdout=log, stderr=log, check=True)
    return out / document["metadata"].get("namespace", "default") / name


def told(example: Path, *options: object) -> dict[str, Any]:
    """The sums of an estimate."""
    done = subprocess.run(
        [SELFALIGN, "estimate", example, *map(str, options)], stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    print("\n".join(found["assumed"]), file=sys.stderr)
    return {figure: found["together"][figure] for figure in FIGURES}


def taken(path: Path) -> dict[str, float]:
    """What a finished run took, by the manifests of its steps."""
    run, sums = Folder.open(path.resolve().as_uri()), dict.fromkeys(FIGURES, 0.0)
    plan = read_plan(run)
    for step in plan.steps:
        folder = step_folder(run, step.iteration, step.name)
        manifest = read_manifest(folder)
        assert manifest is not None  # the run has ended
        if isinstance(step, Generate | Evaluate):
            for table in of_loads(plan, step, folder, manifest).values():
                sums["read"] += sum(read for read, _ in table.tokens.values())
                sums["written"] += sum(written for _, written in table.tokens.values())
        elif isinstance(step, Train):
            sums["trained"] += sum(manifest.tokens.values())
        sums["seconds"] += sum(manifest.result.get("seconds", {}).values())
    return sums


def beside(estimated: float | None, took: float) -> str:
    """An estimate, and by how much it is off."""
    if estimated is None:
        return "not told"
    return f"{estimated:,.0f} ({estimated / took - 1:+.0%})" if took else f"{estimated:,.0f}"


if __name__ == "__main__":
    main()
