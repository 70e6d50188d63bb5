"""Sampled paths in place of SGLang's tree of likeliest nodes, and a rule of ours in place of its verification's.

What is sampled needs probabilities: SGLang hands a draft's on with its tokens, from the pass over accepted tokens to
the draft and from there to verification, for its own rejection sampling of chains (`draft_probs`, 0.5.17); those fields
are filled here too. Logits become probabilities in SGLang's `eagle_sample`, penalties, top-k and top-p and all; the
operator that it then calls is exchanged. Batches that are all greedy go SGLang's own way.

Shapes: B requests, K paths, L steps, V vocabulary, D hidden size, n nodes of a tree.
"""

from __future__ import annotations

from typing import Any

import torch
from sglang.srt.model_executor.forward_context import ForwardContext, forward_context
from sglang.srt.speculative import eagle_utils, eagle_worker_common, eagle_worker_v2, standalone_worker_v2
from torch import Tensor

from draftbench.harness.errors import EngineError
from draftbench.harness.runtime.drafts.rules import RULES, Rule, walk


def sampled_worker(base: type[Any], name: str) -> type[Any]:
    """A draft worker of SGLang's EAGLE family that samples paths for batches that are not all greedy."""
    rule = RULES[name]

    class SampledDraftWorker(base):
        acceptance_rule = name

        def _draft_extend_for_prefill(self, batch: Any, *args: Any, **kwargs: Any) -> Any:
            self._keep_logits()
            draft_input = super()._draft_extend_for_prefill(batch, *args, **kwargs)
            self._draw_first(draft_input, batch)
            return draft_input

        def _draft_extend_for_decode(self, batch: Any, batch_result: Any) -> None:
            self._keep_logits()
            super()._draft_extend_for_decode(batch, batch_result)
            self._draw_first(batch_result.next_draft_input, batch)

        def _keep_logits(self) -> None:
            """From now on the draft's last pass can be looked at."""
            if "forward" in vars(self.draft_runner):
                return
            forward = self.draft_runner.forward

            def kept(*args: Any, **kwargs: Any) -> Any:
                self.last_pass = forward(*args, **kwargs)
                return self.last_pass

            self.draft_runner.forward = kept

        def _draw_first(self, draft_input: Any, batch: Any) -> None:
            """The first token of each path, and the distribution that it is drawn from."""
            logits_BV = self.last_pass.logits_output.next_token_logits
            probs_BV = (logits_BV.float() / batch.sampling_info.temperatures).softmax(-1)
            draft_input.draft_probs = probs_BV
            if not batch.sampling_info.is_all_greedy:
                draft_input.topk_index = rule.draw(probs_BV, self.topk)
                draft_input.topk_p = probs_BV.gather(1, draft_input.topk_index)

        def draft_forward(self, forward_batch: Any) -> Any:
            """All decode passes of one round: paths do not part any more, so each stays in the slots of its number."""
            spec_info, sampling = forward_batch.spec_info, forward_batch.sampling_info
            if sampling.is_all_greedy:
                spec_info.draft_probs = None
                return super().draft_forward(forward_batch)
            if (steps := getattr(self.draft_runner.model, "steps", None)) is not None:
                steps.begin_round()
            size, paths, depth = forward_batch.batch_size, self.topk, self.speculative_num_steps
            slots = eagle_utils.per_step_draft_out_cache_loc(forward_batch.out_cache_loc, size, paths, depth)
            tokens_BK, hidden = spec_info.topk_index, spec_info.hidden_states
            hidden = None if hidden is None else hidden.repeat_interleave(paths, 0)
            drawn, probs = [tokens_BK], [spec_info.draft_probs[:, None]]
            temperatures = sampling.temperatures.repeat_interleave(paths, 0)
            for step in range(depth - 1):
                forward_batch.input_ids, forward_batch.out_cache_loc = tokens_BK.flatten(), slots[step]
                spec_info.hidden_states = hidden
                with forward_context(ForwardContext(attn_backend=self.draft_attn_backend.attn_backends[step])):
                    output = self.draft_runner.forward(forward_batch).logits_output
                probs_NV = (output.next_token_logits.float() / temperatures).softmax(-1)
                tokens_BK = rule.draw(probs_NV, 1).view(size, paths)
                drawn.append(tokens_BK)
                probs.append(probs_NV.view(size, paths, -1))
                forward_batch.positions.add_(1)
                hidden = output.hidden_states
            parents, chosen = path_tree(paths, depth, tokens_BK.device)
            spread = (parents.expand(size, -1), chosen.expand(size, -1))
            return *spread, torch.cat(drawn, 1), torch.cat(probs, 1)

    SampledDraftWorker.__name__ = f"Sampled{base.__name__}"
    return SampledDraftWorker


