"""Shipped suites with public checkpoints, on folders laid out like those repositories.

Weights are sparse files: headers, nothing behind them. EAGLE's config.json fields are those of SafeAILab/EAGLE's
training configurations (eagle/train, eagle/traineagle3), Llama-3.2-1B's of a public copy; the other targets' fields,
and how many files their weights have, are as generally known and were not compared with the hub.
"""

from __future__ import annotations

import json
import math
import os
import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from draftbench.drafts.api import Loadable, discover
from draftbench.drafts.layout import llama_layer, llama_model
from draftbench.harness.models import required
from draftbench.harness.models.required import needs_of
from draftbench.harness.models.served import SIZES, unserved
from draftbench.harness.suite import load_suite

Shapes = dict[str, tuple[int, ...]]
LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "initializer_range": 0.02,
    "rms_norm_eps": 1e-5, "tie_word_embeddings": False, "use_cache": True,
}  # fmt: skip
LLAMA2 = {
    **LLAMA, "hidden_size": 4096, "intermediate_size": 11008, "num_attention_heads": 32, "num_key_value_heads": 32,
    "num_hidden_layers": 32, "vocab_size": 32000, "max_position_embeddings": 4096, "rope_scaling": None,
    "pretraining_tp": 1, "torch_dtype": "float16", "transformers_version": "4.32.0.dev0",
}  # fmt: skip
LLAMA3 = {
    **LLAMA, "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32, "num_key_value_heads": 8,
    "num_hidden_layers": 32, "vocab_size": 128256, "max_position_embeddings": 8192, "rope_theta": 500000.0,
    "torch_dtype": "bfloat16",
}  # fmt: skip
SCALED = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
          "rope_type": "llama3"}  # fmt: skip
LLAMA31 = {
    **LLAMA3,
    "max_position_embeddings": 131072,
    "rope_scaling": SCALED,
    "eos_token_id": [128001, 128008, 128009],
}
LLAMA32_1B = {
    **LLAMA31, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "head_dim": 64,
    "rope_scaling": {**SCALED, "factor": 32.0}, "tie_word_embeddings": True,
}  # fmt: skip
LLAMA_160M = {
    **LLAMA, "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12,
    "vocab_size": 32000, "max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "torch_dtype": "float32",
}  # fmt: skip
HEAD = {"num_hidden_layers": 1, "torch_dtype": "float16", "transformers_version": "4.28.1"}
EAGLE_LLAMA2 = {**LLAMA2, **HEAD, "rms_norm_eps": 1e-6}
EAGLE_LLAMA3 = {**LLAMA3, **HEAD, "max_position_embeddings": 2048, "bias": False, "pad_token_id": 0}
EAGLE3 = {**LLAMA3, **HEAD, "max_position_embeddings": 2048, "draft_vocab_size": 32000}
PRISM_KEYS = {"eagle_config": {**EAGLE_LLAMA2, "bias": True}, "num_steps": 3, "num_step_models": 2,
              "step_mapping": {"0": 0, "1": 1, "2": 1}, "use_adapter": False}  # fmt: skip


def eagle(config: Mapping[str, Any], bias: bool) -> Shapes:
    """SafeAILab's names: the embedding beside fc and one layer."""
    hidden = config["hidden_size"]
    fc: Shapes = {"embed_tokens.weight": (config["vocab_size"], hidden), "fc.weight": (hidden, 2 * hidden)}
    fc |= {"fc.bias": (hidden,)} if bias else {}
    return {**fc, **llama_layer("layers.0", {**config, "bias": False}, input_norm=False)}


def eagle3(config: Mapping[str, Any]) -> Shapes:
    hidden, count = config["hidden_size"], config["draft_vocab_size"]
    layer = llama_layer("midlayer", config, input_norm=True, input_size=2 * hidden)
    return {
        "d2t": (count,), "t2d": (config["vocab_size"],), "fc.weight": (hidden, 3 * hidden), "norm.weight": (hidden,),
        "lm_head.weight": (count, hidden), **layer, "midlayer.hidden_norm.weight": (hidden,),
    }  # fmt: skip


def modules(config: Mapping[str, Any], layer: str, fc: str) -> Shapes:
    """Two modules of PRISM's authors' layouts."""
    hidden, found = config["hidden_size"], Shapes()
    for module in range(2):
        found |= llama_layer(layer.format(module), {**config, "bias": False}, input_norm=False)
        found |= {f"{fc.format(module)}.weight": (hidden, 2 * hidden), f"{fc.format(module)}.bias": (hidden,)}
    return found


