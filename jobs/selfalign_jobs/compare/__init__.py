"""Several runs beside one another: one HTML file for people, one JSON file for programs, a table for the terminal."""

from selfalign_jobs.compare.finish import compare

__all__ = ["compare"]
