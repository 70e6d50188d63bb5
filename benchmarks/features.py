"""What computing features costs beyond the target's bare passes, what they take on disk, and memory while it goes on.

    python benchmarks/features.py corpus.jsonl [REPEATS]       (token ids, as `bench.py outputs` writes them)

Bare passes and extraction take turns on the same samples; the median of the pairs' ratios is told.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import torch

from draftbench.drafts.layout import default_layers
from draftbench.drafts.training.extract import TOKENS_AT_ONCE, by_length
from draftbench.drafts.training.hf import LlamaForCausalLM, Target
from draftbench.drafts.training.shards import Origin, features_bytes, write_index, write_shards
from draftbench.drafts.training.tokens import TokenFiles, write_tokens
from draftbench.harness.models.find import EMBEDDED


@torch.no_grad()
def bare(target: Target, tokens: TokenFiles) -> float:
    """Seconds of the target's passes over all samples in the same batches, nothing kept."""
    ids = [tokens.read(index)[0].astype(np.int64) for index in range(len(tokens.table_N3))]
    lengths = tokens.table_N3[:, 1]
    began = time.process_time()
    for chosen in by_length(lengths, TOKENS_AT_ONCE["cpu"], np.arange(len(ids))):
        ids_BT = torch.zeros(len(chosen), int(lengths[chosen].max()), dtype=torch.long)
        for row, index in enumerate(chosen):
            ids_BT[row, : lengths[index]] = torch.from_numpy(ids[index])
        target.model(input_ids=ids_BT, use_cache=False)
    return time.process_time() - began


def extracted(target: Target, tokens: TokenFiles, origin: Origin, folder: Path) -> float:
    """Seconds of computing and writing the features of all samples."""
    began = time.process_time()
    write_shards(target, tokens, folder, origin, slice(None), lambda count: None)
    write_index(folder, tokens, origin)
    return time.process_time() - began


def main(corpus: Path, repeats: int) -> None:
    """Print ratios for a draft that reads the last hidden state and for one that reads three layers more."""
    torch.set_num_threads(1)
    target = LlamaForCausalLM.from_pretrained(EMBEDDED / "tiny" / "target", dtype=torch.float32).eval()
    with tempfile.TemporaryDirectory() as name:
        write_tokens(corpus, Path(name), target.config.vocab_size, 4096)
        tokens = TokenFiles(Path(name))
        print(f"{tokens.num_tokens:,} tokens")
        bare(target, tokens)
        for layers in ((), default_layers(target.config.num_hidden_layers)):
            origin = Origin("target", "corpus", "float32", "float16", target.config.hidden_size, layers)
            ratios = []
            for repeat in range(repeats):
                folder = Path(name) / f"{len(layers)}-{repeat}"
                alone, with_features = bare(target, tokens), extracted(target, tokens, origin, folder)
                ratios.append(with_features / alone)
                size = sum(path.stat().st_size for path in folder.glob("?????-*.bin"))
            bound = features_bytes(tokens.num_tokens, origin)
            memory = psutil.Process().memory_info().rss / 1e6
            print(
                f"{1 + len(layers)} layers: {statistics.median(ratios):.3f} × bare passes "
                f"({min(ratios):.3f} to {max(ratios):.3f}); {size:,} bytes, {size / bound:.3f} × tokens × layers × "
                f"width × 2; {memory:.0f} MB resident"
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 3)
