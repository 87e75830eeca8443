"""Each command on machines as they are, and ended at any moment: a real process each, steps played by light_step.py."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from selfalign_api.load import as_json, load_run
from selfalign_api.places import file_url
from selfalign_api.run_file import GenerationMeans, Means, RunFile, TrainingMeans
from selfalign_jobs.places.store import Folder, Manifest, write_manifest
from selfalign_jobs.recipes.tables import with_counts

REPOSITORY = Path(__file__).parents[2]
WRAPPED = Path(__file__).with_name("wrapped.py")
ENGINES = GenerationMeans(device="CPU")
MEANS = Means(generation=ENGINES, training=TrainingMeans(device="CPU"), evaluation=ENGINES)
COMMANDS = ("run", "validate", "plan", "report", "accept")
STEPS = {"i1-generate": "generate", "i1-train": "train", "i1-evaluate": "evaluate"}
PROXIES = ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY")
ODD = "a folder für #1, 50% 'off' \"[bold]\" %41"  # as a name of every place


@dataclass
class Machine:
    """Folders of a run, and what its commands find."""

    folder: Path
    name: str = "run"

    @property
    def run_file(self) -> Path:
        return self.folder / self.name / "run.yaml"

    @property
    def run(self) -> Path:
        return self.folder / f"out {self.name}" / "default" / "sao-tiny"

    def prepare(self, words: Mapping[str, str] | None = None) -> None:
        """The example's files under this machine's names, and a script for its steps."""
        here = self.run_file.parent
        shutil.copytree(REPOSITORY / "examples" / "tiny-model" / "model", here / f"model {self.name}")
        for file in ("personas.jsonl", "heldout.jsonl"):
            shutil.copy(REPOSITORY / "examples" / "tiny-model" / file, here / f"{self.name} {file}")
        text = (REPOSITORY / "examples" / "sao-tiny.yaml").read_text()
        quoted = json.dumps(f"./model {self.name}", ensure_ascii=False)
        text = text.replace('"pvc://selfalign/tiny-model/model"', quoted)
        for file in ("personas.jsonl", "heldout.jsonl"):
            url = {
                "personas.jsonl": file_url(here / f"{self.name} {file}"),
                "heldout.jsonl": f"pvc://data/{self.name} {file}",
            }
            text = text.replace(f'"pvc://selfalign/tiny-model/{file}"', json.dumps(url[file], ensure_ascii=False))
        self.run_file.write_text(text, encoding="utf-8")
        self.play(words or {})
        for path in (self.folder, *self.folder.rglob("*")):  # also for a user who is nobody here
            path.chmod(0o777 if path.is_dir() else 0o666)

    def play(self, words: Mapping[str, str]) -> None:
        """What the steps will leave, and what they do besides."""
        played = Folder.open(file_url(self.run / "played"))
        now = datetime.now(UTC).isoformat(timespec="seconds")
        for step, kind in STEPS.items():
            manifest = Manifest(
                step=step, kind=kind, digest="sha256:0", recipe="sao", version="0", attempt=1, started=now, finished=now,
                active_seconds=1.0, seed=0,
                result={"pairs": 3, "seconds": {}, "checks": {}, "droppedOverlong": 0},
            )  # fmt: skip
            write_manifest(played.child(step), manifest)
            table = with_counts(pa.table({"prompt": pa.array([], pa.string())}), {"promptHeldOut": 0})
            played.write_table(f"{step}/prepared/pairs.parquet", table)
            played.write(f"{step}.word", words.get(step, "done").encode())

    def command(self, name: str, *around: str) -> list[str]:
        """The command as a process is started."""
        program = [sys.executable, str(WRAPPED), *(("--light-steps",) if name == "run" else ()), *around]
        if name == "report":
            return [*program, "selfalign", "report", str(self.run)]
        if name == "accept":
            file = self.folder / "run.json"
            if not file.exists():
                run = as_json(load_run(self.run_file)) | {}
                mounts = {"data": str(self.run_file.parent)}
                file.write_text(
                    RunFile(run=run, storage=file_url(self.run), mounts=mounts, means=MEANS).model_dump_json()
                )
            # as a pod has them: ./PATH is beside run.json
            link = self.folder / f"model {self.name}"
            if not link.exists():
                link.symlink_to(self.run_file.parent / link.name)
            message = str(self.folder / "message")
            return [*program, "step", str(file), "--step", "accept", "--attempt", "1", "--termination-message", message]
        where = ["--mount", f"data={self.run_file.parent}", "--out", str(self.run.parents[1])]
        return [*program, "selfalign", name, str(self.run_file), *where]


def environment(**changes: str | None) -> dict[str, str]:
    paths = os.pathsep.join(path for path in sys.path if path)
    found = {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200", **changes}
    return {name: value for name, value in found.items() if value is not None}


@pytest.fixture
def folder() -> Iterator[Path]:
    """As `tmp_path`, and open to all users."""
    made = Path(tempfile.mkdtemp())
    made.chmod(0o777)
    yield made
    shutil.rmtree(made, ignore_errors=True)


def as_nobody(command: list[str]) -> list[str]:
    """As OpenShift starts a pod: a uid that no passwd entry knows, group 0, no rights but to read what we may read."""
    if os.getuid() != 0:
        return ["unshare", "--user", "--map-user=1000710000", "--map-group=0", *command]
    rights = ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]
    return ["setpriv", "--reuid", "1000710000", "--regid", "0", "--clear-groups", *rights, *command]


def ended(command: list[str], given: Mapping[str, str], shell: str | None = None) -> tuple[int, str]:
    """Exit code and output of a command, or of a line of the shell in which "$@" is the command."""
    line = command if shell is None else ["bash", "-c", shell, "bash", *command]
    done = subprocess.run(line, env=given, cwd="/", capture_output=True, text=True, errors="replace")
    return done.returncode, done.stdout + done.stderr


SURROUNDINGS: dict[str, dict[str, str | None]] = {
    "proxies, and no no_proxy": dict.fromkeys(PROXIES, "http://127.0.0.1:9") | {"no_proxy": None, "NO_PROXY": None},
    "a long TMPDIR with spaces": {"TMPDIR": "{folder}/a temporary folder/" + "x" * 90},
    "an output of ASCII": {"PYTHONIOENCODING": "ascii", "LANG": "C", "LC_ALL": "C"},
    "a locale of Latin-1": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "a user who is nobody": {
        "HOME": None,
        "USER": None,
        "LOGNAME": None,
        "XDG_CACHE_HOME": None,
        "XDG_CONFIG_HOME": None,
    },
    "a home that cannot be written": {"HOME": "/proc"},
}
LINES = {
    "a closed output": '"$@" >&-',
    "a closed input, output and errors": '"$@" <&- >&- 2>&-',
    "a pipe to head -1": 'set -o pipefail; "$@" | head -1',
    "a pipe that nobody reads": 'set -o pipefail; "$@" | true',
}


@pytest.mark.parametrize("case", [*SURROUNDINGS, *LINES, "odd names of every place"])
def test_every_command_works_with(case: str, folder: Path) -> None:
    machine = Machine(folder, ODD if case.startswith("odd") else "run")
    machine.prepare()
    changes = {name: value and value.format(folder=folder) for name, value in SURROUNDINGS.get(case, {}).items()}
    given = environment(**changes)
    if "TMPDIR" in changes:
        Path(given["TMPDIR"]).mkdir(parents=True)
    for name in COMMANDS:
        command = machine.command(name)
        code, said = ended(as_nobody(command) if "nobody" in case else command, given, LINES.get(case))
        assert code == 0, f"{name}: {said}"
        assert "Traceback" not in said
        assert "Exception ignored" not in said
    assert json.loads((folder / "message").read_text())["step"] == "accept"
    assert (machine.run / "report.html").exists()


def test_the_runner_asks_its_step_through_no_proxy(folder: Path) -> None:
    """The step says that it moves; a runner that asks a proxy for it shows nothing."""
    machine = Machine(folder)
    machine.prepare({"i1-generate": "serve"})
    proxies = dict.fromkeys(PROXIES, "http://127.0.0.1:9")
    code, said = ended(machine.command("run"), environment(**proxies, no_proxy=None, NO_PROXY=None))
    assert code == 0, said
    assert "i1-generate: played  1/2 records" in said


# --- moments ----------------------------------------------------------------------------------------------------------

MOMENTS = {
    "run": (
        "selfalign_jobs.local.cli",
        "pyarrow",
        "selfalign_jobs.local.cli:load",
        "selfalign_jobs.accept.program:examine",
        "selfalign_jobs.accept.owner:claim",
        "selfalign_jobs.places.store:write_plan",
        "selfalign_jobs.local.runner:work_folder",
        "selfalign_jobs.step.reuse:done_before",
        "selfalign_jobs.report:finish_report",
    ),
    "validate": ("pydantic", "selfalign_jobs.local.cli:load", "selfalign_jobs.accept.program:examine"),
    "plan": ("yaml", "selfalign_jobs.local.show_plan", "selfalign_jobs.local.show_plan:plan_table"),
    "report": (
        "selfalign_jobs.report",
        "selfalign_jobs.report.finish:read_evidence",
        "selfalign_jobs.report.finish:render",
    ),
    "accept": (
        "selfalign_jobs.entry",
        "pyarrow",
        "selfalign_jobs.accept.program:accept",
        "selfalign_jobs.accept.program:examine",
        "selfalign_jobs.accept.owner:claim",
        "selfalign_jobs.places.store:write_plan",
    ),
}
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ALL = [(command, moment) for command, moments in MOMENTS.items() for moment in moments]


# Whoever runs the tests may have begun by nohup, which a command of ours honours.
HEARS = ("env", "--default-signal=HUP")


def wait_for(file: Path, process: subprocess.Popen[str]) -> None:
    while not file.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


@pytest.fixture(scope="module")
def accepted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is done, for those moments that need one."""
    folder = tmp_path_factory.mktemp("accepted")
    machine = Machine(folder)
    machine.prepare()
    code, said = ended(machine.command("run"), environment())
    assert code == 0, said
    return folder


