"""A run file becomes a typed run, or lines that say where, what and what to write."""

import json
from pathlib import Path

import pytest
import yaml

from selfalign_api.errors import ConfigError
from selfalign_api.load import as_json, load_run, parse_spec
from selfalign_api.rules import check_rules

HEAD = """\
apiVersion: selfalign.dev/v1alpha1
kind: SelfAlignmentRun
metadata: {name: a-run}
spec:
  recipe: sao
  model: {url: "hf://org/model"}
"""

FIRST_RUN = """\
apiVersion: selfalign.dev/v1alpha1
kind: SelfAlignmentRun
metadata: {name: gemma-2-9b-sao}
spec:
  recipe: sao
  model: {url: "hf://google/gemma-2-9b-it"}
  data: {personas: {count: 10000}}
  compute: {generation: {replicas: 4}, training: {gpusPerNode: 4}}
  storage: {url: "pvc://selfalign/runs"}
  credentials: [{urlPrefix: "hf://", secretName: hf-token}]
"""

PAPER_RUN = """\
apiVersion: selfalign.dev/v1alpha1
kind: SelfAlignmentRun
metadata: {name: gemma-2-9b-sao-paper}
spec:
  recipe: sao
  iterations: 1
  seed: 0
  model: {url: "hf://google/gemma-2-9b-it@main"}
  data:
    personas: {url: "hf://datasets/proj-persona/PersonaHub", subset: persona, columns: {persona: persona}, count: 60000}
  generation:
    roles:
    - {name: writePrompt, temperature: 0.6, topP: 0.95, maxTokens: 2048}
    - {name: respond, temperature: 0.6, topP: 0.95, maxTokens: 2048}
    - name: judge
      temperature: 0
      template: |
        Rank two answers to this prompt by {{ criteria | join(", ") }}: {{ prompt }}
        A: {{ first }}
        B: {{ second }}
        End with one line, "ranking: A > B" or "ranking: B > A".
    filters: {identical: Keep}
  judge: {method: paper, modelName: self, criteria: [relevance and specificity, accuracy, completeness, clarity]}
  training: {loss: {type: simpo, beta: 10, gamma: 3}, learningRate: 1e-6, learningRateSchedule: cosine,
    warmupRatio: 0.1, epochs: 1, globalBatchSize: 128, precision: bfloat16, optimizer: {type: adamw, weightDecay: 0},
    maxLengthTokens: 2048, maxPromptTokens: 1800}
  evaluation:
    when: Last
    prompts: {url: "hf://datasets/tatsu-lab/alpaca_eval/alpaca_eval.json", columns: {prompt: instruction}}
    checks:
    - {name: win, type: SelfWinRate, selfWinRate: {against: initial}}
  storage: {url: "s3://ml/runs", reuseFrom: ["s3://ml/runs/gemma-2-9b-sao"]}
  credentials: [{urlPrefix: "hf://", secretName: hf-token}, {urlPrefix: "s3://ml", secretName: s3-ml}]
  compute:
    profileName: a100-80gb
    queueName: team-a
    podTemplate: {spec: {priorityClassName: research, tolerations: [{key: nvidia.com/gpu, operator: Exists}]}}
    generation: {runtime: Gang, replicas: 4, tensorParallelSize: 1, gpuMemoryPercent: 90,
      resources: {requests: {cpu: 8, memory: 64Gi}}}
    training: {nodes: 1, gpusPerNode: 4, zeroStage: 3, offload: None, microBatchTokens: 16384,
      checkpointIntervalSeconds: 900}
    evaluation: {replicas: 4}
  suspend: false
  activeDeadlineSeconds: 172800
  ttlSecondsAfterFinished: 604800
  failurePolicy: {maxRetriesPerStep: 3, backoffSeconds: 10, maxBackoffSeconds: 600, afterRetries: Hold}
"""

