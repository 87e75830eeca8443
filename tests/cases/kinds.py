"""The kinds of what people bring, a list of cases each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cases.case import Case
from cases.chats import CASES as CHATS
from cases.dialogues import CASES as DIALOGUES
from cases.failures import CASES as FAILURES
from cases.improvements import CASES as IMPROVEMENTS
from cases.machines import CASES as MACHINES
from cases.models import CASES as MODELS
from cases.people import CASES as PEOPLE
from cases.proposals import CASES as PROPOSALS
from cases.rankers import CASES as RANKERS
from cases.responders import CASES as RESPONDERS
from cases.seeds import CASES as SEEDS
from cases.tables import CASES as TABLES
from cases.tables_refused import CASES as TABLES_REFUSED
from cases.training import CASES as TRAINING
from cases.win_rates import CASES as WIN_RATES

KINDS: Mapping[str, Sequence[Case]] = {
    "tables": [*TABLES, *TABLES_REFUSED, *CHATS],
    "dialogues": DIALOGUES,
    "seeds": SEEDS,
    "people": PEOPLE,
    "responders": RESPONDERS,
    "proposals": PROPOSALS,
    "improvements": IMPROVEMENTS,
    "models": MODELS,
    "rankers": RANKERS,
    "failures": FAILURES,
    "machines": MACHINES,
    "training": TRAINING,
    "win-rates": WIN_RATES,
}
