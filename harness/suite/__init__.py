"""Suites: what is run, read from YAML with errors that name file and line."""

from draftbench.harness.suite.arms import Arm, Target, Tuning
from draftbench.harness.suite.fields import Name, Positive
from draftbench.harness.suite.points import Auto, Limits, LoadPoint
from draftbench.harness.suite.read import (
    anchored,
    check_recorded,
    load_points,
    load_suite,
    relocated,
    resolved_workloads,
    suite_schema,
    with_tokenizer,
)
from draftbench.harness.suite.schema import CONTROL_CONCURRENCY, FIRST_STAGE, Fairness, Suite, Tune
from draftbench.harness.suite.workload import Rendering, Sampling, Workload

__all__ = [
    "CONTROL_CONCURRENCY",
    "FIRST_STAGE",
    "Arm",
    "Auto",
    "Fairness",
    "Limits",
    "LoadPoint",
    "Name",
    "Positive",
    "Rendering",
    "Sampling",
    "Suite",
    "Target",
    "Tune",
    "Tuning",
    "Workload",
    "anchored",
    "check_recorded",
    "load_points",
    "load_suite",
    "relocated",
    "resolved_workloads",
    "suite_schema",
    "with_tokenizer",
]
