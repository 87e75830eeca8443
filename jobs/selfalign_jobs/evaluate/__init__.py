"""Evaluation: held-out answers and verdicts of two models, and the statistics on them."""
