"""The standalone draft in plain torch: a small LLaMA language model with the target's tokenizer.

SGLang's STANDALONE worker feeds its draft the tokens from the second one on (entry i holds token i+1), so the draft is
trained without the first token too.
Source: Leviathan et al. 2023 (arXiv 2211.17192); SGLang 0.5.17, srt/speculative/standalone_worker_v2.py.

Shapes: B batch, T entries, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from draftbench.drafts.layout import draft_fields
from draftbench.drafts.training.draft import Proposal
from draftbench.drafts.training.layer import Attend, Layer, LayerShape, Norm, reset

ARCHITECTURE = "LlamaForCausalLM"
NUM_LAYERS = 2


class Trunk(nn.Module):
    """Embedding, layers and final norm, under the names that a LLaMA checkpoint has."""

    def __init__(self, shape: LayerShape, num_layers: int) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList([Layer(shape, input_norm=True) for _ in range(num_layers)])
        self.norm = Norm(shape.hidden_size, shape.rms_norm_eps)


class StandaloneDraft(nn.Module):
    """A small LLaMA with tied embeddings."""

    proposal: Proposal = "beams"
    reads_layers = False
    reads_tokens = 1
    most_steps: int | None = None

    def __init__(self, shape: LayerShape, num_layers: int) -> None:
        super().__init__()
        self.model = Trunk(shape, num_layers)

    def adopt(self, embedding_VD: Tensor, head_VD: Tensor, /) -> None:
        """A language model has its own."""

    def forward(
        self, tokens_BT: Tensor, _hidden_BTD: Tensor, positions_BT: Tensor, attend: Attend, step: int = 1
    ) -> Tensor:
        """The hidden state [B, T, D] after the final norm; the target's hidden states are not looked at."""
        x_BTD = self.model.embed_tokens(tokens_BT)
        for index, layer in enumerate(self.model.layers):
            x_BTD = layer(index, x_BTD, positions_BT, attend)
        out: Tensor = self.model.norm(x_BTD)
        return out

    def logits(self, hidden: Tensor, step: int = 1, /) -> Tensor:
        """The tied head on hidden states [..., D]."""
        return nn.functional.linear(hidden, self.model.embed_tokens.weight)


def made(config: Mapping[str, Any]) -> StandaloneDraft:
    """The model that a checkpoint's configuration describes."""
    return StandaloneDraft(LayerShape.of(config), config["num_hidden_layers"])


def new_standalone(
    config: Mapping[str, Any], embedding_VD: Tensor, seed: int, num_layers: int = NUM_LAYERS
) -> StandaloneDraft:
    """An untrained draft as wide as the target; its embedding starts as a copy of the target's."""
    draft = StandaloneDraft(LayerShape.of(config), num_layers)
    reset(draft, seed)
    draft.model.embed_tokens.weight.data.copy_(embedding_VD)
    return draft


def standalone_config(config: Mapping[str, Any], num_layers: int = NUM_LAYERS) -> dict[str, Any]:
    """The draft's config.json."""
    return {
        **draft_fields(config),
        "architectures": [ARCHITECTURE],
        "num_hidden_layers": num_layers,
        "tie_word_embeddings": True,
    }