# Under spec, what is refused and the lines that say so.
REFUSED = {
    "iterations: 0": "spec.iterations: 0 must be at least 1",
    "iterations: 33": "spec.iterations: 33 must be at most 32",
    "iterations: 1.5": "spec.iterations: 1.5 must be a whole number",
    "iterations: two": "spec.iterations: two must be a whole number",
    "iterations: '2'": "spec.iterations: 2 must be a whole number; write it without quotes",
    "seed: -1": "spec.seed: -1 must be at least 0",
    "seed: 9223372036854775808": "spec.seed: 9223372036854775808 must be at most 9223372036854775807",
    "trainig: {}": "spec.trainig: no such field; did you mean training?",
    "training: {learning_rate: 1}": "spec.training.learning_rate: no such field; did you mean learningRate?",
    "training: {LearningRate: 1}": "spec.training.LearningRate: no such field; did you mean learningRate?",
    "training: {zeroStage: 3}": "spec.training.zeroStage: no such field here; "
    "did you mean spec.compute.training.zeroStage?",
    "judge: {prompt: x}": "spec.judge.prompt: no such field here; did you mean spec.data.corpus.columns.prompt "
    "or spec.data.demonstrations.columns.prompt "
    "or spec.data.personas.columns.prompt or spec.data.preferences.columns.prompt or spec.data.prompts.columns.prompt or "
    "spec.data.users.columns.prompt or spec.evaluation.checks.selfWinRate.answers.columns.prompt or "
    "spec.evaluation.prompts.columns.prompt?",
    "sao: {color: red}": "spec.sao.color: no such field; the fields here are promptMode",
    "training: {loss: {beta: '3'}}": "spec.training.loss.beta: 3 must be a number; write it without quotes",
    "training: {loss: {beta: [1]}}": "spec.training.loss.beta: must be a number",
    "training: {loss: {beta: 0}}": "spec.training.loss.beta: 0 must be above 0",
    "training: {learningRate: 1.0e-6x}": "spec.training.learningRate: 1.0e-6x must be a number",
    "training: {loss: {type: simPO}}": "spec.training.loss.type: simPO is not one of dpo, ipo, simpo, orpo, hinge, selm, sft; "
    "did you mean simpo?",
    "training: {loss: {type: 3}}": "spec.training.loss.type: 3 is not one of dpo, ipo, simpo, orpo, hinge, selm, sft",
    "training: {loss: simpo}": "spec.training.loss: simpo must be a map; write {field: value}",
    "training: {adapter: lora, lora: {rank: 99999999999}}": "spec.training.lora.rank: 99999999999 must be at most 2147483647",
    "compute: {training: {zeroStage: 4}}": "spec.compute.training.zeroStage: 4 is not one of 0, 1, 2, 3",
    "compute: {training: {zeroStage: true}}": "spec.compute.training.zeroStage: true is not one of 0, 1, 2, 3",
    "compute: {device: gpu}": "spec.compute.device: gpu is not one of GPU, CPU; did you mean GPU?",
    "compute: {podTemplate: 3}": "spec.compute.podTemplate: 3 must be a map; write {field: value}",
    "compute: {queueName: 'a b'}": "spec.compute.queueName: a b must match ^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
    "compute: {generation: {resources: {requests: {cpu: 0.5}}}}": "spec.compute.generation.resources.requests.cpu: 0.5 "
    "must be text; write it in quotes",
    "generation: []": "spec.generation: must be a map; write {field: value}",
    "generation: {filters: {identical: keep}}": "spec.generation.filters.identical: keep is not one of Drop, Keep; "
    "did you mean Keep?",
    "generation: {roles: {judge: {}}}": "spec.generation.roles: must be a list; write [...] or lines that begin with -",
    "generation: {roles: [{topP: 1}]}": "spec.generation.roles[0].name: is missing; write name: respond",
    "generation: {roles: [{name: judge, topP: 0}]}": "spec.generation.roles[judge].topP: 0 must be above 0",
    "generation: {roles: [{name: judge}, {name: judge}]}": "spec.generation.roles: two entries have name: judge; "
    "keep one",
    "generation: {roles: [{name: write}]}": "spec.generation.roles[write].name: write is not one of writePrompt, "
    "listViews, respondView, respond, improve, describeUser, propose, verify, guard, teach, judge",
    "judge: {tieMargin: 0.5}": "spec.judge.tieMargin: 0.5 must be below 0.5",
    "judge: {verdicts: [a]}": "spec.judge.verdicts: has 1 entries; write at least 2",
    "judge: {verdicts: [a, b, c]}": "spec.judge.verdicts: has 3 entries; write at most 2",
    "judge: {criteria: [yes]}": "spec.judge.criteria[0]: true must be text; write it in quotes",
    "judge: {criteria: ['']}": 'spec.judge.criteria[0]: "" must not be empty',
    "suspend: 1": "spec.suspend: 1 must be true or false",
    "credentials: [{urlPrefix: 'hf://'}]": "spec.credentials[hf://].secretName: is missing; write secretName: hf-token",
    "model: {}": 'spec.model.url: is missing; write url: "hf://google/gemma-2-9b-it"',
    "recipe: soa": "spec.recipe: soa is not one of sao, pairs, spin, selm, synpo, fspo, almost, reversegen, pit; did you mean sao?",
}


