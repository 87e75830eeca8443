"""Evaluation: answers and verdicts by the engine loop, then statistics."""
