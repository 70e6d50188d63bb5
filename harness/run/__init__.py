"""A run from end to end. In programs and notebooks:

from draftbench.harness.run import run_suite
run = run_suite("my.yaml")
"""

from draftbench.harness.run.whole import run_suite

__all__ = ["run_suite"]