def with_field(field: str) -> str:
    name = field.split(":")[0]
    kept = [line for line in HEAD.splitlines() if not line.startswith(f"  {name}:")]
    return "\n".join([*kept, f"  {field}", ""])


def said(text: Path | str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_run(text)
    return str(caught.value)


@pytest.mark.parametrize("text", [HEAD, FIRST_RUN, PAPER_RUN], ids=["least", "first", "paper"])
def test_the_documented_runs_are_accepted(text: str) -> None:
    run = load_run(text)
    check_rules(run)
    assert run.spec.recipe == "sao"


def test_a_run_written_as_json_reads_back_the_same() -> None:
    run = load_run(PAPER_RUN)
    assert parse_spec(as_json(run.spec)) == run.spec


def test_numbers_are_read_as_kubectl_does() -> None:
    spec = load_run(HEAD + "  training: {learningRate: 1e-6, epochs: 1, globalBatchSize: 1.28e2}\n").spec
    assert spec.training is not None
    assert (spec.training.learning_rate, spec.training.epochs, spec.training.global_batch_size) == (1e-6, 1.0, 128)


def test_a_field_left_out_has_no_value_in_method_and_means_and_its_default_in_life() -> None:
    spec = load_run(HEAD).spec
    assert (spec.iterations, spec.seed, spec.training, spec.compute, spec.storage) == (None,) * 5
    assert (spec.suspend, spec.failure_policy.max_retries_per_step) == (False, 3)


def test_a_null_is_a_field_left_out_but_not_inside_a_pod_template() -> None:
    spec = load_run(HEAD + "  judge:\n  failurePolicy: null\n  compute: {podTemplate: {spec: {nodeName: null}}}\n").spec
    assert spec.judge is None
    assert spec.failure_policy.backoff_seconds == 10
    assert spec.compute is not None
    assert spec.compute.pod_template == {"spec": {"nodeName": None}}


@pytest.mark.parametrize(("field", "line"), REFUSED.items(), ids=REFUSED)
def test_a_wrong_field_is_told_with_path_value_and_what_to_write(field: str, line: str) -> None:
    assert said(with_field(field)) == line


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", ["text: nothing stands here; write a SelfAlignmentRun, as in examples/"]),
        ("[1]", ["(top level): must be a map; write {field: value}"]),
        (
            "apiVersion: v1\nkind: Pod\n",
            [
                "apiVersion: v1 is not selfalign.dev/v1alpha1; write selfalign.dev/v1alpha1",
                "kind: Pod is not SelfAlignmentRun; write SelfAlignmentRun",
                "metadata: is missing; write metadata: {name: my-run}",
                'spec: is missing; write spec: {recipe: sao, model: {url: "hf://google/gemma-2-9b-it"}}',
            ],
        ),
        (HEAD + "  seed: 1\n  seed: 2\n", ['line:8:3: not valid YAML: key "seed" already stands in line 7; keep one']),
        (HEAD + "---\n" + HEAD, ["text: holds 2 runs (a-run, a-run); write each into a file of its own"]),
        (HEAD + "  seed: .inf\n", ["spec.seed: inf must be a finite number"]),
        (
            HEAD + "  iterations: 0\n  seed: x\n",
            ["spec.iterations: 0 must be at least 1", "spec.seed: x must be a whole number"],
        ),
    ],
    ids=["empty", "list", "another kind", "key twice", "two documents", "infinite", "two errors"],
)
def test_a_text_that_is_no_run_is_told_line_by_line(text: str, lines: list[str]) -> None:
    assert said(text).splitlines() == lines


