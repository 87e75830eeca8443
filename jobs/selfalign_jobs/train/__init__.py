"""Preference training: TRL on DeepSpeed, under an elastic agent of ours."""
