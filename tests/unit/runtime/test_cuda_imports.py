"""Imports that ask for the GPU get true answers, and only until they are over."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from draftbench.harness.runtime.cuda_imports import answering, devices_seen_by_a_fork, is_untouched

H200 = SimpleNamespace(name="NVIDIA H200", major=9, minor=0, multi_processor_count=132)
OTHER = SimpleNamespace(name="another", major=8, minor=6, multi_processor_count=84)


def test_questions_are_answered_for_the_gpu_that_is_meant():
    """By number, by torch's device, by its name; the first one where none is given."""
    with answering([H200, OTHER]):
        assert torch.cuda.is_available()
        assert torch.cuda.device_count() == 2
        assert torch.cuda.get_device_capability() == (9, 0)
        assert torch.cuda.get_device_capability(torch.device("cuda", 1)) == (8, 6)
        assert torch.cuda.get_device_name("cuda:1") == "another"
        assert torch.cuda.get_device_properties(torch.cuda.current_device()).multi_processor_count == 132
        assert torch.get_device_module() is torch.cuda


def test_afterwards_the_true_functions_answer_those_that_kept_ours_too():
    """`from torch.cuda import is_available` within keeps our function."""
    before = torch.cuda.is_available, torch.get_device_module
    with answering([H200]):
        kept = torch.cuda.is_available
        assert kept()
    assert (torch.cuda.is_available, torch.get_device_module) == before
    assert kept() == torch.cuda.is_available()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_host_without_a_gpu_has_nothing_to_tell():
    """The fork finds no GPU; this process has touched none."""
    with pytest.raises(RuntimeError, match="cannot use the GPU"):
        devices_seen_by_a_fork()
    assert is_untouched()
