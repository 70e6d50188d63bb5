"""Simulated acceptance: lengths drawn from α_k, and SGLang's accepted path made of them."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from draftbench.drafts.api import discover
from draftbench.harness.engine import Receipt
from draftbench.harness.errors import EngineError
from draftbench.harness.records import CellKey
from draftbench.harness.runtime.arguments import simulation_of
from draftbench.harness.runtime.simulated import (
    GOLDEN,
    AlphasByRequest,
    Chances,
    accepted_rows,
    draw_lengths,
    request_ids,
)
from draftbench.harness.runtime.starting import check_receipt
from draftbench.harness.suite import Arm, Suite

BY_WORKLOAD = {"sums": [0.5, 0.25], "sums-c1": [1.0, 0.0]}


def test_lengths_follow_the_conditional_acceptance_of_each_step():
    """Of 40,000 requests' third rounds the shares that reach step k are α_1 · … · α_k, within five standard errors."""
    alphas = torch.tensor([0.8, 0.5, 0.25])
    chances, ids = Chances(0, "cpu"), [str(number) for number in range(40_000)]
    for _ in range(3):
        lengths = draw_lengths(alphas, chances.next(ids))
    assert lengths.min() == 0
    assert lengths.max() == 3
    for step, share in enumerate(alphas.cumprod(0).tolist(), 1):
        assert (lengths >= step).float().mean().item() == pytest.approx(
            share, abs=5 * (share * (1 - share) / 4e4) ** 0.5
        )


def test_certain_steps_are_always_and_impossible_ones_never_accepted():
    """α of 1, 1, 0, 1 gives 2, whatever the chance."""
    lengths = draw_lengths(torch.tensor([1.0, 1.0, 0.0, 1.0]), torch.tensor([0.0, 0.5, 0.9999]))
    assert lengths.tolist() == [2] * 3


@pytest.mark.parametrize("seed", range(5))
def test_few_rounds_have_nearly_the_mean_that_the_shares_give(seed: int):
    """60 rounds of one request accept 3.3 drafts on average, within 0.1; a mean of independent draws has an error of
    0.25."""
    alphas, chances = torch.tensor([0.95, 0.9, 0.85, 0.8, 0.75, 0.7]), Chances(seed, "cpu")
    lengths = torch.cat([draw_lengths(alphas, chances.next(["a"])) for _ in range(60)]).double()
    expected = alphas.cumprod(0).sum().item()
    assert lengths.mean().item() == pytest.approx(expected, abs=0.1)
    assert lengths.std().item() / 60**0.5 > 0.2


def test_a_batch_of_other_requests_begins_anew():
    """A request that joins or leaves moves nobody's average: all chances are drawn again, and then go on evenly."""
    chances = Chances(0, "cpu")
    first, second = chances.next(["a", "b"]), chances.next(["a", "b"])
    assert second.tolist() == pytest.approx(((first + GOLDEN) % 1).tolist())
    third = chances.next(["b"])
    assert third.shape == (1,)
    assert third.item() != pytest.approx((second[1].item() + GOLDEN) % 1)


def test_the_accepted_path_begins_at_each_requests_root():
    """Two requests with trees of 6 nodes: nothing and three drafts accepted; -1 behind the path, as SGLang has it."""
    found = accepted_rows(torch.tensor([[0, 2, -1, -1], [6, -1, -1, -1]], dtype=torch.int32), torch.tensor([0, 3]))
    assert found.tolist() == [[0, -1, -1, -1], [6, 7, 8, 9]]
    assert found.dtype == torch.int32


def suite_by_workload() -> Suite:
    """Names that are beginnings of each other and of a load point's."""
    tree = {"checkpoint": "tiny/eagle", "num_steps": 2, "topk": 2, "num_draft_tokens": 4}
    return Suite.model_validate(
        {
            "version": 1,
            "name": "n",
            "target": {"model": "tiny", "dtype": "float32"},
            "arms": [{"name": "tree-2", "architecture": "eagle", **tree, "simulated_acceptance": BY_WORKLOAD}],
            "workloads": [
                {"name": name, "source": "synthetic", "family": "arithmetic", "num_prompts": 1} for name in BY_WORKLOAD
            ],
            "sampling": {"temperature": 0, "max_tokens": 8, "seed": 3},
            "load": [{"concurrency": 1}, {"rate": 4.0, "burst": 8}],
            "blocks": 1,
        }
    )


