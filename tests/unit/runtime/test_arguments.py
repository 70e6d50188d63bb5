"""Arms must run under equal conditions; only what concerns the draft may differ."""

from __future__ import annotations

from draftbench.harness.runtime.arguments import command_line, unequal_arguments
from draftbench.harness.runtime.plugin import plain

NONE: frozenset[str] = frozenset()


def test_only_the_drafts_arguments_may_differ():
    """speculative_*, the port and what a suite declares may; anything else is named with both values."""
    vanilla = {"port": 1, "speculative_num_steps": None, "max_running_requests": 8}
    eagle = {"port": 2, "speculative_num_steps": 3, "max_running_requests": 8}
    declared = {"vanilla": NONE, "eagle": NONE}
    assert unequal_arguments({"vanilla": vanilla, "eagle": eagle}, declared) == []
    eagle["max_running_requests"] = 48
    found = unequal_arguments({"vanilla": vanilla, "eagle": eagle}, declared)
    assert found == ["max_running_requests differs: 8 (vanilla), 48 (eagle)"]
    allowed = {"vanilla": NONE, "eagle": frozenset({"max_running_requests"})}
    assert unequal_arguments({"vanilla": vanilla, "eagle": eagle}, allowed) == []


def test_sets_are_written_in_one_order():
    """A set's own order changes from process to process."""
    assert plain({("b", 1), ("a", 2)}) == plain({("a", 2), ("b", 1)}) == "[('a', 2), ('b', 1)]"
    assert plain(None) is None
    assert plain([2, 1]) == "[2, 1]"


def test_arguments_as_sglang_spells_them():
    """Flags stand alone when true and are left out when false; a list's numbers are words of their own."""
    words = command_line({"model_path": "m", "skip_server_warmup": True, "disable_radix_cache": False, "page_size": 1})
    assert words == ["--model-path", "m", "--skip-server-warmup", "--page-size", "1"]
    assert command_line({"cuda_graph_bs_decode": (1, 2, 4)}) == ["--cuda-graph-bs-decode", "1", "2", "4"]
