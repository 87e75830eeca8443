"""The public API of selfalign: the typed SelfAlignmentRun, its rules, and the plan that operator and jobs share.

Light: pydantic (and PyYAML for run files) only.
"""

__version__ = "0.1.0"
