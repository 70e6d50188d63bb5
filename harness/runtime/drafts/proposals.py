"""Proposers inside SGLang: its n-gram worker, whose draft has no KV cache and no model, with our trees in its place.

Shapes: B requests, n nodes of a tree with its root, V vocabulary, D hidden size
(of all layers that are read), K likeliest tokens.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sglang.srt.distributed import get_tp_group
from sglang.srt.model_executor.forward_batch_info import CaptureHiddenMode
from sglang.srt.model_executor.model_runner import ModelRunner
from sglang.srt.speculative import ngram_worker

from draftbench.drafts.api import DraftSpec, Needs, Tree
from draftbench.drafts.proposer import Context, Proposer, TokenTree, Verified
from draftbench.harness.runtime.drafts.guarded import NOTHING, Call, Guarded, OwnDraws
from draftbench.harness.runtime.drafts.verify_tree import accepted_path, padded, tree_mask


@dataclass
class Running:
    """What is known of a request in the decode batch."""

    tokens: list[int]
    tree: TokenTree = NOTHING


class NoCorpus:
    """Stands in for the n-gram trie, which is not built."""

    def __init__(self, **_: Any) -> None:
        pass

    def erase_match_state(self, request_ids: list[str]) -> None:
        """Nothing is kept."""


class ProposerWorker(ngram_worker.NGRAMWorker):
    """SGLang's n-gram worker with a proposer's trees. Set `new_proposer`, `needs` and `budget` before it is made."""

    new_proposer: Callable[[int], Proposer]
    needs: Needs
    budget: Tree
    on_failure: Callable[[str], None]

    def __init__(self, server_args: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(server_args, *args, **kwargs)
        cls = type(self)
        self.vocab_size = self.target_worker.model_config.vocab_size
        self.ranks = get_tp_group()
        """One proposer for all that share the target: foreign code need not answer alike twice."""
        self.proposer = cls.new_proposer(self.vocab_size) if self.ranks.is_first_rank else None
        apart = OwnDraws() if self.ranks.world_size > 1 else None
        self.guarded = Guarded(self.proposer, self.budget, self.vocab_size, cls.on_failure, apart)
        self.running: dict[str, Running] = {}
        self.first_hidden: dict[str, np.ndarray] = {}
        self.observed: Any = None
        self.proposed_nothing = False
        """Whether the last round's trees were all empty, so that its drafts were fillers."""
        forward = self.target_worker.forward_batch_generation

        def observing(*args: Any, **kwargs: Any) -> Any:
            if self.needs.hidden != "none":
                mode = CaptureHiddenMode.FULL if kwargs.get("is_verify") else CaptureHiddenMode.LAST
                kwargs["capture_hidden_mode"] = mode
            result = forward(*args, **kwargs)
            self.observed = result.logits_output
            return result

        self.target_worker.forward_batch_generation = observing

    def draft_facts(self) -> dict[str, Any]:
        """What the receipt says of this draft."""
        own: dict[str, Any] = getattr(self.proposer, "facts", dict)()
        return {"proposer": type(self.proposer).__name__, **own}

    def clear_cache_pool(self) -> None:
        """SGLang flushes its caches, which it does only when no request is under way."""
        self._prev_decode_rids: set[str] = set()
        self._end(list(self.running))
        self.first_hidden.clear()
        self.guarded.ask(("reset", ()))

    def _prepare_draft_tokens(self, batch: Any) -> tuple[np.ndarray, np.ndarray]:
        """Every request's root and nodes [B * n] and the trees' masks [B * n * n]."""
        self._begin(batch)
        contexts = [Context(req.rid, self.running[req.rid].tokens) for req in batch.reqs]
        trees = self.ranks.broadcast_object(self.guarded.trees(contexts) if self.ranks.is_first_rank else None)
        self.proposed_nothing = not any(tree.tokens for tree in trees)
        drafts, masks = [], []
        for req, tree in zip(batch.reqs, trees, strict=True):
            self.running[req.rid].tree = tree
            tokens, parents = padded(tree, self.draft_token_num - 1, req.origin_input_ids[0])
            drafts += [self.running[req.rid].tokens[-1], *tokens]
            masks.append(tree_mask(parents).ravel())
        return np.array(drafts, dtype=np.int64), np.concatenate(masks)

    def _begin(self, batch: Any) -> None:
        """Requests that are new in the batch, or back in it."""
        here = {req.rid for req in batch.reqs}
        self._end([request_id for request_id in self.running if request_id not in here])
        fresh = [(row, req) for row, req in enumerate(batch.reqs) if req.rid not in self.running]
        if not fresh:
            return
        calls: list[Call] = []
        latest = batch.spec_info.accept_tokens.view(len(batch.reqs), -1)[:, 0].tolist()
        for row, req in fresh:
            tokens = [*req.origin_input_ids, *req.output_ids]
            # Under overlap the prefill's token has not reached the request yet.
            if self.enable_overlap and not batch.grammar_needs_sync():
                tokens.append(latest[row])
            self.running[req.rid] = Running(tokens)
            calls.append(("on_prefill", (req.rid, tuple(tokens), self.first_hidden.pop(req.rid, None))))
        self.guarded.ask(*calls)

    def _end(self, request_ids: Sequence[str]) -> None:
        """Requests that left the batch."""
        gone = [request_id for request_id in request_ids if self.running.pop(request_id, None) is not None]
        self.guarded.ask(*(("on_finish", (request_id,)) for request_id in gone))

    def _update_ngram_corpus(self, batch: Any) -> None:
        """Nothing: what was verified is known when the round is over."""

    def forward_batch_generation(self, batch: Any, *args: Any, **kwargs: Any) -> Any:
        """A prefill, or a round: propose, verify, tell the proposer."""
        decodes = batch.forward_mode.is_decode()
        result = super().forward_batch_generation(batch, *args, **kwargs)
        if decodes:
            self.observe(batch, result)
            return result
        # A request that was put back may be prefilled again before any batch was decoded without it.
        self._end([req.rid for req in batch.reqs])
        if self.needs.hidden != "none" and self.observed.hidden_states is not None:
            rows = self.observed.hidden_states.float().cpu().numpy()
            self.first_hidden.update(zip([req.rid for req in batch.reqs], rows, strict=True))
        return result

    def observe(self, batch: Any, result: Any) -> None:
        """Tell the proposer what became of its trees."""
        count, size = len(batch.reqs), self.draft_token_num
        tokens_Bn = result.next_token_ids.view(count, size).tolist()
        lengths_B = result.accept_lens.tolist()
        topk_BnK = hidden_BnD = None
        if self.needs.node_topk:
            topk = self.observed.next_token_logits.topk(self.needs.node_topk, dim=-1).indices
            topk_BnK = topk.view(count, size, -1).cpu().numpy()
        if self.needs.hidden != "none":
            hidden_BnD = self.observed.hidden_states.float().view(count, size, -1).cpu().numpy()
        calls: list[Call] = []
        for row, (req, tokens, length) in enumerate(zip(batch.reqs, tokens_Bn, lengths_B, strict=True)):
            state = self.running[req.rid]
            new = tokens[:length]
            root = state.tokens[-1]
            state.tokens += new
            path = accepted_path(state.tree, new[:-1])
            nodes = len(state.tree.tokens) + 1
            verified = Verified(
                root,
                state.tree,
                path,
                new[-1],
                None if topk_BnK is None else topk_BnK[row, :nodes],
                None if hidden_BnD is None else hidden_BnD[row, [0, *(node + 1 for node in path)]],
            )
            calls.append(("on_verify", (req.rid, verified)))
        self.guarded.ask(*calls)


