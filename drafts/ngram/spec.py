"""The target's own text drafts: n-grams of all requests in one trie, as SGLang has it. The trie is emptied before each
cell, by the flush."""

from draftbench.drafts.api import Capabilities, DraftSpec, full_tree
from draftbench.drafts.proposer import ngram_arguments

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
