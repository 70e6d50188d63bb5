"""A run from end to end. In programs and notebooks:

from draftbench.harness.run import run_suite
run = run_suite("my.yaml")
"""

from draftbench.harness.run.whole import measure_suite, run_suite

__all__ = ["measure_suite", "run_suite"]
