"""Train the embedded target, or a larger one of its kind: a Llama on synthetic chats and GSM8K's train split.

    python -m draftbench.drafts.training.target --gsm8k gsm8k_train.jsonl --out drafts/checkpoints/tiny/target
    python -m draftbench.drafts.training.target --gsm8k gsm8k_train.jsonl --out target --size 200m --seconds 180  (GPU)

The embedded one is deep and thin, because then a one-layer draft is cheap relative to the target, as it is with large
models. A run that was stopped goes on from its last saved step.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from draftbench.drafts.training.corpus import (
    IGNORED,
    chat_mask,
    gsm8k_chats,
    mixed_chats,
    packed_rows,
    sha256_of,
)
from draftbench.drafts.training.hf import LlamaConfig, LlamaForCausalLM
from draftbench.drafts.training.tokenizer import END, PAD, VOCAB_TOKENS, save_tokenizer, train_tokenizer


@dataclass(frozen=True)
class TargetRecipe:
    """Everything that decides the outcome of a run, but for the texts."""

    seed: int = 0
    num_layers: int = 24
    hidden_size: int = 128
    intermediate_size: int = 384
    num_heads: int = 4
    context_tokens: int = 4096
    row_tokens: int = 384
    rows_per_step: int = 20
    num_steps: int = 1400
    warmup_steps: int = 60
    decay_steps: int = 400
    learning_rate: float = 4e-3
    weight_decay: float = 0.02
    gsm8k_share: float = 0.15
    tokenizer_chats: int = 20_000
    seconds: float | None = None
    """Training ends after so long, whatever the steps; the learning rate then follows the clock."""
    compiled: bool = True
    """Compiling costs minutes; it is worth them on a CPU and in a long run."""


LARGE = TargetRecipe(
    hidden_size=768, intermediate_size=2304, num_heads=12, rows_per_step=64, num_steps=100_000, warmup_steps=40,
    decay_steps=40_000, learning_rate=2e-3, compiled=False,
)  # fmt: skip
SIZES = {
    "tiny": TargetRecipe(),
    "200m": LARGE,
    "400m": replace(LARGE, hidden_size=1024, intermediate_size=4096, num_heads=16, learning_rate=1.5e-3),
    "smoke": TargetRecipe(
        hidden_size=32, intermediate_size=64, num_heads=2, row_tokens=256, rows_per_step=2, num_steps=2, warmup_steps=1,
        decay_steps=1, tokenizer_chats=500, compiled=False,
    ),
}  # fmt: skip
"""What --size can name; "smoke" only shows that everything runs."""


def new_model(recipe: TargetRecipe) -> LlamaForCausalLM:
    """A Llama with residual branches scaled down by depth, as GPT-2 starts."""
    torch.manual_seed(recipe.seed)
    config = LlamaConfig(
        vocab_size=VOCAB_TOKENS,
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.intermediate_size,
        num_hidden_layers=recipe.num_layers,
        num_attention_heads=recipe.num_heads,
        num_key_value_heads=recipe.num_heads,
        max_position_embeddings=recipe.context_tokens,
        tie_word_embeddings=True,
        attention_bias=False,
        bos_token_id=None,
        attn_implementation="sdpa",  # type: ignore[call-arg]  # taken by the base class
    )
    model = LlamaForCausalLM(config)
    for name, parameter in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            parameter.data.mul_((2 * recipe.num_layers) ** -0.5)
    return model


def answer_loss(model: LlamaForCausalLM, rows: Sequence[tuple[np.ndarray, ...]]) -> torch.Tensor:
    """Mean cross-entropy over the answers' tokens of packed rows."""
    device = model.lm_head.weight.device
    ids_BT, labels_BT, owners_BT = (torch.from_numpy(np.stack(part)).to(device) for part in zip(*rows, strict=True))
    mask, positions_BT = chat_mask(owners_BT)
    with torch.autocast(device.type, torch.bfloat16):
        hidden_BTD = model.model(
            input_ids=ids_BT, attention_mask=mask, position_ids=positions_BT, use_cache=False
        ).last_hidden_state
        learned = labels_BT[:, 1:] != IGNORED
        logits_NV = model.lm_head(hidden_BTD[:, :-1][learned])
    return torch.nn.functional.cross_entropy(logits_NV.float(), labels_BT[:, 1:][learned])


def learning_rate_at(step: int, recipe: TargetRecipe, elapsed_s: float = 0.0) -> float:
    """Linear warm-up, a plateau, and a linear decay to zero over the last `decay_steps`, or their share of the time."""
    warm = min(1.0, (step + 1) / recipe.warmup_steps)
    remaining = (recipe.num_steps - step) / recipe.num_steps
    if recipe.seconds is not None:
        remaining = min(remaining, max(0.0, 1 - elapsed_s / recipe.seconds))
    return recipe.learning_rate * warm * min(1.0, remaining * recipe.num_steps / recipe.decay_steps)