def id_of(workload: str, number: int = 0, block: int = 0, **load: object) -> str:
    """As the load generator names requests."""
    cell = CellKey(launch=1, block=block, arm="tree-2", workload=workload, **{"concurrency": 1, **load})
    return f"{cell.slug}-{number}-0a1b2c3d"


def chooser() -> AlphasByRequest:
    suite = suite_by_workload()
    simulation = simulation_of(suite.arms[0], suite)
    assert simulation is not None
    assert simulation["seed"] == 3
    return AlphasByRequest(simulation["alphas"], simulation["points"], "cpu")


def test_each_request_takes_the_acceptance_of_the_workload_in_its_id():
    """In the batch's order, in closed and open loops, and the same tensor for the same combination."""
    by_request = chooser()
    names = [id_of("sums-c1"), id_of("sums", 12), id_of("sums-c1", concurrency=None, arrivals="4/s by 8")]
    assert by_request.of(names).tolist() == [[1.0, 0.0], [0.5, 0.25], [1.0, 0.0]]
    assert by_request.of(names) is by_request.of([id_of("sums-c1", 7), id_of("sums"), id_of("sums-c1")])
    lengths = draw_lengths(by_request.of([id_of("sums-c1")] * 50), torch.rand(50))
    assert lengths.tolist() == [1] * 50


def test_requests_that_are_not_measured_take_the_first_workloads():
    """Warm-up, reference and SGLang's own."""
    names = [id_of("warmup", block=-100), "HEALTH_CHECK_1", "0d9f"]
    assert chooser().of(names).tolist() == [[0.5, 0.25]] * 3


def test_a_measured_request_of_no_cell_is_an_error():
    """Nothing is drawn for it silently."""
    with pytest.raises(RuntimeError, match=r"l1-b0-tree-2-other-c1-0-0a1b2c3d is of none"):
        chooser().of([id_of("other")])


def test_a_batch_without_ids_is_an_error():
    """Nobody would know whose acceptance to draw."""
    batch = SimpleNamespace(reqs=[SimpleNamespace(rid="a"), SimpleNamespace(rid="b")])
    assert request_ids(batch, 2) == ["a", "b"]
    for wrong, count in ((batch, 3), (SimpleNamespace(reqs=None), 1), (SimpleNamespace(), 1)):
        with pytest.raises(RuntimeError, match="at a verify step of"):
            request_ids(wrong, count)


def test_verified_batches_hold_their_requests():
    """What `request_ids` reads: with overlap and without, SGLang hands the scheduler's own batch to the verify step.

    Read from its source, because SGLang cannot be imported here."""
    spec = find_spec("sglang")
    assert spec is not None
    assert spec.origin is not None
    srt = Path(spec.origin).parent / "srt"

    def function(path: str, name: str) -> ast.FunctionDef:
        nodes = ast.walk(ast.parse((srt / path).read_text()))
        return next(node for node in nodes if isinstance(node, ast.FunctionDef) and node.name == name)

    for path, name in (("eagle_utils.py", "eagle_sample"), ("eagle_worker_common.py", "run_eagle_verify")):
        taken = {argument.arg: argument.annotation for argument in function(f"speculative/{path}", name).args.args}
        annotation = taken["batch"]
        assert annotation is not None
        assert ast.unparse(annotation) == "ScheduleBatch"
    calls = ast.unparse(function("managers/scheduler.py", "run_batch"))
    assert "self.model_worker.forward_batch_generation(batch, **fwd_kwargs)" in calls
    assert "self.model_worker.forward_batch_generation(batch)" in calls


@pytest.mark.parametrize("alphas", [BY_WORKLOAD, [0.5, 0.25], None])
def test_an_engine_that_simulates_otherwise_is_refused(alphas):
    """Both forms, as JSON brings them back."""
    tree = {"checkpoint": "tiny/eagle", "num_steps": 2, "topk": 2, "num_draft_tokens": 4}
    arm = Arm.model_validate({"name": "a", "architecture": "vanilla", **tree, "simulated_acceptance": alphas})
    spec = discover()["vanilla"]

    def receipt(said: object) -> Receipt:
        return Receipt.model_validate(
            {
                "sglang": "0", "torch": "0", "algorithm": None, "draft_class": None, "target_class": "T",
                "max_total_num_tokens": 1, "server_args": {}, "simulated_acceptance": said,
            }
        )  # fmt: skip

    check_receipt(arm, spec, None, receipt(alphas))
    with pytest.raises(EngineError, match="not as the suite says"):
        check_receipt(arm, spec, None, receipt({"sums": [0.5, 0.25]}))
