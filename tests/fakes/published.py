"""Drafts of today's engines laid out as they are published: configurations field by field, at a small size.

dflash: z-lab/Qwen3-4B-DFlash-b16 and z-lab/Qwen3.5-122B-A10B-DFlash (which nests `block_size`), as copies of their
config.json in public repositories show them. dspark: deepseek-ai/dspark_qwen3_14b_block7 and RadixArk's, made with
SpecForge (`DSparkDraftModel`). nextn: DeepSeek-V3, GLM-4.5, Qwen3-Next and MiMo-7B, by SGLang's own loaders (0.5.17,
srt/models/deepseek_nextn.py, glm4_moe_nextn.py, qwen3_next_mtp.py, mimo_mtp.py). Weights are random.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

Shapes = dict[str, tuple[int, ...]]


def dflash_config(target: dict[str, Any], block_size: int = 16, nested: bool = False) -> dict[str, Any]:
    """As z-lab writes it for a target of these sizes."""
    own = {"mask_token_id": target["vocab_size"] - 1, "target_layer_ids": [1, 2, 3]}
    fields = {
        "architectures": ["DFlashDraftModel"], "attention_bias": False, "attention_dropout": 0.0,
        "auto_map": {"AutoModel": "dflash.DFlashDraftModel"}, "bos_token_id": 151643, "dtype": "bfloat16",
        "eos_token_id": 151645, "head_dim": 32, "hidden_act": "silu", "hidden_size": target["hidden_size"],
        "initializer_range": 0.02, "intermediate_size": 192, "layer_types": ["full_attention"] * 2,
        "max_position_embeddings": target["max_position_embeddings"], "max_window_layers": 2, "model_type": "qwen3",
        "num_attention_heads": 4, "num_hidden_layers": 2, "num_key_value_heads": 2,
        "num_target_layers": target["num_hidden_layers"], "rms_norm_eps": 1e-06, "rope_scaling": None,
        "rope_theta": 1000000, "sliding_window": None, "tie_word_embeddings": True, "use_cache": True,
        "use_sliding_window": False, "vocab_size": target["vocab_size"],
    }  # fmt: skip
    if nested:
        return {**fields, "dflash_config": {**own, "block_size": block_size}}
    return {**fields, "block_size": block_size, "dflash_config": own}


def block_shapes(config: dict[str, Any]) -> Shapes:
    """Z-lab's tensors for such a configuration."""
    hidden, inner, head = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    heads, groups = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    shapes: Shapes = {"fc.weight": (hidden, 3 * hidden), "hidden_norm.weight": (hidden,), "norm.weight": (hidden,)}
    for index in range(config["num_hidden_layers"]):
        own: Shapes = {
            "input_layernorm.weight": (hidden,), "post_attention_layernorm.weight": (hidden,),
            "self_attn.q_proj.weight": (heads, hidden), "self_attn.k_proj.weight": (groups, hidden),
            "self_attn.v_proj.weight": (groups, hidden), "self_attn.o_proj.weight": (hidden, heads),
            "self_attn.q_norm.weight": (head,), "self_attn.k_norm.weight": (head,),
            "mlp.gate_proj.weight": (inner, hidden), "mlp.up_proj.weight": (inner, hidden),
            "mlp.down_proj.weight": (hidden, inner),
        }  # fmt: skip
        shapes |= {f"layers.{index}.{name}": shape for name, shape in own.items()}
    return shapes


def dspark_config(target: dict[str, Any], kind: str = "vanilla", name: str = "Qwen3DSparkModel") -> dict[str, Any]:
    """As deepseek-ai writes it."""
    fields = dflash_config(target, 7)
    own = fields.pop("dflash_config")
    return {
        **{key: value for key, value in fields.items() if key != "auto_map"}, **own, "architectures": [name],
        "confidence_head_with_markov": True, "enable_confidence_head": True, "markov_head_type": kind,
        "markov_rank": 16, "num_anchors": 512,
    }  # fmt: skip


def dspark_shapes(config: dict[str, Any]) -> Shapes:
    """DeepSeek's tensors for it."""
    rank, hidden, vocab = config["markov_rank"], config["hidden_size"], config["vocab_size"]
    own: dict[str, Shapes] = {
        "vanilla": {},
        "gated": {"gate_proj.weight": (rank, hidden + rank), "gate_proj.bias": (rank,)},
        "rnn": {"joint_proj.weight": (3 * rank, 2 * rank + hidden), "joint_proj.bias": (3 * rank,)},
    }
    heads: Shapes = {
        "markov_w1.weight": (vocab, rank),
        "markov_w2.weight": (vocab, rank),
        **own[config["markov_head_type"]],
    }
    shapes = block_shapes(config) | {f"markov_head.{name}": shape for name, shape in heads.items()}
    return shapes | {"confidence_head.proj.weight": (1, hidden + rank), "confidence_head.proj.bias": (1,)}