RUN = yaml.safe_load(HEAD)
ADDED = {
    "creationTimestamp": "2026-11-24T10:00:00Z",
    "deletionGracePeriodSeconds": 0,
    "deletionTimestamp": None,
    "finalizers": ["a.b/c"],
    "generation": 3,
    "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}],
    "ownerReferences": [{"kind": "ConfigMap"}],
    "resourceVersion": "812",
    "selfLink": "/apis/x",
    "uid": "3c9d",
    "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "mine": "kept"},
}
SHOWN = RUN | {"metadata": RUN["metadata"] | ADDED, "status": {"state": "Running", "steps": [{"name": "x"}]}}
OTHER = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}}


@pytest.mark.parametrize(
    "documents",
    [
        [SHOWN],
        [OTHER, RUN],
        [RUN, OTHER, OTHER],
        [{"apiVersion": "v1", "kind": "List", "items": [SHOWN], "metadata": {"resourceVersion": ""}}],
        [{"apiVersion": "selfalign.dev/v1alpha1", "kind": "SelfAlignmentRunList", "items": [RUN]}],
        [{"apiVersion": "v1", "kind": "List", "items": [OTHER, {"kind": "List", "items": [RUN]}]}],
    ],
    ids=["get -o yaml", "after another kind", "before others", "List", "a list of its kind", "lists in lists"],
)
def test_the_one_run_of_a_file_is_taken(documents: list[dict[str, object]]) -> None:
    found, plain = load_run(yaml.safe_dump_all(documents)), load_run(HEAD)
    assert found.spec == plain.spec
    assert found.metadata.name == plain.metadata.name
    assert found.metadata.annotations in ({}, {"mine": "kept"})
    assert load_run(json.dumps(documents[0])) == found if len(documents) == 1 else True


@pytest.mark.parametrize(
    ("documents", "line"),
    [
        ([RUN, OTHER, SHOWN], "text: holds 2 runs (a-run, a-run); write each into a file of its own"),
        ([{"kind": "List", "items": [RUN, RUN, RUN]}], "text: holds 3 runs (a-run, a-run, a-run); write each into"),
        ([OTHER, OTHER], "text: holds PersistentVolumeClaim and no SelfAlignmentRun; write one, as in examples/"),
        ([{"kind": "List", "items": []}], "text: nothing stands here; write a SelfAlignmentRun, as in examples/"),
        ([{"kind": "List", "items": None}], "apiVersion: is missing"),
        ([[1], 2], "text: holds no kind and no SelfAlignmentRun"),
        ([RUN | {"statsu": {}}], "statsu: no such field; "),
        ([RUN | {"metadata": {"name": "a", "resourceVersoin": 3}}], "metadata.resourceVersoin: no such field; "),
    ],
)
def test_a_file_without_one_run_is_told_what_it_holds(documents: list[object], line: str) -> None:
    assert said(yaml.safe_dump_all(documents)).startswith(line)


def test_python_names_are_no_field_names() -> None:
    assert "did you mean apiVersion?" in said(HEAD.replace("apiVersion", "api_version"))


def test_a_file_that_cannot_be_read_is_told_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"a: \xff")
    assert said(tmp_path / "none.yaml") == f"{tmp_path}/none.yaml: there is no such file"
    assert said(tmp_path) == f"{tmp_path}: this is a folder; name the file in it"
    assert said(tmp_path / "latin.yaml") == f"{tmp_path}/latin.yaml: not UTF-8 at byte 3; save the file as UTF-8"


def test_a_file_is_read_and_named_in_its_errors(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(HEAD)
    assert load_run(file) == load_run(HEAD)
    file.write_text("a: [")
    assert said(file).startswith(f"{file}:1:5: not valid YAML: ")
