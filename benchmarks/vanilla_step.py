"""SGLang's vanilla step on the embedded target against transformers' generate, in one run, in turns.

OMP_NUM_THREADS=1 python benchmarks/vanilla_step.py
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from statistics import median

import torch

from draftbench.drafts.api import discover
from draftbench.drafts.training.hf import LlamaForCausalLM
from draftbench.harness.load.generator import RoundBook, run_closed_loop
from draftbench.harness.load.requests import Prompt
from draftbench.harness.metrics.throughput import decode_step_s
from draftbench.harness.models.find import EMBEDDED
from draftbench.harness.records import CellKey, RequestRecord
from draftbench.harness.runtime.fleet import find_fleet
from draftbench.harness.suite import load_suite
from draftbench.harness.workloads.render import ChatRenderer

ROUNDS, TOKENS = 7, 96


def main() -> None:
    """Print both times per token and the median of their ratios."""
    torch.set_num_threads(1)
    target = EMBEDDED / "tiny" / "target"
    model = LlamaForCausalLM.from_pretrained(target, dtype=torch.float32).eval()
    ids = ChatRenderer(target).render([{"role": "user", "content": "Work out 345 + 567 + 891 step by step."}])
    suite = load_suite(Path("suites/quickstart.yaml"))
    prompt = Prompt("w", "p", 0, None, ids, "h", TOKENS)
    cell = CellKey(launch=0, block=0, arm="vanilla", workload="w", concurrency=1)
    with tempfile.TemporaryDirectory() as folder:
        engine = find_fleet(suite, discover(), Path("suites"), Path(folder), has_gpu=False).start("vanilla")
        try:

            def sglang_s() -> float:
                records: list[RequestRecord] = []
                sampling = {"temperature": 0.0, "ignore_eos": True}
                asyncio.run(run_closed_loop(engine, cell, [prompt], sampling, RoundBook(engine), records.append))
                step = decode_step_s(records)
                assert step is not None
                return step

            def transformers_s() -> float:
                inputs = torch.tensor([ids])
                spent = []
                for count in (1, TOKENS):
                    began = time.perf_counter()
                    with torch.inference_mode():
                        model.generate(
                            inputs,
                            attention_mask=torch.ones_like(inputs),
                            max_new_tokens=count,
                            min_new_tokens=count,
                            do_sample=False,
                        )
                    spent.append(time.perf_counter() - began)
                return (spent[1] - spent[0]) / (TOKENS - 1)

            sglang_s(), transformers_s()
            pairs = [(sglang_s(), transformers_s()) for _ in range(ROUNDS)]
        finally:
            engine.stop()
    ours, theirs = (median(side) for side in zip(*pairs, strict=True))
    ratio = median(a / b for a, b in pairs)
    print(f"SGLang {1000 * ours:.2f} ms, transformers {1000 * theirs:.2f} ms a token; ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
