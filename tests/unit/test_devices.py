"""Targets over several devices: which ones engines take, what a suite may say of them, what must fit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from draftbench.drafts.api import discover
from draftbench.drafts.layout import llama_model
from draftbench.harness.errors import EngineError, HarnessError, SuiteError
from draftbench.harness.host.gpu import Gpu, GpuHost, gpu_problems, visible_numbers
from draftbench.harness.host.provenance import suite_sha256
from draftbench.harness.manifest import Manifest
from draftbench.harness.models import memory as memory_module
from draftbench.harness.models.find import EMBEDDED
from draftbench.harness.models.memory import CPU_RANK_BYTES, engine_bytes, kv_bytes, memory
from draftbench.harness.models.required import draft_needs, target_needs
from draftbench.harness.models.served import unshared
from draftbench.harness.runtime.fleet import find_fleet
from draftbench.harness.suite import Suite, load_suite
from draftbench.harness.suite.device_arguments import gpus_in_use
from draftbench.reports.markdown import conditions
from tests.fakes.known import receipt, suite_object
from tests.fakes.published import publish

TEXT = """\
version: 1
name: two
target: {model: tiny, dtype: float32, tensor_parallel: 2}
arms:
  - {name: vanilla, architecture: vanilla, engine: FIRST}
  - {name: server, endpoint: "http://127.0.0.1:1", api: sglang}
  - {name: hass, architecture: eagle, checkpoint: tiny/hass, num_steps: 2, topk: 1, num_draft_tokens: 3, engine: SECOND}
workloads: [{name: a, source: synthetic, family: arithmetic, num_prompts: 4}]
sampling: {temperature: 0, max_tokens: 64, seed: 0}
load: [{concurrency: 1}]
blocks: 2
"""


ALONE = "\n".join(line for line in TEXT.splitlines() if "endpoint" not in line) + "\n"
ALONE = ALONE.replace("FIRST", "{}").replace("SECOND", "{}")
SMALL = "checkpoint: ./small"
QWEN2 = {
    "num_attention_heads": 12, "num_key_value_heads": 2, "intermediate_size": 8960, "hidden_size": 1536,
    "vocab_size": 151936,
}  # fmt: skip
"""Qwen/Qwen2-1.5B's."""


def suite_of(first: dict[str, Any] | None = None, ranks: int = 2) -> Suite:
    arms = [{"name": "vanilla", "architecture": "vanilla", "engine": first or {}}]
    return Suite.model_validate(
        suite_object(arms, target={"model": "tiny", "dtype": "float32", "tensor_parallel": ranks})
    )


@pytest.mark.parametrize(
    ("ranks", "engine", "taken"),
    [
        (1, {}, (0,)),
        (2, {}, (0, 1)),
        (1, {"base_gpu_id": 3}, (3,)),
        (2, {"base_gpu_id": 2, "gpu_id_step": 2}, (2, 4)),
        (2, {"dp_size": 2}, (0, 1, 2, 3)),
        (2, {"dp_size": 2, "base_gpu_id": 4}, (4, 5, 6, 7)),
        (4, {"dp_size": 2, "enable_dp_attention": True, "ep_size": 4}, (0, 1, 2, 3)),
        (2, {"pp_size": 2}, (0, 1, 2, 3)),
    ],
)
def test_the_gpus_that_an_engine_takes(ranks: int, engine: dict[str, Any], taken: tuple[int, ...]) -> None:
    """As SGLang numbers them: ranks, stages and replicas; experts and attention's replicas are among the ranks."""
    assert gpus_in_use(suite_of(engine, ranks)) == taken


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("{tp_size: 2}", "{}", r":5: arms\[0\]\.engine\.tp_size is 2, .*give target\.tensor_parallel: 2"),
        ("{dp_size: 2}", "{}", r":7: arms\[2\]\.engine\.dp_size is not given, and 2 for arm vanilla"),
        ("{}", "{base_gpu_id: 1}", r":7: arms\[2\]\.engine\.base_gpu_id is 1, and not given for arm vanilla"),
        ("{ep_size: 2}", "{ep_size: 1}", r":7: arms\[2\]\.engine\.ep_size is 1, and 2 for arm vanilla"),
    ],
)
def test_arms_on_other_devices_are_refused(tmp_path: Path, first: str, second: str, said: str) -> None:
    """With the arm's line; an endpoint's devices are its own."""
    path = tmp_path / "suite.yaml"
    path.write_text(TEXT.replace("FIRST", first).replace("SECOND", second))
    with pytest.raises(SuiteError, match=said):
        load_suite(path)


