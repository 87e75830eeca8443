"""Accepting a run, before anything is paid for: resolved, looked at, its folder claimed, its plan written."""
