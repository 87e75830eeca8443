"""The rules over several fields: one table, in CEL for the CRD and in Python for the local runner.

A rule belongs to a type of the spec and holds wherever that type stands. Its CEL has a has() for each step of an
optional path; `.?x.orValue([])` compiles, but its cost estimate is unbounded and the CRD would be refused. The rules
about a change of the spec are in transition_rules.py.
"""

from typing import Any

from selfalign_api.rule_table.almost import ALMOST_RULES
from selfalign_api.rule_table.evaluation import OTHER_RULES
from selfalign_api.rule_table.few_shot import FEW_SHOT_RULES
from selfalign_api.rule_table.generation import GENERATION_RULES, ROLES, SCORED
from selfalign_api.rule_table.places import PLACE_RULES
from selfalign_api.rule_table.recipes import RECIPE_RULES
from selfalign_api.rule_table.reversegen import REVERSEGEN_RULES
from selfalign_api.rule_table.rule import Rule
from selfalign_api.rule_table.training import TRAINING_RULES, stage_rules

__all__ = ["ROLES", "RULES", "SCORED", "Rule", "stage_rules"]

RULES: tuple[Rule[Any], ...] = (
    *RECIPE_RULES,
    *FEW_SHOT_RULES,
    *ALMOST_RULES,
    *PLACE_RULES,
    *GENERATION_RULES,
    *TRAINING_RULES,
    *OTHER_RULES,
    *REVERSEGEN_RULES,
)