def test_arms_may_share_devices_in_any_way_that_is_alike(tmp_path: Path) -> None:
    """Told in the report; runs of one device are told as ever, and their suites keep their hash."""
    path = tmp_path / "suite.yaml"
    both = "{dp_size: 2, ep_size: 2, mem_fraction_static: 0.5}"
    path.write_text(TEXT.replace("FIRST", both).replace("SECOND", both))
    facts = dict(conditions(Manifest(suite=load_suite(path)), ""))
    assert facts["devices of each engine"] == "4: tensor parallel 2, dp_size 2, ep_size 2"
    path.write_text(TEXT.replace("FIRST", "{}").replace("SECOND", "{}").replace(", tensor_parallel: 2", ""))
    alone = load_suite(path)
    assert "devices of each engine" not in dict(conditions(Manifest(suite=alone), ""))
    assert "tensor_parallel" not in json.dumps(alone.model_dump(mode="json"))
    whole = suite_of(ranks=2).model_dump(mode="json")
    assert suite_sha256(whole) != suite_sha256(suite_of(ranks=1).model_dump(mode="json"))
    assert Suite.model_validate(whole).target.tensor_parallel == 2


@pytest.mark.parametrize("ranks", ["0", "-1", "1.5", "65", "two", "true"])
def test_only_a_few_whole_devices(tmp_path: Path, ranks: str) -> None:
    path = tmp_path / "suite.yaml"
    text = TEXT.replace("FIRST", "{}").replace("SECOND", "{}")
    path.write_text(text.replace("tensor_parallel: 2", f"tensor_parallel: {ranks}"))
    with pytest.raises(SuiteError, match=r":3: target\.tensor_parallel is "):
        load_suite(path)


GPUS = tuple(Gpu("NVIDIA H200", 150 * 10**9, free * 10**9, (9, 0)) for free in (149, 20, 140, 130))
HOST = GpuHost("580.159.03", GPUS)


@pytest.mark.parametrize(
    ("visible", "numbers"),
    [(None, (0, 1, 2, 3)), ("2, 0", (2, 0)), ("GPU-abc,GPU-def", (0, 1, 2, 3)), ("1,9,2", (1,)), ("-1", (0, 1, 2, 3))],
)
def test_gpus_are_counted_as_cuda_counts_them(
    visible: str | None, numbers: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers stand for the driver's, up to the first that is none; UUIDs are not looked up for memory."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert visible_numbers(HOST) == numbers


def test_memory_is_that_of_the_fullest_gpu_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """And of no other one."""
    monkeypatch.setattr(memory_module, "read_gpu_host", lambda: HOST)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert memory((0,)).free_bytes == 149 * 10**9
    assert memory((0, 1)).free_bytes == 20 * 10**9
    assert memory((0, 2)).where == "the fullest of 2 GPUs (NVIDIA H200)"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,2")
    assert memory((0, 1)).free_bytes == 130 * 10**9
    assert memory((0,)).where == "GPU NVIDIA H200"


def test_more_gpus_than_there_are_is_told_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """With how many are visible."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert gpu_problems(HOST, "2.11.0", (0, 1)) == ()
    (found,) = gpu_problems(HOST, "2.11.0", (0, 1, 2, 3))
    assert "take the visible GPUs 0, 1, 2, 3, counted from 0, but 2 of them are there; take fewer" in found


@pytest.mark.parametrize(
    ("heads", "shared", "fitting"),
    [(4, 4, (1, 2, 4)), (32, 8, (1, 2, 4, 8, 16, 32)), (6, 2, (1, 2, 6)), (3, None, (1, 3))],
)
def test_devices_share_whole_heads(heads: int, shared: int | None, fitting: tuple[int, ...]) -> None:
    """Keys and values are divided too, or held by several."""
    config = {"num_attention_heads": heads, "num_key_value_heads": shared}
    assert tuple(ranks for ranks in range(1, heads + 1) if unshared(config, ranks) is None) == fitting
    said = unshared({"text_config": config}, heads + 1) or ""
    assert f"{heads} attention heads" in said
    assert f"allowed: {', '.join(map(str, fitting))}." in said
    assert unshared({}, 2) is None


@pytest.mark.parametrize(
    ("config", "ranks", "said"),
    [
        (QWEN2, 6, "an intermediate_size of 8960 and a vocab_size of 151936 cannot be shared by"),
        (QWEN2, 4, None),
        (QWEN2 | {"num_experts": 60, "vocab_size": 151680}, 6, None),
        (
            {"num_attention_heads": 12, "vocab_size": 151680, "draft_vocab_size": 32000},
            3,
            "a draft_vocab_size of 32000 ",
        ),
        ({"num_attention_heads": 12, "vocab_size": 151680, "draft_vocab_size": 32050}, 3, None),
    ],
)
def test_devices_share_feed_forward_blocks_and_vocabularies(
    config: dict[str, Any], ranks: int, said: str | None
) -> None:
    """Vocabularies are filled up to a multiple of 64; experts are placed whole."""
    found = unshared(config, ranks)
    assert found is None if said is None else found is not None and said in found


def test_a_target_that_cannot_be_shared_is_refused(tmp_path: Path) -> None:
    """By `plan` and by the run alike, which names the line; the tiny target has four heads."""
    path = tmp_path / "suite.yaml"
    path.write_text(ALONE.replace("tensor_parallel: 2", "tensor_parallel: 3"))
    suite = load_suite(path)
    (line,) = target_needs(suite, EMBEDDED / "tiny" / "target")
    assert line.startswith("target tiny: DOES NOT FIT: 4 attention heads")
    said = r"suite\.yaml:3: the target: 4 attention heads and 4 .*tensor_parallel: 3 devices; allowed: 1, 2, 4\."
    with pytest.raises(HarnessError, match=said):
        find_fleet(suite, discover(), tmp_path, tmp_path, has_gpu=False)


@pytest.mark.parametrize(("heads", "fits"), [(6, True), (3, False)])
def test_a_draft_that_cannot_be_shared_is_refused(tmp_path: Path, heads: int, fits: bool) -> None:
    """By `plan` and by the run alike, with the suite's line, before anything is started."""
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 96, "intermediate_size": 128,
        "num_attention_heads": heads, "num_key_value_heads": heads, "num_hidden_layers": 1, "vocab_size": 2048,
        "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
    }  # fmt: skip
    publish(tmp_path / "small", config, dict(llama_model(config)))
    path = tmp_path / "suite.yaml"
    path.write_text(ALONE.replace("architecture: eagle, checkpoint: tiny/hass", "architecture: standalone, " + SMALL))
    suite = load_suite(path)
    (line,) = draft_needs(suite, tmp_path)
    assert line.startswith("draft hass: fits" if fits else "draft hass: DOES NOT FIT: 3 attention heads and 3 ")
    if fits:
        assert find_fleet(suite, discover(), tmp_path, tmp_path, has_gpu=False).loadables["hass"].config == config
        return
    with pytest.raises(HarnessError, match=r"suite\.yaml:3: the draft of arm hass: 3 attention .*; allowed: 1\."):
        find_fleet(suite, discover(), tmp_path, tmp_path, has_gpu=False)


