"""Which of SGLang's server arguments an arm may set without permission: numbers, switches, names of its own parts.

All others run code (trust_remote_code, custom_weight_loader), open ports (host, grpc_port), read or write files or load
from elsewhere (lora_paths, load_format, crash_dump_folder), or are not known to do nothing of the kind. They need
`--allow NAME` on the command line of the one who runs the suite; no manifest gives that permission.

Source: fields of ServerArgs in server_args.py, SGLang 0.5.17.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

_NAMES = """
    attention_backend decode_attention_backend prefill_attention_backend sampling_backend grammar_backend
    fp8_gemm_runner_backend fp4_gemm_runner_backend bf16_gemm_backend mamba_backend linear_attn_backend
    linear_attn_decode_backend linear_attn_prefill_backend linear_attn_verify_backend moe_runner_backend
    disable_flashinfer_autotune flashinfer_mla_disable_ragged flashinfer_mxfp4_moe_precision
    triton_attention_reduce_in_fp32 triton_attention_num_kv_splits triton_attention_split_tile_size
    enable_fused_qk_norm_rope enable_fused_moe_sum_all_reduce enable_precise_embedding_interpolation
    disable_shared_experts_fusion enforce_shared_experts_fusion context_length dtype quantization kv_cache_dtype
    enable_fp32_lm_head enable_tf32_matmul torchao_config is_embedding mem_fraction_static max_running_requests
    max_queued_requests max_total_tokens max_prefill_tokens chunked_prefill_size enable_dynamic_chunking
    prefill_max_requests page_size schedule_policy schedule_conservativeness enable_priority_scheduling
    retraction_policy swa_full_tokens_ratio disable_hybrid_swa_memory radix_eviction_policy disable_radix_cache
    disable_chunked_prefix_cache enable_page_major_kv_layout enable_unified_memory disable_overlap_schedule
    num_continuous_decode_steps scheduler_recv_interval enable_mixed_chunk tp_size dp_size pp_size ep_size dcp_size
    attn_cp_size moe_dp_size enable_dp_attention enable_dp_lm_head load_balance_method enable_p2p_check
    disable_custom_all_reduce enable_mscclpp enable_nccl_nvls enable_symm_mem enable_torch_symm_mem pre_warm_nccl
    enable_two_batch_overlap enable_single_batch_overlap device base_gpu_id gpu_id_step random_seed watchdog_timeout
    soft_watchdog_timeout sleep_on_idle gc_threshold skip_server_warmup skip_tokenizer_init served_model_name
    stream_interval incremental_streaming_output enable_cache_report sampling_defaults allow_auto_truncate log_level
    log_level_http decode_log_interval show_time_cost cuda_graph_backend_decode cuda_graph_backend_prefill
    cuda_graph_max_bs_decode cuda_graph_max_bs_prefill disable_prefill_cuda_graph disable_decode_cuda_graph
    disable_cuda_graph disable_cuda_graph_padding enable_cudagraph_gc enable_torch_compile torch_compile_max_bs
    enable_layerwise_nvtx_marker cpu_offload_gb offload_group_size offload_num_in_group offload_prefetch_step
    offload_mode enable_deterministic_inference enable_memory_saver disable_outlines_disk_cache max_mamba_cache_size
    mamba_ssm_dtype mamba_full_memory_ratio speculative_accept_threshold_single speculative_accept_threshold_acc
    speculative_use_rejection_sampling speculative_attention_mode speculative_draft_attention_backend
    speculative_draft_window_size speculative_moe_runner_backend speculative_draft_model_quantization
    speculative_adaptive speculative_ngram_min_bfs_breadth speculative_ngram_max_bfs_breadth
    speculative_ngram_match_type speculative_ngram_max_trie_depth speculative_ngram_capacity
"""
HARMLESS = frozenset(_NAMES.split())
_WORD = re.compile(r"[A-Za-z0-9][\w.+-]*")


def risky(engine: Mapping[str, Any], allowed: Collection[str] = ()) -> list[str]:
    """Names of the arguments that are not known to be harmless, without those that are allowed."""
    return [name for name in engine if name not in HARMLESS and name not in allowed]


def argument_problem(name: str, value: Any) -> str | None:
    """What is wrong with an argument's text; a word that begins with a dash would be an argument of its own."""
    if not isinstance(value, str):
        return None
    if value.startswith("-"):
        return "a text does not begin with a dash"
    if name in HARMLESS and not _WORD.fullmatch(value):
        return "one word of letters, digits, dots, dashes, underscores and plus signs"
    return None
