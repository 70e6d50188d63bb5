"""What an engine says of itself is held against the suite: options of drafts that SGLang could drop in silence."""

from __future__ import annotations

from typing import Any

import pytest

from draftbench.drafts.api import discover
from draftbench.harness.engine import Receipt
from draftbench.harness.errors import EngineError
from draftbench.harness.runtime.starting import check_receipt
from draftbench.harness.suite import Arm

CHAIN = {"speculative_num_steps": 3, "speculative_eagle_topk": 1, "speculative_num_draft_tokens": 4}


def check(options: dict[str, Any], arguments: dict[str, Any], **said: Any) -> None:
    """An eagle arm's chain of three against what its engine says."""
    arm = Arm.model_validate(
        {"name": "a", "architecture": "eagle", "num_steps": 3, "topk": 1, "num_draft_tokens": 4, "options": options}
    )
    receipt = {
        "sglang": "0", "torch": "0", "algorithm": "EAGLE", "draft_class": "LlamaForCausalLMEagle", "target_class": "T",
        "max_total_num_tokens": 1, "server_args": CHAIN | arguments, **said,
    }  # fmt: skip
    check_receipt(arm, discover()["eagle"], None, Receipt.model_validate(receipt))


def test_steps_that_change_are_those_that_were_asked_for() -> None:
    """SGLang switches them off with a warning where something else does not suit it, and begins with others."""
    asked = {"adaptive_steps": [1, 3]}
    check(asked, {"speculative_adaptive": True}, adaptive_steps=[1, 3])
    check({}, {})
    with pytest.raises(EngineError, match="resolved speculative_adaptive to False, the suite says True"):
        check(asked, {"speculative_adaptive": False})
    with pytest.raises(EngineError, match=r"changes between \[1, 3, 7\] draft steps, the suite says \[1, 3\]"):
        check(asked, {"speculative_adaptive": True}, adaptive_steps=[1, 3, 7])
    with pytest.raises(EngineError, match=r"changes between \[1, 3\] draft steps, the suite says None"):
        check({}, {}, adaptive_steps=[1, 3])


def test_the_rule_of_acceptance_is_the_one_that_was_asked_for() -> None:
    """SGLang's own where none is named."""
    check({"acceptance_rule": "rsd"}, {}, acceptance_rule="rsd")
    with pytest.raises(EngineError, match="accepts by the rule None, the suite says rsd"):
        check({"acceptance_rule": "rsd"}, {})
    with pytest.raises(EngineError, match="accepts by the rule spectr, the suite says None"):
        check({}, {}, acceptance_rule="spectr")
