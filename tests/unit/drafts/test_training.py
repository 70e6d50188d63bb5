"""Training of the embedded drafts: attention of aligned passes, the loop, and what a checkpoint holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from draftbench.drafts.api import Tree
from draftbench.drafts.chimera.loss import ChimeraObjective, chimera_loss
from draftbench.drafts.chimera.model import ChimeraDraft, new_chimera
from draftbench.drafts.eagle.loss import EagleObjective, aligned_passes, eagle_loss
from draftbench.drafts.eagle.model import EagleDraft, eagle_config, new_eagle
from draftbench.drafts.eagle3.model import Eagle3Draft, new_eagle3
from draftbench.drafts.flash_text.loss import FlashTextObjective, flash_text_loss
from draftbench.drafts.flash_text.model import FlashTextDraft, new_flash_text
from draftbench.drafts.fspad.loss import fspad_loss
from draftbench.drafts.fspad.model import FspadDraft, new_fspad
from draftbench.drafts.medusa.loss import MedusaObjective, medusa_loss
from draftbench.drafts.medusa.model import new_medusa
from draftbench.drafts.prism.model import PrismDraft, new_prism
from draftbench.drafts.standalone.loss import StandaloneObjective, standalone_loss
from draftbench.drafts.standalone.model import StandaloneDraft, new_standalone, standalone_config
from draftbench.drafts.training.cards import save_draft
from draftbench.drafts.training.draft import first_tokens
from draftbench.drafts.training.features import Example, Features, features_of
from draftbench.drafts.training.hf import LlamaForCausalLM
from draftbench.drafts.training.layer import reset
from draftbench.drafts.training.offline_acceptance import accepted_by_heads, accepted_drafts, measure_acceptance
from tests.fakes.target import CONFIG, new_target
from tests.runtime.oracle import growing_attention


@pytest.fixture(scope="module")
def target() -> LlamaForCausalLM:
    return new_target()


@pytest.fixture(scope="module")
def features(target: LlamaForCausalLM) -> Features:
    """Counting modulo a small number, samples of 15 to 20 tokens."""
    return features_of(target, SAMPLES, layers=(0, 1, 1))


SAMPLES = [Example((1, 2, 3 + i), tuple(5 + (i + j) % 7 for j in range(12 + i))) for i in range(6)]


def embedding_of(target: LlamaForCausalLM) -> Tensor:
    return target.get_input_embeddings().weight.data


def head_of(target: LlamaForCausalLM) -> Tensor:
    return target.lm_head.weight.data


def eagle_of(target: LlamaForCausalLM, num_layers: int = 1, num_read: int = 0) -> EagleDraft:
    return new_eagle(CONFIG, embedding_of(target), head_of(target), 3, num_layers, num_read)


def standalone_of(target: LlamaForCausalLM) -> StandaloneDraft:
    return new_standalone(CONFIG, embedding_of(target), 3)


def prism_of(target: LlamaForCausalLM, num_read: int = 0) -> PrismDraft:
    """Modules that differ, so that taking the wrong one shows."""
    draft = new_prism(CONFIG, (0, 1, 2, 1, 0), embedding_of(target), head_of(target), 3, num_read)
    for number, module in enumerate(draft.prism_modules):
        reset(module, 10 + number)
    return draft


def eagle3_of(target: LlamaForCausalLM, num_layers: int = 1) -> Eagle3Draft:
    return new_eagle3(CONFIG, torch.arange(3, 60), embedding_of(target), head_of(target), 3, num_layers=num_layers)


def fspad_of(target: LlamaForCausalLM) -> FspadDraft:
    return new_fspad(CONFIG, embedding_of(target), head_of(target), 3)


def flash_of(target: LlamaForCausalLM) -> FlashTextDraft:
    """Passes at steps 1, 3 and 5."""
    return new_flash_text(CONFIG, embedding_of(target), head_of(target), 3, 2)


def chimera_of(target: LlamaForCausalLM) -> ChimeraDraft:
    """Residual blocks that do something, and differ."""
    draft = new_chimera(CONFIG, embedding_of(target), head_of(target), 3, 5)
    reset(draft, 4)
    return draft


FEATURE_DRAFTS: dict[str, Callable[[LlamaForCausalLM], Any]] = {
    "eagle": eagle_of,
    "stacked-2": partial(eagle_of, num_layers=2),
    "eagle on three layers": partial(eagle_of, num_read=3),
    "prism": prism_of,
    "prism on three layers": partial(prism_of, num_read=3),
    "eagle3": eagle3_of,
    "flash": flash_of,
    "chimera": chimera_of,
    "eagle3 of two layers": partial(eagle3_of, num_layers=2),
    "fspad": fspad_of,
}


def naive_decode(draft: Any, tokens: Tensor, hidden: Tensor, start: int, num_steps: int) -> list[Tensor]:
    """Outputs of draft steps 1 to num_steps of one round, token by token with a growing list of keys and values.

    Entries up to `start` are made from target features; each later one from the draft's own output before it.
    """
    attend = growing_attention()
    outputs: list[Tensor] = []
    at_first = first_tokens(draft, tokens, torch.arange(tokens.shape[1])[None])
    for entry in range(start + num_steps):
        state = hidden[:, entry : entry + 1] if entry <= start else outputs[-1]
        read = (at_first if entry <= start else tokens)[:, entry : entry + 1]
        output = draft(read, state, torch.tensor([[entry]]), attend, max(1, entry - start + 1))
        if entry >= start:
            outputs.append(output)
    return outputs


@pytest.mark.parametrize("name", FEATURE_DRAFTS)
def test_aligned_passes_equal_step_by_step_decoding(target: LlamaForCausalLM, name: str) -> None:
    """Pass j at entry t gives what draft step j gives there in a round that began at t - j + 1."""
    torch.manual_seed(1)
    draft, entries, num_passes = FEATURE_DRAFTS[name](target), 9, 5
    batch = features_of(target, [Example((1, 2), tuple(range(3, entries + 2)))], layers=(0, 1, 1)).batch([0])
    hidden = batch.aux_BTE if draft.reads_layers else batch.hidden_BTD
    outputs = [output for output, _ in aligned_passes(draft, batch, hidden, num_passes, detach=False)]
    for start in range(entries - num_passes + 1):
        for step, expected in enumerate(naive_decode(draft, batch.tokens_BT, hidden, start, num_passes)):
            torch.testing.assert_close(outputs[step][:, start + step], expected[:, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FEATURE_DRAFTS)
def test_a_chain_accepts_what_step_by_step_decoding_accepts(target: LlamaForCausalLM, name: str) -> None:
    """With one branch, the simulated number of accepted drafts is that of a greedy chain run token by token."""
    torch.manual_seed(2)
    draft, entries, first = FEATURE_DRAFTS[name](target), 14, 3
    hidden = torch.randn(1, entries, 96 if draft.reads_layers else 32)
    tokens = torch.randint(0, 64, (1, entries))
    # Plant the draft's own continuation of one entry, so that some drafts are accepted.
    for step in range(3):
        outputs = naive_decode(draft, tokens, hidden, 6, step + 1)
        tokens[0, 7 + step] = draft.logits(outputs[step][0, 0], step + 1).argmax()
    accepted = accepted_drafts(draft, tokens, hidden, first, Tree(4, 1, 5))
    assert accepted[6 - first] >= 3
    for start in range(first, entries - 4):
        outputs = naive_decode(draft, tokens, hidden, start, 4)
        said = [int(draft.logits(output[0, 0], step).argmax()) for step, output in enumerate(outputs, 1)]
        right = [int(tokens[0, start + 1 + step]) == token for step, token in enumerate(said)]
        # Later steps were fed the target's tokens here, the draft's own in a chain: equal as far as all are right.
        assert int(accepted[start - first]) == (right.index(False) if False in right else 4)


@pytest.mark.parametrize("name", FEATURE_DRAFTS)
def test_drafts_compute_in_the_types_of_their_weights(target: LlamaForCausalLM, name: str) -> None:
    """An engine that runs in bfloat16 makes a stepwise draft in it, too, and hands it such hidden states."""
    draft = FEATURE_DRAFTS[name](target).bfloat16()
    tokens, hidden = torch.tensor([[1, 2, 3, 4]]), torch.randn(1, 4, 96 if draft.reads_layers else 32).bfloat16()
    positions = torch.arange(4)[None]
    output = draft(first_tokens(draft, tokens, positions), hidden, positions, growing_attention(), 1)
    output = draft(tokens, output, positions, growing_attention(), 2)
    assert draft.logits(output, 2).dtype == torch.bfloat16


def test_a_wider_tree_accepts_no_less_at_step_one(target: LlamaForCausalLM, features: Features) -> None:
    """The first step's accept rate grows with the number of branches."""
    draft = eagle_of(target)
    narrow = measure_acceptance(draft, features, SAMPLES, Tree(2, 1, 3))
    wide = measure_acceptance(draft, features, SAMPLES, Tree(2, 4, 16))
    assert wide.accept_rates[0] >= narrow.accept_rates[0]
    assert 1.0 <= narrow.acceptance_length <= 3.0


