"""Cases of the rules of recipe fspo: parts of a run that are accepted, parts that are refused, and the line for these."""

FSPO = "recipe: fspo, data: {preferences: {url: 's3://b/p'}}"
ASKED = "recipe: fspo, data: {prompts: {url: 's3://b/p'}}"
BIG = "auxiliaryModels: [{name: big, url: 'hf://o/n'}]"

CASES_OF_FSPO = (
    (
        f"spec: {{{FSPO}, fspo: {{shots: 4}}}}",
        "spec: {fspo: {shots: 4}}",
        "spec.fspo: spec.fspo belongs to recipe fspo; write recipe: fspo, or remove spec.fspo",
    ),
    (
        f"spec: {{{FSPO}}}",
        "spec: {recipe: fspo, data: {preferences: {count: 3}}}",
        "spec.data.preferences.url: preferences need a place; write url: hf://datasets/ORG/NAME",
    ),
    (
        "spec: {recipe: fspo, data: {prompts: {url: 's3://b/p'}, users: {count: 9}}}",
        "spec: {data: {users: {count: 9}}}",
        "spec.data.users: data.users is read by fspo only; remove it or change recipe",
    ),
    (
        f"spec: {{{ASKED}}}",
        "spec: {recipe: fspo, data: {users: {count: 9}}}",
        "spec.data: fspo reads preferences that say whose they are, or has users label answers to prompts; write data: "
        "{preferences: {url: URL}}, or data: {prompts: {url: URL}}",
    ),
    (
        f"spec: {{{ASKED}}}",
        "spec: {recipe: fspo, data: {preferences: {url: 's3://b/p'}, users: {count: 9}}}",
        "spec.data.users: preferences say whose they are already; remove users, or write prompts instead of preferences",
    ),
    *(
        (
            f"spec: {{{ASKED}, fspo: {{{option}: {value}}}}}",
            f"spec: {{{FSPO}, fspo: {{{option}: {value}}}}}",
            f"spec.fspo.{option}: {said}is of labels that the run makes, and data.preferences has them; remove {option}",
        )
        for option, value, said in (
            ("questionsPerUser", "20", "20 "),
            ("viewsPerQuestion", "3", "3 "),
            ("responderModelNames", "[initial]", ""),
        )
    ),
    (
        f"spec: {{{ASKED}, generation: {{roles: [{{name: listViews, topK: 3}}]}}}}",
        f"spec: {{{FSPO}, generation: {{roles: [{{name: listViews, topK: 3}}]}}}}",
        "spec.generation.roles: listViews, respondView, describeUser make labels, and data.preferences has them; remove these "
        "roles",
    ),
    (
        f"spec: {{{ASKED}, {BIG}, fspo: {{responderModelNames: [initial, big]}}}}",
        f"spec: {{{ASKED}, {BIG}, fspo: {{responderModelNames: [initial, bigger]}}}}",
        "spec.fspo.responderModelNames: names no model that writes; write initial, or names of entries of auxiliaryModels of "
        "kind Causal",
    ),
    (
        f"spec: {{{ASKED}, {BIG}, fspo: {{responderModelNames: [initial, big]}}}}",
        f"spec: {{{ASKED}, fspo: {{responderModelNames: [initial, initial]}}}}",
        "spec.fspo.responderModelNames: names a model twice; a responder answers from each viewpoint once",
    ),
    (
        f"spec: {{{ASKED}, {BIG}, fspo: {{viewsPerQuestion: 1, responderModelNames: [initial, big]}}}}",
        f"spec: {{{ASKED}, fspo: {{viewsPerQuestion: 1}}}}",
        "spec.fspo.viewsPerQuestion: 1: one answer to a question is no pair; write viewsPerQuestion: 2 or more, or more "
        "responderModelNames",
    ),
    (
        f"spec: {{{ASKED}, fspo: {{questionsPerUser: 8, shots: 7}}}}",
        f"spec: {{{ASKED}, fspo: {{questionsPerUser: 8}}}}",
        "spec.fspo.questionsPerUser: 8: a user is shown with fspo.shots pairs (8, where it is not written) and asked another "
        "question; write more questionsPerUser, or fewer shots",
    ),
    (
        f"spec: {{{FSPO}, judge: {{method: paper}}}}",
        f"spec: {{{ASKED}, judge: {{method: paper}}}}",
        "spec.judge.method: paper: labels of a user are asked for in both orders of a judge who is told what the user is like; "
        "write judge.method: logprobs or generate",
    ),
    (
        f"spec: {{{FSPO}, generation: {{roles: [{{name: respond, topK: 3}}]}}}}",
        f"spec: {{{FSPO}, generation: {{roles: [{{name: improve, topK: 3}}]}}}}",
        "spec.generation.roles: recipe fspo has the roles listViews, respondView, respond, describeUser, judge; use one of these "
        "names in generation.roles",
    ),
    (
        f"spec: {{{FSPO}, training: {{stages: [{{name: sft, epochs: 2}}]}}}}",
        f"spec: {{{FSPO}, training: {{stages: [{{name: improver, epochs: 2}}]}}}}",
        "spec.training.stages: recipe fspo has the further trainings sft; use one of these names in training.stages",
    ),
    (
        f"spec: {{{FSPO}, iterations: 1}}",
        f"spec: {{{FSPO}, iterations: 2}}",
        "spec.iterations: 2: fspo makes one round; write iterations: 1, or remove it",
    ),
    (
        f"spec: {{{FSPO}}}",
        f"spec: {{{FSPO}, iteration: {{start: previous}}}}",
        "spec.iteration: fspo makes one round, from and against what its stage sft made; remove iteration",
    ),
    (
        f"spec: {{{FSPO}, training: {{iterationOverrides: []}}}}",
        f"spec: {{{FSPO}, training: {{iterationOverrides: [{{fromIteration: 2, beta: 1}}]}}}}",
        "spec.training.iterationOverrides: fspo makes one round; move the values to training itself, and remove "
        "iterationOverrides",
    ),
    (
        f"spec: {{{FSPO}, evaluation: {{when: Last}}}}",
        f"spec: {{{FSPO}, evaluation: {{prompts: {{url: 's3://b/h'}}}}}}",
        "spec.evaluation.prompts: fspo asks for what users of its own data prefer, of whom it holds out a tenth; remove "
        "evaluation.prompts",
    ),
    (
        "spec: {recipe: fspo, data: {preferences: {url: 's3://b/p', turn: First}}}",
        "spec: {recipe: fspo, data: {preferences: {url: 's3://b/p', turn: Last}}}",
        "spec.data.preferences.turn: Last: fspo shows a user's pairs of one turn each; write turn: First, or remove it",
    ),
    (
        "spec: {recipe: fspo, data: {preferences: {url: 's3://b/p', columns: {user: who}}}}",
        "spec: {recipe: pairs, data: {preferences: {url: 's3://b/p', columns: {user: who}}}}",
        "spec.data.preferences.columns.user: who: whose preference it is counts for recipe fspo only; remove user, or write "
        "recipe: fspo",
    ),
    (
        "spec: {recipe: fspo, data: {preferences: {url: 's3://b/p', columns: {description: d}}}, "
        "fspo: {describeUser: BeforeAnswer}}",
        "spec: {recipe: fspo, data: {preferences: {url: 's3://b/p', columns: {description: d}}}}",
        "spec.data.preferences.columns.description: d: what users are like is read by recipe fspo where answers begin with it; "
        "write fspo: {describeUser: BeforeAnswer}, or remove description",
    ),
    (
        f"spec: {{{FSPO}, evaluation: {{checks: [{{name: taste, type: ExactMatch}}]}}}}",
        "spec: {evaluation: {checks: [{name: taste, type: ExactMatch}]}}",
        "spec.evaluation.checks: ExactMatch compares with reference answers; write evaluation.prompts: {url: ..., columns: "
        "{reference: COLUMN}}",
    ),
)
