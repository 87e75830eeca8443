"""Cases of the rules of recipe almost: parts of a run that are accepted, parts that are refused, and the line for these."""

MODELS = "auxiliaryModels: [{name: big, url: 'hf://o/n'}, {name: r, url: 'hf://o/r', kind: RewardModel}]"
RUN = f"recipe: almost, data: {{prompts: {{url: 's3://b/p'}}}}, {MODELS}"
TWO = "{modelName: big}, {modelName: initial}"


def run(responders: str = TWO, more: str = "", beside: str = "") -> str:
    """A run with these responders, further options, and what it says beside them."""
    options = f"almost: {{responders: [{responders}]{', ' if more else ''}{more}}}"
    return f"spec: {{{RUN}, {options}{', ' if beside else ''}{beside}}}"


def alone(responders: str) -> str:
    """The same where a reward model is the only further model, so that there is none to mean."""
    return run(responders).replace("{name: big, url: 'hf://o/n'}, ", "")


def training(loss: str) -> str:
    """With a loss."""
    return f"training: {{loss: {{{loss}}}}}"


ANSWERS = (
    "spec.almost.responders: names a model that does not answer here; write initial, or the name of an entry of "
    "auxiliaryModels of kind Causal"
)
OF_PAIRS = (
    "spec.training.loss: is of pairs, and almost fine-tunes on the best answers; write loss: {type: sft}, or almost.finish: "
    "SampleRankDPO"
)
SFT = (
    "spec.training.loss.type: sft: sft learns one answer to a prompt, as recipe almost does with finish: BestOfN; a recipe that "
    "makes pairs trains on pairs: write loss.type: dpo"
)
STAND_IN = "finish: SampleRankDPO"

CASES_OF_ALMOST = (
    (
        run(),
        f"spec: {{almost: {{responders: [{TWO}]}}, {MODELS}}}",
        "spec.almost: spec.almost belongs to recipe almost; write recipe: almost, or remove spec.almost",
    ),
    (
        run(),
        f"spec: {{{RUN}}}",
        "spec.almost: recipe almost needs its responders, the strongest first; write almost: {responders: [{modelName: NAME}, "
        "{modelName: initial}]}",
    ),
    (
        run(),
        run().replace("data: {prompts: {url: 's3://b/p'}}, ", ""),
        "spec.data: recipe almost needs data.prompts.url; write data: {prompts: {url: hf://datasets/ORG/NAME}}",
    ),
    (run(), alone("{modelName: huge}, {modelName: initial}"), ANSWERS),
    (
        run("{modelName: initial, shots: 3}, {modelName: initial}"),
        alone("{modelName: self}, {modelName: initial}"),
        ANSWERS,
    ),
    (run(), alone("{modelName: r}, {modelName: initial}"), ANSWERS),
    (
        run(more="poolModelName: initial"),
        run("{modelName: big}, {modelName: big, shots: 1}", more="poolModelName: initial"),
        "spec.almost.poolModelName: initial names no responder; write the modelName of one of them, or remove it",
    ),
    (
        run("{modelName: big, shots: 3, demonstrations: Any}, {modelName: big}"),
        run("{modelName: big, demonstrations: Any}, {modelName: initial}"),
        "spec.almost.responders[0].demonstrations: Any: says which demonstrations stand before the prompt, and none do; write "
        "shots: 3, or remove it",
    ),
    (
        run(beside="iterations: 1"),
        run(beside="iterations: 2"),
        "spec.iterations: 2: ALMoST is one pass: its reward model is trained on the initial model's answers and others'; remove "
        "iterations",
    ),
    (run(beside=training("type: sft")), f"spec: {{{training('type: sft')}}}", SFT),
    (run(beside=training("type: sft")), run(more=STAND_IN, beside=training("type: sft")), SFT),
    (run(more=STAND_IN, beside=training("type: dpo")), run(beside=training("type: dpo")), OF_PAIRS),
    (run(more=STAND_IN, beside=training("beta: 0.5")), run(beside=training("beta: 0.5")), OF_PAIRS),
    (
        run(beside="generation: {roles: [{name: respond, temperature: 0.1}]}"),
        run(beside="generation: {roles: [{name: respond, temperature: 0}]}"),
        "spec.generation.roles: sao and almost compare several answers of role respond, which are equal at temperature 0; write "
        "a temperature above 0",
    ),
    (
        run(beside="generation: {roles: [{name: respond, topK: 3}]}"),
        run(beside="generation: {roles: [{name: improve, topK: 3}]}"),
        "spec.generation.roles: recipe almost has the roles respond, judge; use one of these names in generation.roles",
    ),
    (
        run(beside="training: {stages: [{name: rewardModel, epochs: 2}]}"),
        run(beside="training: {stages: [{name: improver, epochs: 2}]}"),
        "spec.training.stages: recipe almost has the further trainings rewardModel; use one of these names in training.stages",
    ),
)