def test_medusas_tree_holds_the_most_probable_paths(target: LlamaForCausalLM, features: Features) -> None:
    """The accepted path is the longest correct one among the best paths of all, by joint probability."""
    torch.manual_seed(4)
    draft, size = new_medusa(3, target.lm_head.weight.data, 0), Tree(3, 4, 9)
    draft.requires_grad_(False)
    for head in draft:
        torch.nn.init.normal_(head[0].linear.weight)
    batch = features.batch([2])
    hidden, tokens = batch.hidden_BTD, batch.tokens_BT
    found = accepted_by_heads(draft, tokens, hidden, 0, size)
    for entry in range(tokens.shape[1]):
        probs = [draft.logits(hidden[0, entry], k + 1).softmax(-1).topk(4) for k in range(3)]
        paths = [path for depth in (1, 2, 3) for path in product(range(4), repeat=depth)]
        score = {p: float(torch.stack([probs[k].values[r] for k, r in enumerate(p)]).prod()) for p in paths}
        kept = sorted(paths, key=lambda path: -score[path])[:8]
        said = [[int(probs[k].indices[rank]) for k, rank in enumerate(path)] for path in kept]
        wanted = tokens[0, entry + 1 :].tolist()
        assert found[entry] == max((len(path) for path in said if path == wanted[: len(path)]), default=0)


