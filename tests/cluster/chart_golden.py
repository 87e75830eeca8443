"""What the chart becomes with each of the value files, beside what it takes whole from other files of ours (`make chart`)."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from helm import CHART, Helm

FOLDER = Path(__file__).parent / "chart"
VALUES = sorted((FOLDER / "values").glob("*.yaml"))
NAMESPACE = "selfalign-system"
KUBERNETES = "1.35.0"
# The CRD, the rules and the dashboards are tested against the files that they come from.
WHOLE_FILES = ("crd.yaml", "prometheusrule.yaml", "dashboards.yaml")


def rendered(helm: Helm, values: Path, *options: str, namespace: str = NAMESPACE, chart: Path = CHART) -> str:
    """All manifests of a release named as the chart."""
    options = (f"--namespace={namespace}", f"--kube-version={KUBERNETES}", f"--values={values}", *options)
    return helm("template", "selfalign-operator", chart, *options)


def golden(helm: Helm, values: Path) -> str:
    """The text of the golden file."""
    documents = rendered(helm, values).removeprefix("---\n").split("\n---\n")
    source = f"# Source: {CHART.name}/templates/"
    kept = [each for each in documents if not each.startswith(tuple(source + name for name in WHOLE_FILES))]
    return "\n---\n".join(kept)


def main() -> int:
    """Write the golden files."""
    with tempfile.TemporaryDirectory() as home:
        for values in VALUES:
            (FOLDER / "golden" / values.name).write_text(golden(Helm(Path(home)), values), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
