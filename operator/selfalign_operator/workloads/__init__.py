"""Manifests of everything that a run needs, pure functions of `EffectiveRun` and `Attempt`.

`objects.run_objects` are a run's own objects, `attempt.attempt_workload` is what runs one attempt.
"""