def test_padding_does_not_change_the_loss(target: LlamaForCausalLM, features: Features) -> None:
    """The loss of a short and a long sample together is the mean of their own, weighted by learned entries."""
    objective, draft = EagleObjective(1, 1.0, 1.0, 1.0, 10, 1.0, True), eagle_of(target)
    alone = [eagle_loss(draft, features.batch([index]), objective) for index in (0, 5)]
    counts = [int(features.batch([index]).learned_BT.sum()) for index in (0, 5)]
    expected = (alone[0] * counts[0] + alone[1] * counts[1]) / sum(counts)
    torch.testing.assert_close(eagle_loss(draft, features.batch([0, 5]), objective), expected)


def test_fspads_two_states_learn_apart(target: LlamaForCausalLM, features: Features) -> None:
    """One pass: the loss on hidden states moves the state that goes on alone, that on scores the other alone."""
    draft, batch, size = fspad_of(target), features.batch([0, 3]), 32
    moved = {}
    for name, weights in {"state": (1.0, 0.0), "scores": (0.0, 1.0)}.items():
        draft.zero_grad()
        fspad_loss(draft, batch, EagleObjective(1, *weights, 0.0, 10, 1.0, True)).backward()
        halves = draft.layers[0].mlp.down_proj.weight.grad.split(size)
        moved[name] = [bool(half.abs().sum() > 0) for half in halves]
    assert moved == {"state": [False, True], "scores": [True, False]}


def test_fspad_without_sampling_and_with_equal_states_is_eagle(target: LlamaForCausalLM, features: Features) -> None:
    """Nothing sampled, both halves of the last matrix EAGLE's: the same scores at every step of aligned passes."""
    eagle, draft, batch = eagle_of(target), fspad_of(target), features.batch([0, 3])
    weights = {name: weight for name, weight in eagle.state_dict().items() if "embed" not in name}
    last = "layers.0.mlp.down_proj.weight"
    draft.load_state_dict(weights | {last: torch.cat((weights[last], weights[last]))}, strict=False)
    torch.nn.init.zeros_(draft.sampling.down.weight)
    passes = (aligned_passes(each, batch, batch.hidden_BTD, 4, detach=False) for each in (eagle, draft))
    for (expected, _), (found, _) in zip(*passes, strict=True):
        torch.testing.assert_close(draft.logits(found), eagle.logits(expected))


def test_learned_entries_are_those_of_the_output(target: LlamaForCausalLM, features: Features) -> None:
    """The first learned entry predicts the output's second token, the last its last."""
    batch, sample = features.batch([0]), SAMPLES[0]
    learned = batch.learned_BT[0]
    assert batch.next_tokens_BT[0][learned].tolist() == list(sample.output_ids[1:])
    assert int(learned.nonzero()[0]) == len(sample.prompt_ids) - 1
    objective = StandaloneObjective(0.0, 1.0)
    assert standalone_loss(standalone_of(target), batch, objective) > 0


