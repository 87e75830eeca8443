"""Preference training: transformers on DeepSpeed, under an elastic agent of ours."""