def hand_out_layers(needs: Needs) -> None:
    """Let the target's passes hand out the outputs of layers in place of the last hidden state, as EAGLE-3's do."""
    original = ModelRunner.init_spec_aux_hidden_state

    def init(runner: ModelRunner) -> None:
        original(runner)
        chosen = needs.layers_of(runner.model_config.num_hidden_layers)
        runner.spec_aux_config.eagle_use_aux_hidden_state = True
        runner.spec_aux_config.eagle_aux_hidden_state_layer_ids = list(chosen)

    ModelRunner.init_spec_aux_hidden_state = init


def install(
    spec: DraftSpec, options: Any, tree: Tree, checkpoint: Path | None, on_failure: Callable[[str], None]
) -> None:
    """Make SGLang's NGRAM algorithm run the spec's proposer."""
    module, name = str(spec.proposer_factory).split(":")
    factory = getattr(importlib.import_module(module), name)
    needs = spec.capabilities.needs
    if needs.hidden == "layers":
        hand_out_layers(needs)
    more = () if checkpoint is None else (checkpoint,)
    ProposerWorker.new_proposer = staticmethod(lambda vocab_size: factory(options, tree, vocab_size, *more))
    ProposerWorker.needs, ProposerWorker.budget = needs, tree
    ProposerWorker.on_failure = staticmethod(on_failure)
    ngram_worker.NgramCorpus = NoCorpus
    ngram_worker.NGRAMWorker = ProposerWorker