EAGLE_KEYS = {
    "embed_tokens.weight",
    "fc.weight",
    "fc.bias",
    "layers.0.self_attn.q_proj.weight",
    "layers.0.self_attn.k_proj.weight",
    "layers.0.self_attn.v_proj.weight",
    "layers.0.self_attn.o_proj.weight",
    "layers.0.post_attention_layernorm.weight",
    "layers.0.mlp.gate_proj.weight",
    "layers.0.mlp.up_proj.weight",
    "layers.0.mlp.down_proj.weight",
}


def ledger() -> dict[str, Any]:
    found = {"acceptance_length": 2.0, "accept_rates": [0.5, 0.5]}
    return {
        "draft": "x", "architecture": "eagle", "summary": "s", "num_trained_parameters": 1,
        "data": {"num_samples": 1, "num_tokens": 1, "responses": "target"},
        "budget": {"axis": "tokens", "amount": 1.0, "learning_rate": 0.1}, "learning_rates": [{"rate": 0.1}],
        "used": {"tokens": 1, "steps": 1, "flops": 1.0},
        "heldout_acceptance": {
            "tree": {"size": {"num_steps": 2, "topk": 4, "num_draft_tokens": 8}, "code": found},
            "chain": {"size": {"num_steps": 2, "topk": 1, "num_draft_tokens": 3}, "code": found},
        },
    }  # fmt: skip


@pytest.fixture
def tokenizer_folder(tmp_path: Path) -> Path:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_text("{}")
    return tmp_path


def test_an_eagle_checkpoint_has_the_keys_that_sglang_loads(target: LlamaForCausalLM, tokenizer_folder: Path) -> None:
    """Names and types of LlamaForCausalLMEagle (SGLang 0.5.17), and untied embeddings in its configuration."""
    out = tokenizer_folder / "eagle"
    save_draft(eagle_of(target), eagle_config(CONFIG), ledger(), tokenizer_folder, out)
    weights = load_file(out / "model.safetensors")
    assert set(weights) == EAGLE_KEYS
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    config = json.loads((out / "config.json").read_text())
    assert (config["architectures"], config["num_hidden_layers"]) == (["LlamaForCausalLMEagle"], 1)
    assert config["tie_word_embeddings"] is False
    assert "| code | 2.00 | 2.00 | 0.50 0.50 |" in (out / "README.md").read_text()


def test_a_standalone_checkpoint_is_a_llama(target: LlamaForCausalLM, tokenizer_folder: Path) -> None:
    """transformers loads it, and its logits are those of the draft that was trained."""
    out, draft = tokenizer_folder / "standalone", standalone_of(target)
    save_draft(draft, standalone_config(CONFIG), ledger(), tokenizer_folder, out)
    loaded = LlamaForCausalLM.from_pretrained(out, dtype=torch.float32)
    ids = torch.randint(0, 64, (2, 9))

    def attend(_index: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)

    ours = draft.logits(draft(ids, torch.empty(0), torch.arange(9).expand(2, -1), attend))
    torch.testing.assert_close(loaded(ids).logits, ours, rtol=0.02, atol=0.02)


def test_samples_that_share_a_row_do_not_see_each_other(target: LlamaForCausalLM, features: Features) -> None:
    """Packed into one row, every sample's passes and losses are those that it has alone."""
    draft = prism_of(target)
    alone = features.batch([0, 3, 5])
    packed = features.packed([[0, 3, 5]])
    own = list(aligned_passes(draft, alone, alone.hidden_BTD, 4, detach=False))
    shared = list(aligned_passes(draft, packed, packed.hidden_BTD, 4, detach=False))
    for (a, learned_a), (b, learned_b) in zip(own, shared, strict=True):
        assert learned_a.sum() > 0
        torch.testing.assert_close(b[learned_b], a[learned_a], rtol=1e-4, atol=1e-5)
    for loss, objective, made in (
        (standalone_loss, StandaloneObjective(1.0, 1.0), standalone_of(target)),
        (medusa_loss, MedusaObjective(0.8), new_medusa(3, head_of(target), 0)),
        (flash_text_loss, FlashTextObjective(1.0, 1.0), flash_of(target)),
        (chimera_loss, ChimeraObjective(1.0, 1.0), chimera_of(target)),
    ):
        torch.testing.assert_close(loss(made, packed, objective), loss(made, alone, objective))
