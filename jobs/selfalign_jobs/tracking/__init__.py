"""Tracking: what a run has left in its folder, shown on a tracking server beside other runs."""