@pytest.mark.parametrize(("number", "command", "moment"), [(n, *pair) for n, pair in enumerate(ALL)])
def test_a_signal_ends_a_command_in_words_at(
    number: int, command: str, moment: str, folder: Path, accepted: Path
) -> None:
    shutil.rmtree(folder)
    shutil.copytree(accepted, folder, symlinks=True)
    machine = Machine(folder)
    if command == "run":
        shutil.rmtree(machine.run)
        machine.play({})
    halted = folder / "halted"
    line = [*HEARS, *machine.command(command, "--halt", moment, str(halted))]
    process = subprocess.Popen(
        line, env=environment(), cwd="/", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for(halted, process)
    process.send_signal(SIGNALS[number % len(SIGNALS)])
    halted.unlink()
    output, errors = process.communicate()
    assert process.returncode == 75, errors
    assert (errors or output).startswith("stopped")  # a step's program says all in one order, to the log that is kept
    assert "Traceback" not in output + errors
    if command in ("run", "accept"):
        code, said = ended(machine.command(command), environment())
        assert code == 0, said


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_while_a_step_works_stops_it_and_the_same_command_goes_on(
    number: signal.Signals, folder: Path
) -> None:
    """Of a closed terminal too, whose output nobody reads any more."""
    machine = Machine(folder)
    machine.prepare({"i1-train": "wait"})
    line = [*HEARS, *machine.command("run")]
    process = subprocess.Popen(
        line, env=environment(), cwd="/", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for(machine.run / "waiting-i1-train", process)
    assert process.stdout is not None
    if number == signal.SIGHUP:
        process.stdout.close()
    process.send_signal(number)
    assert process.stderr is not None
    errors = process.stderr.read()
    assert (process.wait(), "Traceback" in errors) == (75, False)
    assert "run the same command again to go on" in errors
    code, said = ended(line, environment())
    assert (code, "i1-generate: found finished" in said) == (0, True), said


def test_nohup_keeps_its_meaning(folder: Path) -> None:
    machine = Machine(folder)
    machine.prepare()
    halted = folder / "halted"
    line = ["nohup", *machine.command("validate", "--halt", "selfalign_jobs.local.cli:load", str(halted))]
    process = subprocess.Popen(
        line, env=environment(), cwd="/", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for(halted, process)
    process.send_signal(signal.SIGHUP)
    halted.unlink()
    assert "would run here" in process.communicate()[0]
    assert process.returncode == 0


# --- full disks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["validate", "plan"])
def test_an_output_without_room_is_told(command: str, folder: Path) -> None:
    machine = Machine(folder)
    machine.prepare()
    code, said = ended(machine.command(command), environment(), '"$@" > /dev/full')
    assert (code, "Traceback" in said) == (75, False)
    assert "No space left on device" in said


def test_a_termination_message_without_room_leaves_the_code(folder: Path) -> None:
    machine = Machine(folder)
    machine.prepare()
    (folder / "message").symlink_to("/dev/full")
    assert ended(machine.command("accept"), environment(), '"$@" > /dev/full 2>&1') == (0, "")