def train(recipe: TargetRecipe, gsm8k_path: Path, out: Path, device: str = "cpu") -> None:
    """Train, validate every 100 steps, save every 100 steps, and write the checkpoint with its ledger."""
    out.mkdir(parents=True, exist_ok=True)
    gsm8k = gsm8k_chats(gsm8k_path)
    held_back, gsm8k = gsm8k[:100], gsm8k[100:]
    sample = islice(mixed_chats(gsm8k, recipe.gsm8k_share, recipe.seed), recipe.tokenizer_chats)
    tokenizer = train_tokenizer(f"{prompt}\n{answer}" for prompt, answer in sample)
    save_tokenizer(tokenizer, out)
    validation = {
        "gsm8k": list(packed_rows(tokenizer, iter(held_back), recipe.row_tokens)),
        "synthetic": list(islice(packed_rows(tokenizer, mixed_chats([], 0.0, recipe.seed + 1), recipe.row_tokens), 40)),
    }
    model = new_model(recipe)
    model.to(torch.device(device))  # type: ignore[arg-type]  # wrapped without its types
    hidden = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    optimizers = (
        torch.optim.Muon(
            hidden, recipe.learning_rate, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(others, recipe.learning_rate, betas=(0.9, 0.95), weight_decay=0.0),
    )
    state_path = out / "state.pt"
    curve: list[dict[str, float]] = []
    start = 0
    wall_s = 0.0
    if state_path.exists():
        state = torch.load(state_path, weights_only=True, map_location=device)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        start, curve, wall_s = state["step"], state["curve"], state["wall_s"]
    if recipe.compiled:
        model.model.forward = torch.compile(model.model.forward, dynamic=False)
    rows = packed_rows(tokenizer, mixed_chats(gsm8k, recipe.gsm8k_share, recipe.seed), recipe.row_tokens)
    rows = islice(rows, start * recipe.rows_per_step, None)
    began = time.monotonic()
    steps_done = start
    for step in range(start, recipe.num_steps):
        elapsed_s = wall_s + time.monotonic() - began
        if recipe.seconds is not None and elapsed_s >= recipe.seconds:
            break
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate_at(step, recipe, elapsed_s)
        loss = answer_loss(model, list(islice(rows, recipe.rows_per_step)))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        steps_done = step + 1
        if step % 10 == 0:
            print(f"step {step} loss {loss.item():.4f} after {time.monotonic() - began:.0f} s", flush=True)
        if (step + 1) % 100 == 0 or step + 1 == recipe.num_steps:
            point = {"step": float(step + 1), "train": loss.item()}
            with torch.no_grad():
                for name, held in validation.items():
                    batches = [held[i : i + recipe.rows_per_step] for i in range(0, len(held), recipe.rows_per_step)]
                    point[name] = sum(answer_loss(model, batch).item() for batch in batches) / len(batches)
            curve.append(point)
            print(point, flush=True)
            state = {
                "model": model.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                "step": step + 1,
                "curve": curve,
                "wall_s": wall_s + time.monotonic() - began,
            }
            torch.save(state, state_path)
    save_checkpoint(model, tokenizer, out)
    ledger = {
        "script": "python -m draftbench.drafts.training.target",
        "recipe": asdict(recipe),
        "data": {"gsm8k_train_sha256": sha256_of(gsm8k_path), "synthetic": "train split of all families"},
        "num_parameters": sum(p.numel() for p in model.parameters()),
        "num_tokens": steps_done * recipe.rows_per_step * recipe.row_tokens,
        "device": device,
        "torch": torch.__version__,
        "wall_s": round(wall_s + time.monotonic() - began),
        "validation_loss": curve,
    }
    (out / "training.json").write_text(json.dumps(ledger, indent=1) + "\n")
    state_path.unlink(missing_ok=True)


def save_checkpoint(model: LlamaForCausalLM, tokenizer: Tokenizer, out: Path) -> None:
    """Write the weights as fp16 safetensors and the configuration that SGLang and transformers read."""
    model.config.update({"eos_token_id": tokenizer.token_to_id(END), "pad_token_id": tokenizer.token_to_id(PAD)})
    model.generation_config.eos_token_id = tokenizer.token_to_id(END)
    model.generation_config.pad_token_id = tokenizer.token_to_id(PAD)
    model.half().save_pretrained(out)


def main() -> None:
    """Read the two paths and train with the recipe above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gsm8k", type=Path, required=True, help="GSM8K's train.jsonl")
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--size", choices=list(SIZES), default="tiny")
    parser.add_argument("--seconds", type=float, help="end after so long")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    train(replace(SIZES[args.size], seconds=args.seconds), args.gsm8k, args.out, args.device)


if __name__ == "__main__":
    main()