FUSED: Shapes = {"fusion_layer.weight": (4096, 3 * 4096), "fusion_layer.bias": (4096,)}
HUB: dict[str, tuple[Mapping[str, Any], Shapes]] = {
    "meta-llama/Llama-2-7b-chat-hf": (LLAMA2, llama_model(LLAMA2)),
    "meta-llama/Meta-Llama-3-8B-Instruct": (LLAMA3, llama_model(LLAMA3)),
    "meta-llama/Llama-3.1-8B-Instruct": (LLAMA31, llama_model(LLAMA31)),
    "meta-llama/Llama-3.2-1B-Instruct": (LLAMA32_1B, llama_model(LLAMA32_1B)),
    "JackFram/llama-160m": (LLAMA_160M, llama_model(LLAMA_160M)),
    "yuhuili/EAGLE-LLaMA3.1-Instruct-8B": (EAGLE_LLAMA3, eagle(EAGLE_LLAMA3, bias=False)),
    "yuhuili/EAGLE3-LLaMA3.1-Instruct-8B": (EAGLE3, eagle3(EAGLE3)),
    "Akem1i/Prism-AE:EAGLE2-800K-SGLANG/llama2-7b": (EAGLE_LLAMA2, eagle(EAGLE_LLAMA2, bias=True)),
    "Akem1i/Prism-AE:EAGLE2-800K-SGLANG/llama3-8b": (EAGLE_LLAMA3, eagle(EAGLE_LLAMA3, bias=False)),
    "Akem1i/Prism-AE:HASS-800K-SGLANG/llama2-7b": (EAGLE_LLAMA2, eagle(EAGLE_LLAMA2, bias=True)),
    "Akem1i/Prism-AE:HASS-800K-SGLANG/llama3-8b": (EAGLE_LLAMA3, eagle(EAGLE_LLAMA3, bias=False)),
    "Akem1i/Prism-AE:LD-800k": (PRISM_KEYS, modules(EAGLE_LLAMA2, "stepModels.{}.0", "stepFCs.{}")),
    "Akem1i/Prism-AE:PRISM-800K-SGLANG": (
        {**EAGLE_LLAMA3, "architectures": ["LlamaForCausalLMPRISM"]},
        {**modules(EAGLE_LLAMA3, "midlayer.{}", "fc{}"), **FUSED},
    ),
}
PUBLIC = [path for path in sorted(Path("suites").glob("*.yaml")) if load_suite(path).target.model in HUB]


def lay_down(folder: Path, config: Mapping[str, Any], shapes: Shapes, files: int = 1) -> Path:
    """A folder with sparse weights of half precision, in several files with an index where there are more than one."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    names, index = list(shapes), {}
    for number in range(files):
        name = "model.safetensors" if files == 1 else f"model-{number + 1:05}-of-{files:05}.safetensors"
        header, end = {}, 0
        for tensor in names[number::files]:
            kind, size = ("I64", 8) if tensor == "d2t" else ("BOOL", 1) if tensor == "t2d" else ("BF16", 2)
            begin, end = end, end + size * math.prod(shapes[tensor])
            header[tensor] = {"dtype": kind, "shape": shapes[tensor], "data_offsets": [begin, end]}
            index[tensor] = name
        text = json.dumps(header).encode()
        with (folder / name).open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.truncate(8 + len(text) + end)
    if files > 1:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub cache that holds all of them, at whatever commit a suite names."""
    cache = tmp_path_factory.mktemp("hub")
    suites = [load_suite(path) for path in PUBLIC]
    names = {arm.checkpoint for suite in suites for arm in suite.arms if arm.checkpoint}
    names |= {f"{suite.target.model}@{suite.target.revision}" for suite in suites if suite.target.revision}
    for name in names:
        repository, _, revision = name.partition("@")
        owner, _, inside = repository.partition(":")
        home = cache / ("models--" + owner.replace("/", "--"))
        if not revision:
            (home / "refs").mkdir(parents=True, exist_ok=True)
            (home / "refs" / "main").write_text("c" * 40)
        files = 4 if "8B-Instruct" in name and "EAGLE" not in name else 1
        lay_down(home / "snapshots" / (revision or "c" * 40) / inside, *HUB[repository], files)
    return cache


