"""One machine: the command line, the runner of a plan's steps, and what it shows."""