SMALL: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 2048,
    "max_position_embeddings": 4096, "rms_norm_eps": 1e-06, "hidden_act": "silu", "tie_word_embeddings": False,
}  # fmt: skip
NEXTN_CONFIGS: dict[str, dict[str, Any]] = {
    "deepseek-v3": {
        **SMALL, "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "num_key_value_heads": 4,
        "first_k_dense_replace": 1, "kv_lora_rank": 32, "q_lora_rank": 48, "qk_nope_head_dim": 16,
        "qk_rope_head_dim": 16, "v_head_dim": 16, "moe_intermediate_size": 32, "moe_layer_freq": 1, "n_group": 2,
        "n_routed_experts": 8, "n_shared_experts": 1, "norm_topk_prob": True, "num_experts_per_tok": 2,
        "num_nextn_predict_layers": 1, "rope_theta": 10000, "routed_scaling_factor": 2.5, "scoring_func": "sigmoid",
        "topk_group": 1, "topk_method": "noaux_tc",
    },
    "glm-4.5": {
        **SMALL, "architectures": ["Glm4MoeForCausalLM"], "model_type": "glm4_moe", "num_key_value_heads": 2,
        "attention_bias": True, "first_k_dense_replace": 1, "head_dim": 16, "moe_intermediate_size": 32, "n_group": 1,
        "n_routed_experts": 8, "n_shared_experts": 1, "norm_topk_prob": True, "num_experts_per_tok": 2,
        "num_nextn_predict_layers": 1, "partial_rotary_factor": 0.5, "rope_theta": 1000000,
        "routed_scaling_factor": 2.5, "topk_group": 1, "use_qk_norm": True,
    },
    "qwen3-next": {
        **SMALL, "architectures": ["Qwen3NextForCausalLM"], "model_type": "qwen3_next", "num_key_value_heads": 2,
        "head_dim": 16, "decoder_sparse_step": 1, "full_attention_interval": 2, "linear_conv_kernel_dim": 4,
        "linear_key_head_dim": 16, "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_value_head_dim": 16,
        "moe_intermediate_size": 32, "norm_topk_prob": True, "num_experts": 8, "num_experts_per_tok": 2,
        "partial_rotary_factor": 0.25, "rope_theta": 10000000, "shared_expert_intermediate_size": 32,
    },
    "mimo": {
        **SMALL, "architectures": ["MiMoForCausalLM"], "model_type": "qwen2", "num_key_value_heads": 2, "head_dim": 16,
        "attention_bias": True, "num_nextn_predict_layers": 1, "rope_theta": 640000, "use_mrope": False,
    },
}  # fmt: skip
"""The targets' own; MiMo's `model_type` is mimo, whose configuration is code beside the weights."""


def nextn_shapes(family: str) -> Shapes:
    """The extra layer's tensors, as far as they are the same kind in every model of a family."""
    hidden, layers = SMALL["hidden_size"], SMALL["num_hidden_layers"]
    deepseek: Shapes = {
        "enorm.weight": (hidden,), "hnorm.weight": (hidden,), "eh_proj.weight": (hidden, 2 * hidden),
        "shared_head.norm.weight": (hidden,), "self_attn.o_proj.weight": (hidden, hidden),
    }  # fmt: skip
    qwen: Shapes = {
        "fc.weight": (hidden, 2 * hidden), "pre_fc_norm_embedding.weight": (hidden,), "norm.weight": (hidden,),
        "pre_fc_norm_hidden.weight": (hidden,), "layers.0.self_attn.q_norm.weight": (16,),
    }  # fmt: skip
    mimo: Shapes = {
        "input_proj.weight": (hidden, 2 * hidden), "token_layernorm.weight": (hidden,),
        "hidden_layernorm.weight": (hidden,), "final_layernorm.weight": (hidden,), "input_layernorm.weight": (hidden,),
        "post_attention_layernorm.weight": (hidden,), "self_attn.q_proj.weight": (64, hidden),
        "self_attn.k_proj.weight": (32, hidden), "self_attn.v_proj.weight": (32, hidden),
        "self_attn.q_proj.bias": (64,), "self_attn.k_proj.bias": (32,), "self_attn.v_proj.bias": (32,),
        "self_attn.o_proj.weight": (hidden, 64), "mlp.gate_proj.weight": (96, hidden),
        "mlp.up_proj.weight": (96, hidden), "mlp.down_proj.weight": (hidden, 96),
    }  # fmt: skip
    prefix, own = {
        "deepseek-v3": (f"model.layers.{layers}.", deepseek),
        "glm-4.5": (f"model.layers.{layers}.", deepseek),
        "qwen3-next": ("mtp.", qwen),
        "mimo": ("model.mtp_layers.0.", mimo),
    }[family]
    others: Shapes = {"model.embed_tokens.weight": (2048, hidden), "model.norm.weight": (hidden,)}
    return others | {f"{prefix}{name}": shape for name, shape in own.items()}


def publish(folder: Path, config: dict[str, Any], shapes: Shapes) -> Path:
    """Such a checkpoint as a folder; norms are ones."""
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: torch.randn(shape, generator=generator) * shape[-1] ** -0.5 if len(shape) > 1 else torch.ones(shape)
        for name, shape in shapes.items()
    }
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return folder