def path_tree(num_paths: int, num_steps: int, device: Any) -> tuple[Tensor, Tensor]:
    """K whole paths in SGLang's numbering of candidates: parents of entries, and the candidates that are nodes.

    The root has K candidates; every beam of a later step has K, of which a path takes the first. Entry 0 is the root,
    the others the beams step by step (speculative/eagle_utils.py, `organize_draft_results`, 0.5.17).
    """
    first = list(range(num_paths))
    later = [
        num_paths + step * num_paths**2 + branch * num_paths
        for step in range(num_steps - 1)
        for branch in range(num_paths)
    ]
    chosen = torch.tensor(first + later, device=device)
    parents = torch.tensor([-1, *(first + later)[: num_paths * (num_steps - 1)]], device=device)
    return parents, chosen


def judged_by(rule: Rule, state: dict[str, Tensor]) -> Any:
    """Our rule with the signature of SGLang's operator for trees; `state` holds the draft's probabilities [B, m, V]."""

    def verify(
        predicts: Tensor,
        accept_index: Tensor,
        accept_token_num: Tensor,
        candidates: Tensor,
        retrive_index: Tensor,
        uniform_samples: Tensor,
        uniform_samples_for_final_sampling: Tensor,
        target_probs: Tensor,
        **_: Any,
    ) -> None:
        for row, (tokens, coins) in enumerate(zip(candidates.tolist(), uniform_samples.tolist(), strict=True)):
            probs_mV = state["draft_probs"][row]
            # The root and the nodes of all steps but the last have a distribution of the draft's.
            num_paths = len(tokens) - len(probs_mV)
            path, emitted, rest_V = walk(rule, target_probs[row], probs_mV, tokens, coins, num_paths)
            total_V = rest_V.cumsum(0)
            goal = uniform_samples_for_final_sampling[row] * total_V[-1]
            bonus = int(torch.searchsorted(total_V, goal, right=True).clamp_max(int(rest_V.nonzero()[-1])))
            places = retrive_index[row][path]
            predicts[places] = torch.tensor([*emitted, bonus], dtype=predicts.dtype, device=predicts.device)
            accept_index[row, : len(path)] = places.to(accept_index.dtype)
            accept_token_num[row] = len(path) - 1

    return verify


def install(name: str) -> None:
    """Make this process draft and accept by the rule.

    Raises:
        EngineError: it has a GPU.
    """
    if torch.cuda.is_available():
        raise EngineError(
            f"options.acceptance_rule {name} was never run on a GPU: its draws and its rule are outside CUDA graphs."
        )
    import sgl_kernel

    eagle_worker_v2.EagleDraftWorker = sampled_worker(eagle_worker_v2.EagleDraftWorker, name)
    standalone_worker_v2.StandaloneDraftWorker = sampled_worker(standalone_worker_v2.StandaloneDraftWorker, name)
    verified, shared = eagle_utils.eagle_sample, sgl_kernel.tree_speculative_sampling_target_only
    state: dict[str, Tensor] = {}
    judged = judged_by(RULES[name], state)

    def eagle_sample(verify_input: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
        if verify_input.draft_probs is None:
            return verified(verify_input, batch, *args, **kwargs)
        state["draft_probs"] = verify_input.draft_probs
        sgl_kernel.tree_speculative_sampling_target_only = judged
        try:
            return verified(verify_input, batch, *args, **kwargs)
        finally:
            sgl_kernel.tree_speculative_sampling_target_only = shared

    for module in (eagle_utils, eagle_worker_common):
        module.eagle_sample = eagle_sample
