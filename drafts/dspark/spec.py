"""DFlash's block with a head that lets each drafted token depend on the one before it (DSpark); SGLang's own."""

from draftbench.drafts.api import Capabilities, Checkpoint, DraftSpec, Loadable, Needs, Options, Shape, Tree
from draftbench.drafts.dflash.spec import block_config, block_layers
from draftbench.drafts.layout import ROTARY, renamed, text_fields, without_prefix
from draftbench.harness.errors import CheckpointError

ARCHITECTURES = ("Qwen3DSparkModel", "DSparkDraftModel")
"""As deepseek-ai and as SpecForge name the same layout, for targets with LLaMA's or Qwen 3's layers."""


def read(found: Checkpoint, options: Options, tree: Tree) -> Loadable:
    """DeepSeek's layout: DFlash's tensors, `markov_head` and perhaps `confidence_head`.

    `block_size` counts the drafts alone, and SGLang drafts so many: the last sure token stands before the block.
    """
    path = found.folder / "config.json"
    found, names = renamed(found, lambda name: without_prefix(name, "model."))
    outer = text_fields(found.config) | dict(found.config.get("dspark_config") or {})
    kind = next(iter(found.config.get("architectures") or ()), None)
    if kind not in ARCHITECTURES:
        raise CheckpointError(
            f"{path}: architectures is {kind!r}, which is no DSpark draft that can be checked here; known: "
            f"{', '.join(ARCHITECTURES)}."
        )
    if outer.get("block_size") != tree.num_steps:
        raise CheckpointError(
            f"{path}: block_size is {outer.get('block_size')!r}, but num_steps is {tree.num_steps}; SGLang drafts a "
            "whole block, so make them equal."
        )
    config, trained = block_config(found, tree)
    expected = block_layers(config) | _heads(path.name, found, outer, config["hidden_size"], config["vocab_size"])
    config |= {"architectures": [kind], "mask_token_id": config["dflash_config"]["mask_token_id"]}
    unused = ("embed_tokens.weight", "lm_head.weight", *ROTARY)
    return Loadable(config, expected, unused, renamed=names, trained_tokens=trained, draft_model_class=kind)


def _heads(name: str, found: Checkpoint, fields: dict[str, object], hidden: int, vocab: int) -> dict[str, Shape]:
    """Shapes of the head between tokens, by its type and rank, and of the confidence head where it is there."""
    rank, kind = fields.get("markov_rank"), fields.get("markov_head_type")
    own: dict[object, dict[str, Shape]] = {}
    if type(rank) is int and rank > 0:
        own = {
            "vanilla": {},
            "gated": {"gate_proj.weight": (rank, hidden + rank), "gate_proj.bias": (rank,)},
            "rnn": {"joint_proj.weight": (3 * rank, 2 * rank + hidden), "joint_proj.bias": (3 * rank,)},
        }
    if kind not in own:
        raise CheckpointError(
            f"{found.folder / name}: markov_head_type is {kind!r} and markov_rank {rank!r}; SGLang knows vanilla, "
            "gated and rnn, with a rank above 0."
        )
    assert isinstance(rank, int)
    heads: dict[str, Shape] = {"markov_w1.weight": (vocab, rank), "markov_w2.weight": (vocab, rank), **own[kind]}
    expected: dict[str, Shape] = {f"markov_head.{part}": shape for part, shape in heads.items()}
    if fields.get("enable_confidence_head", True):
        width = hidden + (rank if fields.get("confidence_head_with_markov", True) else 0)
        expected |= {"confidence_head.proj.weight": (1, width), "confidence_head.proj.bias": (1,)}
    return expected


def dspark_arguments(tree: Tree, options: Options) -> dict[str, int | str]:
    """SGLang counts a block as one step of one branch; its tokens, and these with the last sure one."""
    return {
        "speculative_num_steps": 1,
        "speculative_eagle_topk": 1,
        "speculative_dspark_block_size": tree.num_steps,
        "speculative_num_draft_tokens": tree.num_draft_tokens,
    }


SPEC = DraftSpec(
    name="dspark",
    title="DFlash's block with a head between its tokens (DSpark); SGLang's own, on a GPU alone",
    origin="DeepSeek 2026, DeepSpec: DSpark",
    sglang_algorithm="DSPARK",
    draft_model_class=None,
    needs_checkpoint=True,
    capabilities=Capabilities(Needs("layers"), draft_kv=True, children="own"),
    read=read,
    engine_arguments=dspark_arguments,
    needs_gpu="SGLang has Triton kernels alone to verify its blocks (accept_greedy_triton and others)",
)
