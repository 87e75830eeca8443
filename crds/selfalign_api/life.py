"""How a run lives: what may change at any time and changes no result."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from selfalign_api.base import INT32_MAX, ApiModel, Count, Seconds, Text, Url


class FailurePolicy(ApiModel):
    """What happens when a step fails. Exit code 64 (the configuration is wrong) is never tried again."""

    max_retries_per_step: Annotated[int, Field(ge=0, le=INT32_MAX)] = 3
    """How often a step is tried again."""

    backoff_seconds: Seconds = 10
    """Seconds before the first new try; they double from try to try."""

    max_backoff_seconds: Seconds = 600
    """Seconds that a wait lasts at most."""

    after_retries: Literal["Fail", "Hold"] = "Fail"
    """Whether the run then fails, or waits for a person who fixes its compute."""

    startup_deadline_seconds: Count = 1800
    """Seconds after which an attempt that does not run is given up and made again; counted where only a person can mend why."""

    progress_deadline_seconds: Seconds = 1800
    """Seconds after which an attempt whose progress stands still is given up as failed. 0: never."""


class Credential(ApiModel):
    """Which Secret opens the places under one prefix."""

    url_prefix: Annotated[Url, Field(examples=["hf://"])]
    """Beginning of the URLs, such as s3://ml; the longest that fits wins."""

    secret_name: Annotated[
        str,
        Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", examples=["hf-token"]),
    ]
    """A Secret of the run's namespace whose keys are names of environment variables, such as HF_TOKEN."""


class Tracking(ApiModel):
    """Where parameters, curves, figures and results of a run are written beside those of others."""

    type: Annotated[Literal["MLflow"], Field(examples=["MLflow"])]
    """What the server is."""

    url: Annotated[Url, Field(examples=["https://mlflow.example.com"])]
    """Its address. A Secret of credentials opens it: MLFLOW_TRACKING_USERNAME and _PASSWORD, or MLFLOW_TRACKING_TOKEN."""

    experiment: Text = "selfalign"
    """The experiment there; it is made where there is none."""

    required: bool = False
    """Whether a run whose server does not answer is refused before it starts. One that has started is never stopped for it."""
