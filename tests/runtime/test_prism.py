"""PRISM's published layouts and drafts on three layers of the target, on the real engine."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
import torch

from draftbench.drafts.api import Tree, discover
from draftbench.drafts.training.features import Example
from draftbench.drafts.training.load import load_draft
from draftbench.harness.host.provenance import has_gpu
from draftbench.harness.metrics import acceptance
from draftbench.harness.runtime.fleet import SglangFleet, find_fleet
from tests.runtime.oracle import Oracle
from tests.runtime.published_prism import LAYERS, TINY, fitted_fusion, write_ours, write_sglang, write_torch
from tests.runtime.test_engines import ALL, CHAIN, TREE, accepted, prompts, run, suite

OWN_MAP = {"step_to_module": [0, 2, 1, 0, 2]}
ASKED = 8 if ALL else 5
"""Prompts that every arm answers."""
ARMS: dict[str, tuple[str, str, tuple[int, int, int], dict[str, Any]]] = {
    "prism": ("prism", "ours", CHAIN, {}),
    "prism-sglang": ("prism", "sglang", CHAIN, {}),
    "prism-torch": ("prism", "torch", CHAIN, {}),
    "fused": ("prism", "fused", TREE, {}),
    "fused-chain": ("prism", "fused-sglang", CHAIN, {}),
    "fused-3-torch": ("prism", "fused-3-torch", CHAIN, {}),
    "fused-3-map": ("prism", "fused-3", CHAIN, OWN_MAP),
    "hass-fused-chain": ("eagle", "hass-fused", CHAIN, {}),
    "corrupt-fusion": ("prism", "corrupt-fusion", CHAIN, {}),
    "corrupt-second": ("prism", "corrupt-second", CHAIN, {}),
}
"""Architecture, folder, tree and options."""
SIMULATED = ["fused", "fused-chain", "fused-3-torch", "fused-3-map", "hass-fused-chain"]
LAYOUTS = [("prism-sglang", "prism"), ("prism-torch", "prism")]
"""Arms with the same weights: as published, and ours."""
if ALL:
    ARMS |= {
        "fused-sglang": ("prism", "fused-sglang", TREE, {}),
        "hass-fused": ("eagle", "hass-fused", TREE, {}),
    }
    SIMULATED.append("hass-fused")
    LAYOUTS.append(("fused-sglang", "fused"))
BESIDE = list(ARMS) if ALL else ["fused", "fused-3-map", "hass-fused-chain"]
"""Those whose requests also run side by side; test_engines.py does it on the last hidden state."""


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle(TINY / "target")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, oracle: Oracle) -> Path:
    """Every draft in every layout."""
    out = tmp_path_factory.mktemp("drafts")
    samples = [Example(prompt.prompt_ids, oracle.continued(prompt.prompt_ids, 24)) for prompt in prompts()[ASKED:]]
    fusion = fitted_fusion(oracle.target, samples)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(fusion["fusion_layer.weight"].shape, generator=generator).half()
    write_ours(out / "ours", "prism")
    write_sglang(out / "sglang", "prism")
    write_torch(out / "torch", "prism")
    write_ours(out / "fused", "prism", fusion)
    write_sglang(out / "fused-sglang", "prism", fusion)
    write_ours(out / "fused-3", "prism-3", fusion)
    write_torch(out / "fused-3-torch", "prism-3", 4, fusion)
    write_ours(out / "hass-fused", "hass", fusion)
    weight = fusion["fusion_layer.weight"]
    write_ours(out / "corrupt-fusion", "prism", {**fusion, "fusion_layer.weight": weight + noise * weight.std()})
    spoilt = out / "corrupt-second"
    write_ours(spoilt, "prism", fusion)
    spoil_second_module(spoilt, generator)
    return out


def spoil_second_module(folder: Path, generator: torch.Generator) -> None:
    """Noise as large as the weights in all of module 2."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    for name, weight in weights.items():
        if name.startswith("prism_modules.1."):
            weights[name] = weight + torch.randn(weight.shape, generator=generator).half() * weight.std()
    save_file(weights, folder / "model.safetensors")


