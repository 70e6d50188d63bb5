"""One attention and a head that drafts several tokens at once; the next pass reads them all (FLASH, on text)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from draftbench.drafts.api import Shape
from draftbench.drafts.layout import head_size, whole_number
from draftbench.drafts.stepwise import stepwise_spec

TOKENS_PER_PASS = "tokens_per_pass"
WIDER = 4
"""How much wider than the hidden state the head is inside. Source: ZihuaEvan/FlashSD, flash/model/llama_sar.py."""


def expected(config: Mapping[str, Any]) -> dict[str, Shape]:
    """Tensors of a checkpoint."""
    hidden, heads, size = config["hidden_size"], config["num_attention_heads"], head_size(config)
    q, kv, inner = heads * size, (config.get("num_key_value_heads") or heads) * size, WIDER * hidden
    outputs = whole_number(config, TOKENS_PER_PASS) * hidden
    return {
        "fc.weight": (hidden, 2 * hidden),
        "fc.bias": (hidden,),
        "self_attn.q_proj.weight": (q, hidden),
        "self_attn.k_proj.weight": (kv, hidden),
        "self_attn.v_proj.weight": (kv, hidden),
        "self_attn.o_proj.weight": (hidden, q),
        "head.0.weight": (inner, hidden),
        "head.0.bias": (inner,),
        "head.2.weight": (outputs, inner),
        "head.2.bias": (outputs,),
    }


SPEC = stepwise_spec(
    name="flash_text",
    title="an attention whose head drafts several tokens a pass; the next pass reads them (FLASH without images)",
    origin="Wang et al. 2025, FLASH",
    factory="draftbench.drafts.flash_text.model:made",
    expected=expected,
    facts=lambda config: {TOKENS_PER_PASS: whole_number(config, TOKENS_PER_PASS)},
    recipes={"flash_text": "draftbench.drafts.flash_text.recipe:FLASH_TEXT"},
)
