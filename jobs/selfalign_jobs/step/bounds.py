"""The bounds beyond which a run deserves a second look: one table, which docs/second-look.md shows whole."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bound:
    """A figure that is odd beyond `value`: what it is of, why that value, and what to write."""

    name: str
    value: float
    of: str
    why: str
    write: str


# --- generation and its judge ---------------------------------------------------------------------------------------------

POSITION = Bound(
    "POSITION", 0.75, "verdicts that prefer the answer shown in one place",
    "a judge without bias has .5; SmolLM2-135M as its own judge reaches .98",
    "judge.method: logprobs cancels it out; else a template that names the order's labels, or a larger model",
)  # fmt: skip
CONSISTENT = Bound(
    "CONSISTENT", 0.7, "pairs whose two orders name the same answer (less)",
    "chance is .5; our tiny model reaches .94",
    "a judge's template that repeats the answer with its label, or a larger model",
)  # fmt: skip
PARSED = Bound(
    "PARSED", 0.9, "verdicts that could be read (less)",
    "what cannot be read is lost without a reason that lies in the answers",
    "judge.verdicts as the template asks for them, or judge.method: logprobs",
)  # fmt: skip
TIES = Bound(
    "TIES", 0.5, "judged records that are ties",
    "ours: most of what was generated and judged is then thrown away",
    "a smaller judge.tieMargin, a higher temperature of respond, or a judge's template that shows both answers",
)  # fmt: skip
REPEATED = Bound(
    "REPEATED", 0.05, "prompts that repeat an earlier one",
    "SAO: .7 % with personas, 46 % without",
    "personas that differ more, or a higher temperature of writePrompt",
)  # fmt: skip
IDENTICAL = Bound(
    "IDENTICAL", 0.1, "records whose two answers are the same text",
    "ours: two samples at the papers' temperatures seldom agree word by word",
    "a higher temperature or topP of respond, or more maxTokens",
)  # fmt: skip
KEPT = Bound(
    "KEPT", 0.25, "records that became pairs (less)",
    "ours: three of four records are then generated for nothing",
    "what the funnel of the report names: a template, a tieMargin, a temperature",
)  # fmt: skip
CUT = Bound(
    "CUT", 0.05, "answers that were cut at maxTokens",
    "the model learns to stop nowhere; a cut answer is also judged by what it lacks",
    "more maxTokens of respond, or generation.filters.truncated: Drop",
)  # fmt: skip
LONGER = Bound(
    "LONGER", 0.7, "pairs of unequal length in which the longer (or the shorter) answer is chosen",
    "ours: beyond it, length alone foretells most verdicts",
    "judge.criteria that name brevity; loss.type: simpo, which divides by length",
)  # fmt: skip
STRETCHED = Bound(
    "STRETCHED", 1.5, "mean tokens of the chosen answers over those of the rejected (or the reverse)",
    "ours: the policy is shown length in every pair, and follows it in every iteration",
    "as for LONGER",
)  # fmt: skip

# --- training -------------------------------------------------------------------------------------------------------------

BATCH = Bound(
    "BATCH", 1.0, "pairs of an optimiser step over pairs there are",
    "one step is then all of an epoch, at a learning rate that was chosen for many",
    "a smaller training.globalBatchSize, or more data",
)  # fmt: skip
LEARNING_RATE = Bound(
    "LEARNING_RATE", 0.01, "training.learningRate",
    "ours: papers write 1e-7 to 5e-5; our model of a million parameters takes 1e-3, and collapses far above it",
    "the recipe's own learning rate: leave the field out",
)  # fmt: skip
OVERLONG = Bound(
    "OVERLONG", 0.1, "pairs that training dropped or cut, longer than its bounds",
    "ours: what is left out are the long answers, which the model is then not shown",
    "a higher training.maxLengthTokens or maxPromptTokens, or a lower maxTokens of respond",
)  # fmt: skip
HELD_PAIRS = Bound(
    "HELD_PAIRS", 0.1, "prompts (of pairs) that are held out for evaluation, and whose pairs training leaves out",
    "ours: what is generated and judged for them is thrown away",
    "other evaluation.prompts, or data.prompts without them",
)  # fmt: skip
DEAD_GRADIENT = Bound(
    "DEAD_GRADIENT", 1e-9, "norm of the gradient at the last steps (less), while some pairs are ordered wrong",
    "float32 rounds a loss near 1 at 1e-7: less is none, and nothing more is learned",
    "a lower training.learningRate; the pairs are taken by storage.reuseFrom",
)  # fmt: skip
DEAD_STEPS = Bound(
    "DEAD_STEPS", 3, "steps in a row without a gradient: then the training ends (TrainingDiverged)",
    "ours: no step with pairs that are ordered wrong has none by chance, and three save the time of the rest",
    "as for DEAD_GRADIENT",
)  # fmt: skip
SKIPPED = Bound(
    "SKIPPED", 0.1, "steps of float16 whose gradient was no number, and which were skipped",
    "ours: its loss scale is found in the first few steps; what is skipped later is lost data",
    "training.precision: bfloat16",
)  # fmt: skip
RISEN = Bound(
    "RISEN", 1.5, "loss of the last quarter of the steps over that of the first step",
    "ours: batches differ by less",
    "a lower training.learningRate, or a longer warmupRatio",
)  # fmt: skip
AGAINST = Bound(
    "AGAINST", 0.4, "pairs that the policy orders as they are labelled, in the last quarter of the steps (less)",
    "chance is .5, and training is to raise it",
    "a higher training.learningRate or more epochs; if it was higher before, a lower learningRate",
)  # fmt: skip
LEARNED = Bound(
    "LEARNED", 0.5, "steps from whose first on every pair is ordered right (of all)",
    "ours: what comes after only drives the answers apart",
    "fewer training.epochs, a smaller beta, or more data",
)  # fmt: skip
FALLEN = Bound(
    "FALLEN", 5.0, "nats that the chosen answers' log-probability fell in a training, on average",
    "ours: of SPIN's demonstrations a few nats; a policy that finds both answers unlikely writes neither",
    "a lower training.learningRate, a larger beta, or fewer epochs",
)  # fmt: skip

# --- evaluation -----------------------------------------------------------------------------------------------------------

HELD_OUT = Bound(
    "HELD_OUT", 100, "held-out prompts that a figure rests on (fewer)",
    "with 100 an interval of 95 % is up to ±.1 wide; a gain of a few points cannot be told from none",
    "more evaluation.prompts; intervals shrink with the root of their number",
)  # fmt: skip
GROWN = Bound(
    "GROWN", 1.5, "mean tokens of the new model's answers over those of the initial one's (or the reverse)",
    "ours: what grows by half has learned to be long",
    "as for LONGER; a smaller beta, or fewer epochs",
)  # fmt: skip
UNANSWERED = Bound(
    "UNANSWERED", 0.0, "held-out prompts to which a file of answers (selfWinRate.answers) has none",
    "the rate is over the others, and says nothing of these",
    "a file with an answer to each prompt of evaluation.prompts, beside it character by character",
)  # fmt: skip
UNASKED = Bound(
    "UNASKED", 0.0, "requests of a benchmark without an answer (of all)",
    "a figure of the harness is about all of its questions: these count as wrong, or nearly",
    "look at what the evaluation set aside, and why",
)  # fmt: skip
FULL = Bound(
    "FULL", 0.0, "requests of a benchmark that fill the model's context (of all)",
    "ours: of a longer one the beginning is cut, as the harness does it, and with it examples or the question",
    "fewer benchmark.shots, or a larger generation.maxModelTokens where the model has it",
)  # fmt: skip

BOUNDS = (
    POSITION, CONSISTENT, PARSED, TIES, REPEATED, IDENTICAL, KEPT, CUT, LONGER, STRETCHED, BATCH, LEARNING_RATE,
    OVERLONG, HELD_PAIRS, DEAD_GRADIENT, DEAD_STEPS, SKIPPED, RISEN, AGAINST, LEARNED, FALLEN, HELD_OUT, GROWN, UNANSWERED,
    UNASKED, FULL,
)  # fmt: skip
