"""The publish step: the newest model and its pairs, copied to where the run's output goes."""