def test_devices_divide_weights_and_pool(tmp_path: Path) -> None:
    """On a GPU each has its share of the target, and the draft whole; ranks on the CPU take of one memory."""
    config = {"num_hidden_layers": 3, "num_attention_heads": 4, "hidden_size": 32, "vocab_size": 100}
    one, two = suite_of(ranks=1), suite_of(ranks=2)
    pool = 1.2 * (kv_bytes(config, one) or 0)
    apart = engine_bytes(one, config, 8e9, 1e9, True) - engine_bytes(two, config, 8e9, 1e9, True)
    assert apart == pytest.approx(4e9 + pool / 2)
    more = engine_bytes(two, config, 8e9, 1e9, False) - engine_bytes(one, config, 8e9, 1e9, False)
    assert more > CPU_RANK_BYTES + 4e9


def test_a_receipt_of_other_devices_is_refused(tmp_path: Path) -> None:
    """The suite says two."""
    arms = find_fleet(suite_of(ranks=2), discover(), tmp_path, tmp_path, has_gpu=False)
    assert arms.arguments("vanilla")["tp_size"] == 2
    arms._check_equal({"vanilla": receipt(tp_size=2)})
    with pytest.raises(EngineError, match="vanilla runs with tp_size 1, not 2"):
        arms._check_equal({"vanilla": receipt(tp_size=1)})
    assert "tp_size" not in replace(arms, suite=suite_of(ranks=1)).arguments("vanilla")


def test_the_pass_of_vanilla_runs_where_the_arms_do(tmp_path: Path) -> None:
    """Also where the suite has no vanilla arm and an engine stands in."""
    draft = {"name": "lookup", "architecture": "prompt_lookup", "num_steps": 2, "topk": 1, "num_draft_tokens": 3}
    engine = {"base_gpu_id": 1, "mem_fraction_static": 0.5}
    target = {"model": "tiny", "dtype": "float32", "tensor_parallel": 2}
    suite = Suite.model_validate(suite_object([draft | {"engine": engine}], target=target))
    fleet = find_fleet(suite, discover(), tmp_path, tmp_path, has_gpu=False)
    found = fleet.arguments("reference")
    assert (found["tp_size"], found["base_gpu_id"], found["mem_fraction_static"]) == (2, 1, 0.85)
