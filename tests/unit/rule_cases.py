"""Cases of every rule, for Python (test_api_rules.py) and for a real API server (tests/cluster/test_crd.py)."""

from dataclasses import dataclass
from typing import Any

from rule_cases_almost import CASES_OF_ALMOST
from rule_cases_evaluation import CASES_OF_WIN_RATES
from rule_cases_fspo import CASES_OF_FSPO
from rule_cases_reversegen import CASES_OF_REVERSEGEN

BASE: dict[str, Any] = {
    "apiVersion": "selfalign.dev/v1alpha1",
    "kind": "SelfAlignmentRun",
    "metadata": {"name": "a-run"},
    "spec": {"recipe": "sao", "model": {"url": "hf://org/model"}},
}


@dataclass(frozen=True)
class Case:
    """Parts of a run (YAML, merged into BASE) and the line for the refused one. `cluster`: refused there only."""

    accepted: str
    refused: str
    line: str
    cluster: bool = False


PLACES = "s3://BUCKET/PATH, gs://BUCKET/PATH, pvc://CLAIM/PATH, or file:///PATH for a folder inside the image; "
SELM = "recipe: selm, data: {preferences: {url: 's3://b/p'}}"
HERE = "a relative path works only with selfalign run"

TRACKING = (
    "write the address of the tracking server, http://HOST:PORT or https://HOST/PATH; its name and password, or its token, go into "
    "a Secret that credentials names (on one machine: into MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
    "MLFLOW_TRACKING_TOKEN)"
)

PIT = "recipe: pit, data: {preferences: {url: 's3://b/p'}}"
SYNPO = "recipe: synpo, auxiliaryModels: [{name: r, url: 'hf://o/n', kind: PairRanker}], judge: {modelName: r}"
ENCODER = "auxiliaryModels: [{name: e, url: 'hf://o/n', kind: Embedder}]"
SEEDS = "data: {demonstrations: {url: 's3://b/p'}, corpus: {url: 's3://b/c'}}"

