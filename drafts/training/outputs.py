"""Write a corpus of the target's own greedy outputs without an engine, in plain torch.

    python -m drafts.training.outputs --target drafts/checkpoints/tiny/target --gsm8k gsm8k_train.jsonl \\
        --split train --chats 6000 --out corpus.jsonl

The correct answer serves as a draft of the output: one forward pass tells how far the target agrees with it, and only
what comes after is decoded token by token. `--answers correct` writes the correct answers themselves: a stand-in.
Where other processes use the cores, OMP_NUM_THREADS=1 is many times quicker than two threads that wait for each other.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import islice
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import DynamicCache

from drafts.training.corpus import Chat, encode_chat, gsm8k_chats, mixed_chats
from drafts.training.features import Sample
from drafts.training.hf import LlamaForCausalLM
from drafts.training.tokenizer import END
from harness.workloads.synthetic import FAMILIES, generate

MAX_OUTPUT_TOKENS = 320
ROWS = 96


def chats_of(split: str, gsm8k: list[Chat], num_chats: int, seed: int) -> list[tuple[str, Chat]]:
    """Chats of a split, each with its group: the target's training mix, or as many held-out ones of every family.

    GSM8K's held-out chats are the first of its train split: the target's training left the first hundred out.
    """
    if split == "train":
        return [("mix", chat) for chat in islice(mixed_chats(gsm8k[100:], 0.15, seed), num_chats)]
    each = num_chats // (len(FAMILIES) + 1)
    tasks = [task for family in FAMILIES for task in islice(generate(family, "heldout", seed), each)]
    return [(task.family, (task.prompt, task.answer)) for task in tasks] + [("gsm8k", chat) for chat in gsm8k[:each]]


@torch.inference_mode()
def greedy_outputs(target: LlamaForCausalLM, samples: list[Sample], end: int) -> list[Sample]:
    """The target's greedy outputs to the samples' prompts, with the samples' outputs as a first guess."""
    done: list[Sample | None] = [None] * len(samples)
    order = sorted(range(len(samples)), key=lambda index: len(samples[index].ids))
    for start in range(0, len(order), ROWS):
        rows = order[start : start + ROWS]
        agreed = _agreed_tokens(target, [samples[index] for index in rows])
        todo = []
        for index, count in zip(rows, agreed, strict=True):
            if count == len(samples[index].output_ids):
                done[index] = samples[index]
            else:
                todo.append((index, samples[index].prompt_ids + samples[index].output_ids[:count]))
        if todo:
            tails = _decode(target, [ids for _, ids in todo], end)
            for (index, ids), tail in zip(todo, tails, strict=True):
                prompt = samples[index].prompt_ids
                done[index] = Sample(prompt, (ids[len(prompt) :] + tail)[:MAX_OUTPUT_TOKENS])
        print(f"{min(start + ROWS, len(order))} of {len(order)} outputs", flush=True)
    return [sample for sample in done if sample is not None]


def _agreed_tokens(target: LlamaForCausalLM, samples: list[Sample]) -> list[int]:
    """How many tokens of each output are what the target says itself."""
    ids = torch.zeros(len(samples), max(len(sample.ids) for sample in samples), dtype=torch.long)
    for row, sample in enumerate(samples):
        ids[row, : len(sample.ids)] = torch.tensor(sample.ids)
    said = target(input_ids=ids, use_cache=False).logits.argmax(-1)
    counts = []
    for row, sample in enumerate(samples):
        first = len(sample.prompt_ids)
        same = said[row, first - 1 : len(sample.ids) - 1] == ids[row, first : len(sample.ids)]
        counts.append(int(same.long().cumprod(0).sum()))
    return counts


def _decode(target: LlamaForCausalLM, prefixes: list[tuple[int, ...]], end: int) -> list[tuple[int, ...]]:
    """Greedy continuations, padded on the left; rows that ended leave the batch."""
    longest = max(map(len, prefixes))
    ids = torch.zeros(len(prefixes), longest, dtype=torch.long)
    mask = torch.zeros(len(prefixes), longest, dtype=torch.long)
    for row, prefix in enumerate(prefixes):
        ids[row, longest - len(prefix) :] = torch.tensor(prefix)
        mask[row, longest - len(prefix) :] = 1
    tails: list[list[int]] = [[] for _ in prefixes]
    alive = torch.arange(len(prefixes))
    cache = DynamicCache()
    inputs, positions = ids, (mask.cumsum(1) - 1).clamp(min=0)
    for _ in range(MAX_OUTPUT_TOKENS):
        hidden = target.model(
            input_ids=inputs, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        ).last_hidden_state[:, -1]
        tokens = target.lm_head(hidden).argmax(-1)
        for row, token in zip(alive.tolist(), tokens.tolist(), strict=True):
            tails[row].append(token)
        keep = tokens != end
        if not keep.any():
            break
        if not keep.all():
            cache.batch_select_indices(keep.nonzero()[:, 0])
            alive, tokens, mask, positions = alive[keep], tokens[keep], mask[keep], positions[keep]
        inputs, positions = tokens[:, None], positions[:, -1:] + 1
        mask = torch.cat((mask, mask.new_ones(len(mask), 1)), dim=1)
    return [tuple(tail) for tail in tails]


def write_corpus(target_path: Path, chats: list[tuple[str, Chat]], answers: str, out: Path) -> None:
    """Write one JSON object per chat: family, prompt_ids and output_ids."""
    tokenizer = Tokenizer.from_file(str(target_path / "tokenizer.json"))
    samples = []
    for _, chat in chats:
        ids, prompt_tokens = encode_chat(tokenizer, chat)
        samples.append(Sample(tuple(ids[:prompt_tokens]), tuple(ids[prompt_tokens:])))
    began = time.monotonic()
    if answers == "greedy":
        target = LlamaForCausalLM.from_pretrained(target_path, dtype=torch.float32).eval()
        samples = greedy_outputs(target, samples, tokenizer.token_to_id(END))
    with out.open("w") as file:
        for (family, _), sample in zip(chats, samples, strict=True):
            record = {"family": family, "prompt_ids": sample.prompt_ids, "output_ids": sample.output_ids}
            file.write(json.dumps(record) + "\n")
    print(f"{len(samples)} outputs after {time.monotonic() - began:.0f} s", flush=True)


def main() -> None:
    """Read the paths and write the corpus."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", type=Path, required=True, help="folder of the target")
    parser.add_argument("--gsm8k", type=Path, required=True, help="GSM8K's train.jsonl")
    parser.add_argument("--split", choices=("train", "heldout"), default="train")
    parser.add_argument("--answers", choices=("greedy", "correct"), default="greedy")
    parser.add_argument("--chats", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, required=True, help="the JSONL file to write")
    args = parser.parse_args()
    chats = chats_of(args.split, gsm8k_chats(args.gsm8k), args.chats, args.seed)
    write_corpus(args.target, chats, args.answers, args.out)


if __name__ == "__main__":
    main()