@pytest.mark.parametrize("path", PUBLIC, ids=lambda path: path.stem)
def test_a_suites_public_checkpoints_fit_before_anything_starts(
    path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`plan` reads them as a run does: each draft fits, with the length that it was made for."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(required, "hub_bytes", lambda name: pytest.fail(f"{name} is not in the cache"))
    suite = load_suite(path)
    lines = [line for line in needs_of(suite, path.parent) if not line.startswith(("memory", "prompts of"))]
    assert [line for line in lines if required.is_obstacle(line)] == []
    for arm in suite.arms:
        if arm.checkpoint is not None:
            short = " made for 2048 tokens" if "LLaMA3" in arm.checkpoint or "160m" in arm.checkpoint else ""
            assert any(line.startswith(f"draft {arm.name}: fits") and short in line for line in lines), (
                arm.name,
                lines,
            )


def test_a_plan_of_eight_large_drafts_reads_headers_alone(tmp_path: Path) -> None:
    """Eight drafts of 8B in 16 GB each: within 5 s of the processor and 500 MB."""
    target = lay_down(tmp_path / "target", LLAMA31, llama_model(LLAMA31), 4)
    drafts = [lay_down(tmp_path / f"d{n}", LLAMA31, llama_model(LLAMA31), 4) for n in range(8)]
    arms = "".join(
        f"  - {{name: a{n}, architecture: standalone, checkpoint: {d}, num_steps: 3, topk: 1, num_draft_tokens: 4}}\n"
        for n, d in enumerate(drafts)
    )
    (tmp_path / "suite.yaml").write_text(
        f"version: 1\nname: s\ntarget: {{model: {target}, dtype: bfloat16}}\narms:\n{arms}"
        "workloads:\n  - {name: w, source: gsm8k}\nsampling: {temperature: 0, max_tokens: 64, seed: 0}\n"
        "load: [{concurrency: 1}]\nblocks: 1\n"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = [sys.executable, "-c", MEASURED, str(tmp_path / "suite.yaml")]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stdout.count(": fits") >= 8, done.stdout + done.stderr
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 5
    assert int(done.stderr.split()[-1]) < 500_000


MEASURED = r"""
import re, sys
from pathlib import Path
import bench
bench.main(["plan", sys.argv[1]])
# Its own peak: ru_maxrss begins with that of the process it was forked from.
print(re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[1], file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("config", "architecture", "said"),
    [
        (LLAMA31, "eagle3", None),
        ({**LLAMA31, "architectures": ["MistralForCausalLM"]}, "prism", None),
        ({**LLAMA31, "architectures": ["Gemma3ForCausalLM"]}, "eagle", None),
        ({**LLAMA31, "architectures": ["Gemma3ForCausalLM"]}, "eagle3", "before their residual is added"),
        ({**LLAMA31, "architectures": ["Gemma2ForCausalLM"]}, "eagle", "does not share Gemma2ForCausalLM's embedding"),
        ({**LLAMA31, "architectures": ["Gemma2ForCausalLM"]}, "vanilla", None),
        ({**LLAMA31, "architectures": ["OPTForCausalLM"]}, "eagle3", "does not hand out the outputs"),
        ({**LLAMA31, "architectures": ["NoSuchModel"]}, "prompt_lookup", "has no model NoSuchModel"),
        ({"model_type": "gemma2", **dict.fromkeys(SIZES, 1)}, "vanilla", None),
        ({"model_type": "gemma2", "architectures": ["x"], **dict.fromkeys(SIZES, 1)}, "vanilla", "has no hidden_act"),
        (
            {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_layer": 12},
            "vanilla",
            "no num_hidden_layers",
        ),
    ],
)
def test_what_sglang_cannot_run_is_known_beforehand(
    config: dict[str, Any], architecture: str, said: str | None
) -> None:
    """By its own model files: GPT-2 ended in a KeyError, Gemma 2 with a draft in an engine that did not start."""
    found = unserved(config, discover()[architecture])
    assert found is None if said is None else said in (found or "")


@pytest.mark.parametrize(("algorithm", "fits"), [(None, True), ("EAGLE3", False)])
def test_a_checkpoint_that_reads_layers_needs_a_target_that_hands_them_out(algorithm: str | None, fits: bool) -> None:
    """As EAGLE and PRISM heads with a fusion layer do; Gemma 3 gives its layers without their residual."""
    config = {**LLAMA31, "architectures": ["Gemma3ForCausalLM"]}
    found = unserved(config, discover()["prism"], Loadable({}, None, sglang_algorithm=algorithm))
    assert found is None if fits else "before their residual is added" in (found or "")
