"""The target's own text drafts: n-grams of all requests in one trie, as SGLang has it. The trie is emptied before each
cell, by the flush."""

from draftbench.drafts.api import Capabilities, DraftSpec, Options, Tree, full_tree


def ngram_arguments(tree: Tree, options: Options) -> dict[str, int | str]:
    """The trie keeps n-grams that are one token longer than the tree is deep, so that no draft goes deeper."""
    return {
        "speculative_num_steps": tree.num_steps,
        "speculative_num_draft_tokens": tree.num_draft_tokens,
        "speculative_ngram_max_bfs_breadth": tree.topk,
        "speculative_ngram_max_trie_depth": tree.num_steps + 1,
    }


SPEC = DraftSpec(
    name="ngram",
    title="n-grams seen so far in prompts' ends and outputs draft; no weights",
    origin="SGLang's NGRAM; prompt lookup decoding, Saxena 2023",
    sglang_algorithm="NGRAM",
    draft_model_class=None,
    needs_checkpoint=False,
    capabilities=Capabilities(online_state=True, children="own"),
    largest_tree=full_tree,
    engine_arguments=ngram_arguments,
    engine_module="draftbench.drafts.ngram.engine",
)