@pytest.fixture(scope="module")
def arms(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> SglangFleet:
    out = tmp_path_factory.mktemp("run")
    entries: list[dict[str, Any]] = [{"name": "vanilla", "architecture": "vanilla"}]
    for name, (architecture, place, (steps, topk, tokens), options) in ARMS.items():
        entries.append({"name": name, "architecture": architecture, "checkpoint": str(folder / place),
                        "num_steps": steps, "topk": topk, "num_draft_tokens": tokens, "options": options})  # fmt: skip
    (out / "probed").touch()
    wanted = suite(out, arms=tuple(entries), max_total_tokens=1024)
    return find_fleet(wanted, discover(), Path.cwd(), out, has_gpu()).forking(pytest.fail)


@pytest.fixture(scope="module")
def measured(arms: SglangFleet) -> dict[str, dict[str, Any]]:
    """Every arm on the same prompts one after the other, some then side by side."""

    def measure(name: str) -> dict[str, Any]:
        engine = arms.start(name)
        try:
            alone: dict[str, Any] = {}
            for prompt in prompts()[:ASKED]:
                alone |= run(engine, name, 1, {"temperature": 0.0}, [prompt])[0]
            found = {"receipt": engine.receipt, "alone": alone}
            if name in BESIDE:
                found["beside"], _ = run(engine, name, 4, {"temperature": 0.0}, prompts()[:ASKED])
            return found
        finally:
            engine.stop()

    names = ["vanilla", *ARMS]
    with ThreadPoolExecutor(2) as threads:
        return dict(zip(names, threads.map(measure, names), strict=True))


@pytest.mark.parametrize("arm", ARMS)
def test_every_layout_decodes_what_vanilla_decodes(measured, arm):
    """Token for token, alone and side by side; whatever is drafted, the target decides."""
    for name, record in measured["vanilla"]["alone"].items():
        assert record.error is None
        for kind in ("alone", "beside") if arm in BESIDE else ("alone",):
            assert measured[arm][kind][name].error is None
            assert measured[arm][kind][name].output_ids == record.output_ids


@pytest.mark.parametrize(("published", "ours"), LAYOUTS)
def test_a_published_layout_has_the_rounds_of_our_own(measured, published, ours):
    """The same weights under the authors' names draft the same, round for round."""
    for name, record in measured[ours]["alone"].items():
        assert accepted(measured[published]["alone"][name]) == accepted(record)


@pytest.mark.parametrize("arm", SIMULATED)
def test_rounds_on_three_layers_are_those_of_the_simulation(measured, oracle, folder, arm):
    """Chain and tree, two modules and three, in another order than they are numbered."""
    architecture, place, tree, options = ARMS[arm]
    records = measured[arm]["alone"]
    asked = prompts()[:ASKED]
    answers = [(prompt.prompt_ids, records[prompt.prompt_id].output_ids) for prompt in asked]
    draft = load_draft(architecture, folder / place, oracle.target, Tree(*tree), options)
    for prompt, rounds in zip(asked, oracle.rounds(draft, answers, Tree(*tree)), strict=True):
        assert accepted(records[prompt.prompt_id]) == rounds


@pytest.mark.parametrize("arm", [arm for arm in ARMS if ARMS[arm][2] == CHAIN and "corrupt" not in arm])
def test_torch_and_engine_score_drafts_of_every_layout_alike(arms, measured, oracle, folder, arm):
    """At every step of the first round, within 1e-4."""
    architecture, place, tree, options = ARMS[arm]
    num_steps = tree[0]
    passes = torch.load(arms.engines_folder / arm / "passes.pt")
    first = next(number for number, found in enumerate(passes) if found["mode"] == "DECODE")
    steps = passes[first - 1 : first + num_steps - 1]
    assert steps[0]["hidden"].shape[-1] == (3 if "fused" in arm else 1) * steps[1]["hidden"].shape[-1]
    prompt = prompts()[0]
    tokens = [measured[arm]["alone"][prompt.prompt_id].output_ids[0], *(int(found["tokens"][0]) for found in steps[1:])]
    draft = load_draft(architecture, folder / place, oracle.target, Tree(*tree), options)
    for found, expected in zip(steps, oracle.first_round_logits(draft, prompt.prompt_ids, tokens), strict=True):
        torch.testing.assert_close(found["logits"][0], expected, rtol=1e-4, atol=1e-4)


def begun(measured: dict[str, Any], arm: str) -> dict[tuple[str, int], int]:
    """Accepted drafts of every round, by its request and the place where it began."""
    found = {}
    for name, record in measured[arm]["alone"].items():
        rounds = accepted(record)
        places = accumulate((count + 1 for count in rounds), initial=0)
        found |= {(name, place): count for place, count in zip(places, rounds, strict=False)}
    return found


def test_the_fusion_serves_the_first_step_and_module_two_the_later_ones(measured):
    """Noise in the fusion changes step 1's acceptance and what follows; noise in module 2 leaves step 1's alone."""
    right, fusion, second = (begun(measured, arm) for arm in ("fused-chain", "corrupt-fusion", "corrupt-second"))
    common = right.keys() & second.keys()
    assert len(common) > 50
    assert all((right[place] > 0) == (second[place] > 0) for place in common)
    common = right.keys() & fusion.keys()
    assert any((right[place] > 0) != (fusion[place] > 0) for place in common)
    share = {
        arm: Counter(min(count, 2) for count in begun(measured, arm).values())
        for arm in ("fused-chain", "corrupt-fusion", "corrupt-second")
    }
    first = {arm: 1 - counts[0] / counts.total() for arm, counts in share.items()}
    later = {arm: counts[2] / (counts[1] + counts[2]) for arm, counts in share.items()}
    assert first["corrupt-fusion"] < 0.8 * first["fused-chain"]
    assert later["corrupt-second"] < 0.5 * later["fused-chain"]


def test_drafts_on_three_layers_are_accepted(measured):
    """The fitted fusion is good enough that equal rounds say something."""
    for arm in SIMULATED:
        rounds = acceptance.rounds_of(measured[arm]["alone"].values())
        length = acceptance.acceptance_length(rounds)
        assert length is not None
        assert length > (1.2 if arm == "fused-3-map" else 2), arm


def test_receipts_say_modules_map_and_layers(measured):
    """From inside the scheduler; a draft on layers runs as EAGLE3, one on the last hidden state as EAGLE."""
    said = {arm: (found["receipt"].algorithm, found["receipt"].draft_class) for arm, found in measured.items()}
    facts = {arm: found["receipt"].draft_facts for arm, found in measured.items()}
    assert said["prism"] == said["prism-torch"] == ("EAGLE", "LlamaForCausalLMPrism")
    assert said["fused"] == said["fused-chain"] == ("EAGLE3", "LlamaForCausalLMPrism")
    assert said["hass-fused-chain"] == ("EAGLE3", "LlamaForCausalLMEagleFused")
    two = {"num_modules": 2, "step_to_module": [0, 1, 1, 1, 1]}
    assert facts["prism-torch"] == facts["prism"] == {**two, "reads": "last hidden state"}
    assert facts["fused-chain"] == {**two, "reads": list(LAYERS)}
    assert facts["fused-3-map"] == {"num_modules": 3, **OWN_MAP, "reads": list(LAYERS)}
    assert facts["hass-fused-chain"] == {"reads": list(LAYERS)}
