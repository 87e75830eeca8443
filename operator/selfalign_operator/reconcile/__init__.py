"""From what is observed to what is decided, pure (decide.py reads top to bottom)."""

from selfalign_operator.reconcile.decide import decide

__all__ = ["decide"]