CASES = (
    Case(
        "metadata: {name: a-1}",
        "metadata: {name: 1-a}",
        "metadata.name: 1-a: the name becomes part of a DNS name; use at most 40 of a-z, 0-9 and -, starting with a letter",
    ),
    Case(
        "spec: {sao: {promptMode: Free}}",
        "spec: {recipe: spin, data: {demonstrations: {url: 's3://b/p'}}, sao: {promptMode: Free}}",
        "spec.sao: spec.sao belongs to recipe sao; write recipe: sao, or remove spec.sao",
    ),
    Case(
        f"spec: {{{SYNPO}, {SEEDS}, synpo: {{seedWords: 1}}}}",
        "spec: {synpo: {seedWords: 1}}",
        "spec.synpo: spec.synpo belongs to recipe synpo; write recipe: synpo, or remove spec.synpo",
    ),
    *(Case(*each) for each in CASES_OF_FSPO),
    Case(
        f"spec: {{{SYNPO}, {SEEDS}}}",
        "spec: {data: {corpus: {url: 's3://b/c'}}}",
        "spec.data.corpus: data.corpus is read by synpo only; remove it or change recipe",
    ),
    Case(
        f"spec: {{{SYNPO}, {SEEDS}}}",
        f"spec: {{{SYNPO}, data: {{demonstrations: {{url: 's3://b/p'}}}}}}",
        "spec.data: recipe synpo needs data.corpus.url; write data: {corpus: {url: hf://datasets/ORG/NAME}}",
    ),
    Case(
        f"spec: {{{SYNPO}, {SEEDS}}}",
        f"spec: {{{SYNPO}, data: {{corpus: {{url: 's3://b/c'}}}}}}",
        "spec.data: recipe synpo needs data.demonstrations.url; write data: {demonstrations: {url: hf://datasets/ORG/NAME}}",
    ),
    Case(
        f"spec: {{{SYNPO}, {SEEDS}}}",
        f"spec: {{recipe: synpo, {SEEDS}, judge: {{modelName: self}}}}",
        "spec.judge: synpo keeps what a scoring model finds better by a gap; write judge: {method: score, modelName: NAME}, and "
        "NAME with kind: RewardModel, PairRanker or Classifier in auxiliaryModels",
    ),
    Case(
        f"spec: {{{SYNPO}, {SEEDS}, generation: {{filters: {{maxRepetitionPercent: 40}}}}}}",
        "spec: {generation: {filters: {maxRepetitionPercent: 40}}}",
        "spec.generation.filters.maxRepetitionPercent: 40: maxRepetitionPercent is read by synpo only; remove it or change recipe",
    ),
    Case(
        f"spec: {{{SYNPO}, {SEEDS}, training: {{stages: [{{name: improver, epochs: 2}}]}}}}",
        f"spec: {{{SYNPO}, {SEEDS}, training: {{stages: [{{name: warmUp, epochs: 2}}]}}}}",
        "spec.training.stages: recipe synpo has the further trainings promptGenerator, improver; use one of these names in "
        "training.stages",
    ),
    Case(
        f"spec: {{{SYNPO}, {SEEDS}, generation: {{roles: [{{name: improve, topK: 3}}]}}}}",
        f"spec: {{{SYNPO}, {SEEDS}, generation: {{roles: [{{name: listViews, topK: 3}}]}}}}",
        "spec.generation.roles: recipe synpo has the roles writePrompt, respond, improve, judge; use one of these names in "
        "generation.roles",
    ),
    Case(
        f"spec: {{{SYNPO}, {SEEDS}, generation: {{roles: [{{name: improve, topK: 3}}]}}}}",
        "spec: {generation: {roles: [{name: improve, topK: 3}]}}",
        "spec.generation.roles: recipe sao has the roles writePrompt, respond, judge; use one of these names in generation.roles",
    ),
    Case(
        f"spec: {{{PIT}, pit: {{candidates: 2}}}}",
        "spec: {pit: {candidates: 2}}",
        "spec.pit: spec.pit belongs to recipe pit; write recipe: pit, or remove spec.pit",
    ),
    Case(
        f"spec: {{{PIT}}}",
        "spec: {recipe: pit}",
        "spec.data: recipe pit needs data.preferences.url; write data: {preferences: {url: hf://datasets/ORG/NAME}}",
    ),
    Case(
        f"spec: {{{PIT}, generation: {{roles: [{{name: improve, temperature: 0.1}}]}}}}",
        f"spec: {{{PIT}, generation: {{roles: [{{name: improve, temperature: 0}}]}}}}",
        "spec.generation.roles: pit ranks several candidates of role improve, which are equal at temperature 0; write a "
        "temperature above 0",
    ),
    Case(
        f"spec: {{{PIT}, generation: {{roles: [{{name: improve, topK: 3}}]}}}}",
        f"spec: {{{PIT}, generation: {{roles: [{{name: writePrompt, topK: 3}}]}}}}",
        "spec.generation.roles: recipe pit has the roles respond, improve, judge; use one of these names in generation.roles",
    ),
    Case(
        f"spec: {{{PIT}, training: {{stages: [{{name: rewardModel, epochs: 2}}]}}}}",
        f"spec: {{{PIT}, training: {{stages: [{{name: gapModel, epochs: 2}}]}}}}",
        "spec.training.stages: recipe pit has the further trainings draftModel, improver, rewardModel; use one of these names in "
        "training.stages",
    ),
    Case(
        f"spec: {{{PIT}, pit: {{draftModel: Trained}}, training: {{stages: [{{name: draftModel, epochs: 2}}]}}}}",
        f"spec: {{{PIT}, pit: {{draftModel: Initial}}, training: {{stages: [{{name: draftModel, epochs: 2}}]}}}}",
        "spec.training.stages: with pit.draftModel: Initial the model as given drafts, and none is trained for it; remove the "
        "stage draftModel, or write pit.draftModel: Trained",
    ),
    Case(
        f"spec: {{{PIT}, training: {{adapter: lora}}, output: {{url: 's3://b/m', adapter: Merge}}}}",
        f"spec: {{{PIT}, training: {{adapter: lora}}, output: {{url: 's3://b/m', adapter: Keep}}}}",
        "spec.output.adapter: Keep: the improver's adapter sits on a model that only the run's folder has; remove adapter: what is "
        "published is whole",
    ),
    Case(
        "spec: {data: {personas: {count: 3}}}",
        "spec: {recipe: spin, data: {demonstrations: {url: 's3://b/p'}, personas: {count: 3}}}",
        "spec.data.personas: data.personas is read by sao only; remove it or change recipe",
    ),
    Case(
        "spec: {data: {prompts: {url: 's3://b/p'}}}",
        "spec: {recipe: spin, data: {demonstrations: {url: 's3://b/p'}, prompts: {url: 's3://b/p'}}}",
        "spec.data.prompts: data.prompts is read by sao, fspo, almost, reversegen only; remove it or change recipe",
    ),
    Case(
        "spec: {data: {personas: {count: 3}}}",
        "spec: {data: {personas: {count: 3}, prompts: {url: 's3://b/p'}}}",
        "spec.data: sao writes its prompts from personas or takes yours; keep data.personas or data.prompts, not both",
    ),
    Case(
        "spec: {recipe: spin, data: {demonstrations: {url: 's3://b/p'}}}",
        "spec: {data: {demonstrations: {url: 's3://b/p'}}}",
        "spec.data.demonstrations: data.demonstrations is read by spin, synpo, almost only; remove it or change recipe",
    ),
    Case(
        "spec: {recipe: spin, data: {demonstrations: {url: 's3://b/p'}}}",
        "spec: {recipe: spin, data: {demonstrations: {count: 3}}}",
        "spec.data: recipe spin needs data.demonstrations.url; write data: {demonstrations: {url: hf://datasets/ORG/NAME}}",
    ),
    Case(
        "spec: {recipe: spin, data: {demonstrations: {url: 's3://b/p'}}, generation: {roles: [{name: respond, topK: 3}]}}",
        "spec: {recipe: spin, data: {demonstrations: {url: 's3://b/p'}}, generation: {roles: [{name: respond, reasoning: Keep}]}}",
        "spec.generation.roles: given answers have no reasoning, and own answers that have it could be told by it; remove "
        "reasoning: Keep",
    ),
    Case(
        "spec: {recipe: pairs, data: {preferences: {url: 's3://b/p'}}}",
        "spec: {data: {preferences: {url: 's3://b/p'}}}",
        "spec.data.preferences: data.preferences is read by pairs, selm, fspo, pit only; remove it or change recipe",
    ),
    Case(
        "spec: {recipe: pairs, data: {preferences: {url: 's3://b/p'}}}",
        "spec: {recipe: pairs, data: {preferences: {count: 3}}}",
        "spec.data: recipe pairs needs data.preferences.url; write data: {preferences: {url: hf://datasets/ORG/NAME}}",
    ),
    Case(
        "spec: {recipe: pairs, data: {preferences: {url: 's3://b/p'}}, generation: {roles: [{name: respond, topK: 3}]}}",
        "spec: {recipe: pairs, data: {preferences: {url: 's3://b/p'}}, generation: {roles: [{name: writePrompt, topK: 3}]}}",
        "spec.generation.roles: recipe pairs has the roles respond, judge; use one of these names in generation.roles",
    ),
    Case(
        "spec: {recipe: spin, data: {demonstrations: {url: 's3://b/p'}}, generation: {roles: [{name: respond, topK: 3}]}}",
        "spec: {recipe: spin, data: {demonstrations: {url: 's3://b/p'}}, generation: {roles: [{name: improve, topK: 3}]}}",
        "spec.generation.roles: recipe spin has the roles respond, judge; use one of these names in generation.roles",
    ),
    Case(
        "spec: {recipe: selm, data: {preferences: {url: 's3://b/p'}}, generation: {roles: [{name: respond, topK: 3}]}}",
        "spec: {recipe: selm, data: {preferences: {url: 's3://b/p'}}, generation: {roles: [{name: improve, topK: 3}]}}",
        "spec.generation.roles: recipe selm has the roles respond, judge; use one of these names in generation.roles",
    ),
    Case(
        "spec: {recipe: pairs, data: {preferences: {url: 's3://b/p'}}, output: {url: 's3://b/o'}}",
        "spec: {recipe: pairs, data: {preferences: {url: 's3://b/p'}}, output: {datasetUrl: 's3://b/o'}}",
        "spec.output.datasetUrl: s3://b/o: pairs of your own are not copied, and none are made; remove datasetUrl",
    ),
    Case(
        "spec: {recipe: pairs, data: {preferences: {url: 's3://b/p'}}, generation: {filters: {identical: Keep}}}",
        "spec: {recipe: pairs, data: {preferences: {url: 's3://b/p'}}, generation: {filters: {truncated: Drop}}}",
        "spec.generation.filters.truncated: Drop: pairs of your own were not cut by anybody here; remove truncated",
    ),
    Case(
        "spec: {generation: {filters: {nearDuplicates: {}}}}",
        "spec: {data: {prompts: {url: 's3://b/p'}}, generation: {filters: {nearDuplicates: {}}}}",
        "spec.generation.filters.nearDuplicates: only prompts that a model writes, sao's from personas, synpo's and "
        "reversegen's, are compared; yours are taken as they are; remove nearDuplicates",
    ),
    Case(
        f"spec: {{generation: {{filters: {{nearDuplicates: {{method: Embedding, modelName: e}}}}}}, {ENCODER}}}",
        f"spec: {{generation: {{filters: {{nearDuplicates: {{method: Embedding, modelName: e, ngram: 2}}}}}}, {ENCODER}}}",
        "spec.generation.filters.nearDuplicates: ngram is MinHash's; remove it, or write method: MinHash",
    ),
    Case(
        f"spec: {{generation: {{filters: {{nearDuplicates: {{method: Embedding, modelName: e}}}}}}, {ENCODER}}}",
        f"spec: {{generation: {{filters: {{nearDuplicates: {{modelName: e}}}}}}, {ENCODER}}}",
        "spec.generation.filters.nearDuplicates: Embedding needs the name of a model, and the others have none; write {method: "
        "Embedding, modelName: NAME}, or {method: MinHash}",
    ),
    Case(
        "spec: {generation: {filters: {nearDuplicates: {method: Exact}}}}",
        "spec: {generation: {filters: {nearDuplicates: {method: Embedding}}}}",
        "spec.generation.filters.nearDuplicates: Embedding needs the name of a model, and the others have none; write {method: "
        "Embedding, modelName: NAME}, or {method: MinHash}",
    ),
    Case(
        f"spec: {{generation: {{filters: {{nearDuplicates: {{method: Embedding, modelName: e, threshold: 0.9}}}}}}, {ENCODER}}}",
        f"spec: {{generation: {{filters: {{nearDuplicates: {{method: Embedding, modelName: f}}}}}}, {ENCODER}}}",
        "spec.generation.filters.nearDuplicates.modelName: f names no model that gives vectors; write the name of an entry of "
        "auxiliaryModels with kind: Embedder",
    ),
    Case(
        "spec: {generation: {filters: {nearDuplicates: {method: MinHash, threshold: 0.9, ngram: 2}}}}",
        "spec: {generation: {filters: {nearDuplicates: {method: Exact, threshold: 0.9}}}}",
        "spec.generation.filters.nearDuplicates: threshold and ngram are MinHash's; remove them, or write method: MinHash",
    ),
    Case(
        "spec: {data: {prompts: {url: 's3://b/p'}}}",
        "spec: {data: {prompts: {count: 3}}}",
        "spec.data.prompts.url: prompts of your own need a place; write url: hf://datasets/ORG/NAME, "
        "or remove data.prompts",
    ),
    Case(
        "spec: {model: {url: 'pvc://claim/model'}}",
        "spec: {model: {url: 'https://x/model'}}",
        f"spec.model.url: https://x/model: write hf://ORG/NAME, {PLACES}{HERE}",
    ),
    Case(
        "spec: {model: {url: 'file:///model'}}",
        "spec: {model: {url: ./model}}",
        f"spec.model.url: ./model: write hf://ORG/NAME, {PLACES}{HERE}",
        cluster=True,
    ),
    Case(
        "spec: {model: {chatTemplateUrl: 'gs://b/t.jinja'}}",
        "spec: {model: {chatTemplateUrl: t.jinja}}",
        f"spec.model.chatTemplateUrl: t.jinja: write hf://ORG/NAME, {PLACES}{HERE}",
    ),
    Case(
        "spec: {generation: {roles: [{name: judge, templateUrl: 's3://b/t'}]}}",
        "spec: {generation: {roles: [{name: judge, templateUrl: b/t}]}}",
        f"spec.generation.roles[judge].templateUrl: b/t: write hf://ORG/NAME, {PLACES}{HERE}",
    ),
    Case(
        "spec: {data: {prompts: {url: 'hf://datasets/o/n'}}}",
        "spec: {data: {prompts: {url: 'ftp://o/n'}}}",
        f"spec.data.prompts.url: ftp://o/n: write hf://datasets/ORG/NAME, {PLACES}{HERE}",
    ),
    Case(
        "spec: {model: {url: 'hf://o/n@main'}}",
        "spec: {model: {url: 'hf://datasets/o/n'}}",
        "spec.model.url: hf://datasets/o/n: this is a dataset; for a model write hf://ORG/NAME or hf://ORG/NAME@REVISION",
    ),
    Case(
        "spec: {auxiliaryModels: [{name: big, url: 'pvc://claim/model'}]}",
        "spec: {auxiliaryModels: [{name: big, url: 'https://x/model'}]}",
        f"spec.auxiliaryModels[big].url: https://x/model: write hf://ORG/NAME, {PLACES}{HERE}",
    ),
    Case(
        "spec: {auxiliaryModels: [{name: big, url: 'hf://o/n@main', kind: Causal}]}",
        "spec: {auxiliaryModels: [{name: big, url: 'hf://datasets/o/n'}]}",
        "spec.auxiliaryModels[big].url: hf://datasets/o/n: this is a dataset; for a model write hf://ORG/NAME or "
        "hf://ORG/NAME@REVISION",
    ),
    Case(
        "spec: {auxiliaryModels: [{name: selfish, url: 'hf://o/n'}]}",
        "spec: {auxiliaryModels: [{name: self, url: 'hf://o/n'}]}",
        "spec.auxiliaryModels[self].name: self: self, initial and policy name the run's own model; write another name",
    ),
    Case(
        "spec: {evaluation: {gates: [{check: win, figure: low, atLeast: 0.5}]}}",
        "spec: {evaluation: {gates: [{check: wins, figure: low, atLeast: 0.5}]}}",
        "spec.evaluation.gates: a gate names no check; write the name of an entry of evaluation.checks (win, where none is "
        "written)",
    ),
    Case(
        "spec: {evaluation: {checks: [{name: w, type: SelfWinRate}], gates: [{check: w, figure: value, atLeast: 0.5}]}}",
        "spec: {evaluation: {checks: [{name: w, type: SelfWinRate}], gates: [{check: w, figure: gain, atLeast: 0.5}]}}",
        "spec.evaluation.gates: a win rate has no gain: it compares with the model as given; write figure: value or low",
    ),
    Case(
        "spec: {evaluation: {gates: [{check: win, figure: value, atLeast: 0}]}}",
        "spec: {evaluation: {gates: [{check: win, figure: value, atLeast: -0.5}]}}",
        "spec.evaluation.gates[0].atLeast: -0.5: a value is a share, from 0 to 1, so this says nothing; write a number above "
        "0, or figure: gain, which may be below 0",
    ),
    Case(
        "spec: {evaluation: {gates: [{check: win, figure: low, atLeast: 0}]}}",
        "spec: {evaluation: {gates: [{check: win, figure: low, atLeast: -0.1}]}}",
        "spec.evaluation.gates: low of a win rate is a share, from 0 to 1, and 0.5 is no difference; write atLeast: 0.5",
    ),
    Case(
        "spec: {evaluation: {gates: [{check: win, figure: low, atLeast: 0.5}, {check: win, figure: value, atLeast: 0.5}]}}",
        "spec: {evaluation: {gates: [{check: win, figure: low, atLeast: 0.5}, {check: win, figure: low, atLeast: 0.6}]}}",
        "spec.evaluation.gates: two gates ask for the same figure of a check; keep the one with the higher atLeast",
    ),
    Case(
        "spec: {evaluation: {selectBy: win}}",
        "spec: {evaluation: {selectBy: accuracy}}",
        "spec.evaluation.selectBy: accuracy names no check; write the name of an entry of evaluation.checks (win, where none "
        "is written)",
    ),
    Case(
        "spec: {evaluation: {selectBy: win, when: EachIteration}}",
        "spec: {evaluation: {selectBy: win, when: Last}}",
        "spec.evaluation.selectBy: win: selectBy compares the rounds, so each of them is evaluated; write when: "
        "EachIteration, or remove selectBy",
    ),
    Case(
        "spec: {evaluation: {selectBy: win, stopAfterWorse: 1}}",
        "spec: {evaluation: {stopAfterWorse: 1}}",
        "spec.evaluation.stopAfterWorse: 1: the loop ends by the values of a check; write selectBy: NAME OF A CHECK beside it, "
        "or remove stopAfterWorse",
    ),
    Case(
        "spec: {iterations: 4, evaluation: {selectBy: win, stopAfterWorse: 2}}",
        "spec: {iterations: 3, evaluation: {selectBy: win, stopAfterWorse: 2}}",
        "spec.evaluation.stopAfterWorse: 2: with so few iterations the loop is over before it could end early; write "
        "iterations at least 2 above stopAfterWorse, or remove stopAfterWorse",
    ),
    Case(
        "spec: {evaluation: {when: Last, gates: [{check: win, figure: low, atLeast: 0.5}]}}",
        "spec: {evaluation: {when: Never, gates: [{check: win, figure: low, atLeast: 0.5}]}}",
        "spec.evaluation.gates: gates need an evaluation; write when: Last or EachIteration, or remove gates",
    ),
    Case(
        "spec: {auxiliaryModels: [{name: guard, url: 'hf://o/n', kind: Classifier, label: safe}]}",
        "spec: {auxiliaryModels: [{name: guard, url: 'hf://o/n', label: safe}]}",
        "spec.auxiliaryModels[guard].label: safe: a Classifier's score is that of one of its labels, and no other kind has "
        "any; write kind: Classifier with label: NAME, as id2label of its config.json names it",
    ),
    Case(
        "spec: {auxiliaryModels: [{name: big, url: 'hf://o/n'}], judge: {modelName: big}}",
        "spec: {judge: {modelName: big}}",
        "spec.judge.modelName: big names no model; write self, initial, or the name of an entry of auxiliaryModels",
    ),
    Case(
        "spec: {auxiliaryModels: [{name: rm, url: 'hf://o/n', kind: RewardModel}], judge: {method: score, modelName: rm}}",
        "spec: {auxiliaryModels: [{name: rm, url: 'hf://o/n'}], judge: {method: score, modelName: rm}}",
        "spec.judge.method: score: method score needs a model that scores and the other methods one that writes; write "
        "judge: {method: score, modelName: NAME} with kind: RewardModel, PairRanker or Classifier in auxiliaryModels, or "
        "method: logprobs",
    ),
    Case(
        "spec: {auxiliaryModels: [{name: r, url: 'hf://o/n', kind: PairRanker}], "
        "judge: {method: score, modelName: r, minScoreGap: 0.2}}",
        "spec: {judge: {minScoreGap: 0.2}}",
        "spec.judge.minScoreGap: 0.2: minScoreGap is in a scoring model's units; write judge.method: score, or remove it",
    ),
    Case(
        "spec: {auxiliaryModels: [{name: big, url: 'hf://o/n'}], judge: {modelName: big}, "
        "compute: {generation: {models: [{modelName: big, tensorParallelSize: 4}]}}}",
        "spec: {compute: {generation: {models: [{modelName: big, tensorParallelSize: 4}]}}}",
        "spec.compute.generation.models: counts for a model that is not there; write the names of entries of auxiliaryModels",
    ),
    Case(
        "spec: {evaluation: {prompts: {url: 'hf://datasets/o/n/f.json'}}}",
        "spec: {evaluation: {prompts: {url: 'hf://o/n'}}}",
        "spec.evaluation.prompts.url: hf://o/n: this is a model; for data write hf://datasets/ORG/NAME or "
        "hf://datasets/ORG/NAME/FILE",
    ),
    Case(
        "spec: {storage: {url: 's3://b/runs'}}",
        "spec: {storage: {url: 'hf://o/n'}}",
        "spec.storage.url: hf://o/n: a run appends to its storage, which the hub cannot do; write s3://BUCKET/PATH, "
        f"gs://BUCKET/PATH or pvc://CLAIM/PATH; {HERE}",
    ),
    Case(
        "spec: {output: {url: 'hf://o/n'}}",
        "spec: {output: {url: 'hf://n'}}",
        "spec.output.url: hf://n: write the folder that it is copied to, s3://BUCKET/PATH, gs://BUCKET/PATH or "
        f"pvc://CLAIM/PATH, or the repository of the hub, hf://ORG/NAME; {HERE}",
    ),
    Case(
        "spec: {output: {url: 'hf://o/n'}}",
        "spec: {output: {url: 'hf://o/n@v2'}}",
        "spec.output.url: hf://o/n@v2: write the folder that it is copied to, s3://BUCKET/PATH, gs://BUCKET/PATH or "
        f"pvc://CLAIM/PATH, or the repository of the hub, hf://ORG/NAME; {HERE}",
    ),
    Case(
        "spec: {output: {url: 's3://b/model'}}",
        "spec: {output: {url: 'hf://datasets/o/n'}}",
        "spec.output.url: hf://datasets/o/n: write the folder that it is copied to, s3://BUCKET/PATH, gs://BUCKET/PATH or "
        f"pvc://CLAIM/PATH, or the repository of the hub, hf://ORG/NAME; {HERE}",
    ),
    Case(
        "spec: {output: {datasetUrl: 'hf://datasets/o/n'}}",
        "spec: {output: {datasetUrl: 'hf://o/n'}}",
        "spec.output.datasetUrl: hf://o/n: write the folder that it is copied to, s3://BUCKET/PATH, gs://BUCKET/PATH or "
        f"pvc://CLAIM/PATH, or the repository of the hub, hf://datasets/ORG/NAME; {HERE}",
    ),
    Case(
        "spec: {output: {datasetUrl: 'pvc://claim/pairs'}}",
        "spec: {output: {datasetUrl: 'hf://datasets/o/n/pairs.parquet'}}",
        "spec.output.datasetUrl: hf://datasets/o/n/pairs.parquet: write the folder that it is copied to, s3://BUCKET/PATH, "
        "gs://BUCKET/PATH or "
        f"pvc://CLAIM/PATH, or the repository of the hub, hf://datasets/ORG/NAME; {HERE}",
    ),
    Case(
        "spec: {output: {url: 'hf://o/n', visibility: Public}}",
        "spec: {output: {url: 's3://b/model', visibility: Public}}",
        "spec.output.visibility: Public is that of a repository of the hub, and none is written; write url: hf://ORG/NAME or "
        "datasetUrl: hf://datasets/ORG/NAME, or remove visibility",
    ),
    Case(
        "spec: {training: {adapter: lora}, output: {url: 's3://b/model', adapter: Keep}}",
        "spec: {training: {adapter: lora}, output: {adapter: Keep}}",
        "spec.output.adapter: Keep: says what goes to output.url, which is not written; write it, or remove adapter",
    ),
    Case(
        "spec: {training: {adapter: lora}, output: {url: 's3://b/model', adapter: Keep}}",
        "spec: {training: {adapter: none}, output: {url: 's3://b/model', adapter: Keep}}",
        "spec.output.adapter: Keep: there is an adapter to keep only with training.adapter: lora; write that, or remove "
        "output.adapter",
    ),
    Case(
        "spec: {storage: {reuseFrom: ['s3://b/runs/a']}}",
        "spec: {storage: {reuseFrom: ['s3://b/runs/a', 'hf://o/n']}}",
        "spec.storage.reuseFrom: write the folders of other runs: s3://BUCKET/PATH, gs://BUCKET/PATH or "
        f"pvc://CLAIM/PATH; {HERE}",
    ),
    *(
        Case(
            f"spec: {{tracking: {{type: MLflow, url: '{right}'}}}}",
            f"spec: {{tracking: {{type: MLflow, url: '{wrong}'}}}}",
            f"spec.tracking.url: {wrong}: {TRACKING}",
        )
        for right, wrong in (
            ("http://mlflow:5000", "mlflow:5000"),
            ("https://mlflow.example/team", "sqlite:///mlflow.db"),
            ("https://mlflow.example/", "https://name:word@mlflow.example"),
            ("http://10.0.0.7", "https://mlflow.example/#/experiments/1"),
            ("https://mlflow", "https://"),
            ("http://[::1]:5000", "./mlruns"),
            ("https://mlflow.example:8443/a/b", "https://mlflow.example?team=a"),
        )
    ),
    Case(
        "spec: {generation: {roles: [{name: judge, template: t}]}}",
        "spec: {generation: {roles: [{name: judge, template: t, templateUrl: 's3://b/t'}]}}",
        "spec.generation.roles[judge]: write template or templateUrl, not both",
    ),
    Case(
        "spec: {generation: {maxModelTokens: 9, roles: [{name: judge}, {name: respond, maxTokens: 8}]}}",
        "spec: {generation: {maxModelTokens: 9, roles: [{name: judge}, {name: respond, maxTokens: 9}]}}",
        "spec.generation.roles: a role's maxTokens must leave room for its prompt; write less than maxModelTokens",
    ),
    Case(
        "spec: {generation: {roles: [{name: judge, temperature: 0}, {name: respond, temperature: 0.1}]}}",
        "spec: {generation: {roles: [{name: judge, temperature: 1}, {name: respond, temperature: 0}]}}",
        "spec.generation.roles: sao and almost compare several answers of role respond, which are equal at temperature 0; "
        "write a temperature above 0",
    ),
    Case(
        "spec: {judge: {tieMargin: 0.1}}",
        "spec: {judge: {tieMargin: 0.1, method: paper}}",
        "spec.judge.tieMargin: 0.1: tieMargin is a probability of method logprobs; write judge.method: logprobs, "
        "or remove tieMargin",
    ),
    Case(
        "spec: {judge: {verdicts: [A, B], method: logprobs}}",
        "spec: {judge: {verdicts: [A, B], method: generate}}",
        "spec.judge.verdicts: verdicts are compared by method logprobs; write judge.method: logprobs, or remove verdicts",
    ),
    Case(
        "spec: {judge: {verdicts: [A, B]}}",
        "spec: {judge: {verdicts: [A, A]}}",
        "spec.judge.verdicts: the two candidate verdicts are equal, so none can win; write two that differ",
    ),
    Case(
        "spec: {training: {loss: {gamma: 3}}}",
        "spec: {training: {loss: {gamma: 3, type: dpo}}}",
        "spec.training.loss.gamma: 3: gamma is SimPO's margin; write loss.type: simpo, or remove gamma",
    ),
    Case(
        f"spec: {{{SELM}, selm: {{firstIteration: Offline}}}}",
        "spec: {selm: {firstIteration: Offline}}",
        "spec.selm: spec.selm belongs to recipe selm; write recipe: selm, or remove spec.selm",
    ),
    Case(
        f"spec: {{{SELM}}}",
        "spec: {recipe: selm, data: {preferences: {count: 3}}}",
        "spec.data: recipe selm needs data.preferences.url; write data: {preferences: {url: hf://datasets/ORG/NAME}}",
    ),
    Case(
        f"spec: {{{SELM}, iterations: 2, selm: {{firstIteration: Offline}}}}",
        f"spec: {{{SELM}, iterations: 1, selm: {{firstIteration: Offline}}}}",
        "spec.selm.firstIteration: Offline: an offline iteration explores nothing, and there is no other; write iterations: "
        "2 or more, or recipe: pairs",
    ),
    Case(
        f"spec: {{{SELM}, judge: {{method: generate}}}}",
        f"spec: {{{SELM}, judge: {{method: paper}}}}",
        "spec.judge.method: paper: paper is SAO's one order of two answers, and selm ranks three in all orders; write "
        "judge.method: score, logprobs or generate",
    ),
    Case(
        f"spec: {{{SELM}, training: {{loss: {{alpha: 0.001}}}}}}",
        f"spec: {{{SELM}, training: {{loss: {{alpha: 0.001, type: dpo}}}}}}",
        "spec.training.loss.alpha: 0.001: alpha weighs SELM's optimism term; write loss.type: selm, or remove alpha",
    ),
    Case(
        f"spec: {{{SELM}, training: {{loss: {{type: selm}}}}}}",
        "spec: {training: {loss: {type: selm}}}",
        "spec.training.loss.type: selm: loss selm needs the model's own answers, which only recipe selm keeps; write recipe: "
        "selm, or loss.type: dpo",
    ),
    Case(
        f"spec: {{{SELM}, training: {{loss: {{alpha: 0}}}}}}",
        "spec: {training: {loss: {alpha: 0}}}",
        "spec.training.loss.alpha: 0: alpha weighs the optimism term of recipe selm; write recipe: selm, or remove alpha",
    ),
    Case(
        f"spec: {{{SELM}, training: {{iterationOverrides: [{{fromIteration: 2, alpha: 0.1}}]}}}}",
        f"spec: {{{SELM}, training: {{loss: {{type: dpo}}, iterationOverrides: [{{fromIteration: 2, alpha: 0.1}}]}}}}",
        "spec.training.iterationOverrides: alpha weighs SELM's optimism term; remove it from iterationOverrides, or write "
        "recipe: selm and loss.type: selm",
    ),
    Case(
        "spec: {training: {loss: {labelSmoothing: 0.1, type: ipo}}}",
        "spec: {training: {loss: {labelSmoothing: 0.1, type: simpo}}}",
        "spec.training.loss.labelSmoothing: 0.1: labelSmoothing is defined for dpo and ipo; remove it or write "
        "loss.type: dpo",
    ),
    Case(
        "spec: {training: {maxPromptTokens: 7, maxLengthTokens: 8}}",
        "spec: {training: {maxPromptTokens: 8, maxLengthTokens: 8}}",
        "spec.training.maxPromptTokens: 8: maxPromptTokens leaves no room for an answer; write a value below "
        "maxLengthTokens",
    ),
    Case(
        "spec: {training: {adapter: lora, lora: {rank: 8}}}",
        "spec: {training: {lora: {rank: 8}}}",
        "spec.training.lora: lora has an effect only with adapter: lora; write that, or remove lora",
    ),
    Case(
        "spec: {training: {stages: []}}",
        "spec: {training: {stages: [{name: improver, epochs: 2}]}}",
        "spec.training.stages: this recipe has one training only; move the values to training itself, and remove stages",
    ),
    Case(
        "spec: {iterations: 2, training: {iterationOverrides: [{fromIteration: 2, beta: 5}]}}",
        "spec: {iterations: 1, training: {iterationOverrides: [{fromIteration: 2, beta: 5}]}}",
        "spec.training.iterationOverrides: an override starts after the last iteration; raise iterations or lower "
        "fromIteration",
    ),
    Case(
        "spec: {training: {iterationOverrides: [{fromIteration: 2, epochs: 2}]}}",
        "spec: {training: {iterationOverrides: [{fromIteration: 2}]}}",
        "spec.training.iterationOverrides[2]: an override sets something; write learningRate, beta, alpha or epochs beside "
        "fromIteration",
    ),
    Case(
        "spec: {evaluation: {checks: [{name: win, type: SelfWinRate, selfWinRate: {}}]}}",
        "spec: {evaluation: {prompts: {columns: {reference: r}}, "
        "checks: [{name: win, type: ExactMatch, selfWinRate: {}}]}}",
        "spec.evaluation.checks[win].selfWinRate: selfWinRate belongs to another type; write type: SelfWinRate, "
        "or remove selfWinRate",
    ),
    Case(
        "spec: {evaluation: {prompts: {columns: {reference: r}}, "
        "checks: [{name: acc, type: ExactMatch, exactMatch: {temperatures: [0]}}]}}",
        "spec: {evaluation: {checks: [{name: acc, type: SelfWinRate, exactMatch: {temperatures: [0]}}]}}",
        "spec.evaluation.checks[acc].exactMatch: exactMatch belongs to another type; write type: ExactMatch, "
        "or remove exactMatch",
    ),
    Case(
        "spec: {evaluation: {prompts: {columns: {reference: r}}, checks: [{name: acc, type: ExactMatch}]}}",
        "spec: {evaluation: {prompts: {columns: {prompt: p}}, checks: [{name: acc, type: ExactMatch}]}}",
        "spec.evaluation.checks: ExactMatch compares with reference answers; write evaluation.prompts: {url: ..., "
        "columns: {reference: COLUMN}}",
    ),
    Case(
        "spec: {compute: {training: {zeroStage: 3, offload: OptimizerAndParameters}}}",
        "spec: {compute: {training: {zeroStage: 2, offload: OptimizerAndParameters}}}",
        "spec.compute.training.offload: OptimizerAndParameters: parameters can be offloaded only with zeroStage: 3; "
        "write that, or offload: Optimizer",
    ),
    Case(
        "spec: {compute: {training: {zeroStage: 0, offload: None}}}",
        "spec: {compute: {training: {zeroStage: 0, offload: Optimizer}}}",
        "spec.compute.training.offload: Optimizer: zeroStage: 0 offloads nothing; write zeroStage: 1, 2 or 3, "
        "or offload: None",
    ),
    Case(
        "spec: {compute: {generation: {runtime: RayJob, headPodTemplate: {spec: {nodeSelector: {spot: no}}}}}}",
        "spec: {compute: {generation: {headPodTemplate: {spec: {nodeSelector: {spot: no}}}}}}",
        "spec.compute.generation.headPodTemplate: the pods of a gang are all alike, and only a RayJob's head may differ; "
        "write runtime: RayJob beside it, or podTemplate for all",
    ),
    Case(
        "spec: {compute: {device: CPU, training: {gpusPerNode: 0}}}",
        "spec: {compute: {device: CPU, training: {gpusPerNode: 1}}}",
        "spec.compute.training.gpusPerNode: 1: device: CPU has no GPUs; write compute.training.gpusPerNode: 0 or remove it",
    ),
    Case(
        "spec: {failurePolicy: {maxBackoffSeconds: 10}}",
        "spec: {failurePolicy: {maxBackoffSeconds: 9}}",
        "spec.failurePolicy.backoffSeconds: 10: the first wait is longer than the longest; write backoffSeconds at or "
        "below maxBackoffSeconds",
    ),
    *(Case(*parts) for parts in CASES_OF_ALMOST),
    *(Case(*parts) for parts in CASES_OF_WIN_RATES),
    Case(
        f"spec: {{{SYNPO}, {SEEDS}, generation: {{roles: [{{name: improve, topK: 3}}]}}}}",
        f"spec: {{{SYNPO}, {SEEDS}, generation: {{roles: [{{name: teach, topK: 3}}]}}}}",
        "spec.generation.roles: recipe synpo has the roles writePrompt, respond, improve, judge; use one of these names in "
        "generation.roles",
    ),
    *(Case(*each) for each in CASES_OF_REVERSEGEN),
)
