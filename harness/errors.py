"""Errors that a user can cause or mend; each says where, what was found, what is allowed, what to do."""

from __future__ import annotations


class HarnessError(Exception):
    """Any error that ends a command with a message instead of a traceback."""


class SuiteError(HarnessError):
    """A suite file that cannot be run as it is written."""


class WorkloadError(HarnessError):
    """Prompts that cannot be loaded or do not fit the target."""


class CheckpointError(HarnessError):
    """A model folder that is missing, incomplete, or does not fit the target."""


class EngineError(HarnessError):
    """An engine that did not start, gave no receipt, or died."""


class RecordError(HarnessError):
    """Result files that are missing, damaged, or written by another version."""


class TrainingError(HarnessError):
    """A training that cannot begin, or that cannot go on."""
