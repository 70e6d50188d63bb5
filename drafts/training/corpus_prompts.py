"""Write the prompts of the embedded drafts' corpus; `bench.py train drafts/training/tiny_zoo.yaml` has them answered.

python -m draftbench.drafts.training.corpus_prompts --gsm8k gsm8k_train.jsonl --out drafts/training/prompts.jsonl
"""

from __future__ import annotations

import argparse
import json
import random
from itertools import islice
from pathlib import Path

from draftbench.drafts.training.corpus import Chat, gsm8k_chats, synthetic_chats

NUM_SYNTHETIC, NUM_GSM8K = 3000, 500
SYNTHETIC_SEED, GSM8K_SEED, ORDER_SEED = 100, 1, 2


def corpus_chats(gsm8k: list[Chat]) -> list[Chat]:
    """Train-split chats of all families in turn and some of GSM8K's, shuffled."""
    chats = list(islice(synthetic_chats(SYNTHETIC_SEED), NUM_SYNTHETIC))
    chats += random.Random(GSM8K_SEED).sample(gsm8k, NUM_GSM8K)
    random.Random(ORDER_SEED).shuffle(chats)
    return chats


def main() -> None:
    """Write one {"id", "turns"} object a line, as `chat_jsonl` reads it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gsm8k", type=Path, required=True, help="GSM8K's train.jsonl")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    with args.out.open("w") as file:
        for number, (prompt, _) in enumerate(corpus_chats(gsm8k_chats(args.gsm8k))):
            file.write(json.dumps({"id": number, "turns": [prompt]}) + "\n")


if __name__ == "__main__":
    main()
