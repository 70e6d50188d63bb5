"""What the load generator itself costs: processor time per request and per streamed chunk, at several concurrencies;
and many requests at once, each of them on disk and accounted for.

python benchmarks/client_overhead.py
"""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path

from draftbench.harness.load.null_server import TOKENS_PER_CHUNK, client_cost, load_null, null_engine
from draftbench.harness.records import RequestRecord
from draftbench.harness.store import RunStore

CONCURRENCIES = (1, 8, 64)
REQUESTS, CHUNKS, AT_ONCE = 10_000, 40, 64


def main() -> None:
    """Run the real generator against a server that only sends, and print the cost."""
    for concurrency in CONCURRENCIES:
        cost = client_cost(concurrency, num_requests=max(64, 2 * concurrency))
        print(
            f"concurrency {concurrency}: {1e6 * cost.per_chunk_s:.0f} µs of processor time a chunk, "
            f"{1e3 * cost.per_request_s:.2f} ms a request"
        )
    many_requests()
    print(f"resident at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


def many_requests() -> None:
    """Every record goes to disk as in a run and is read back; the server runs in a process of its own."""
    with tempfile.TemporaryDirectory() as folder, null_engine() as engine:
        store = RunStore(Path(folder))
        began_s = time.perf_counter()
        cpu_s = load_null(engine, AT_ONCE, REQUESTS, CHUNKS, store.append)
        wall_s = time.perf_counter() - began_s
        records = store.read(RequestRecord)
    failed = sum(record.error is not None for record in records)
    prompts = {record.prompt_id for record in records}
    whole = sum(len(record.output_ids) == CHUNKS * TOKENS_PER_CHUNK for record in records)
    print(
        f"{REQUESTS} requests of {CHUNKS} chunks, {AT_ONCE} at once: {wall_s:.1f} s, {REQUESTS / wall_s:.0f} requests "
        f"and {REQUESTS * CHUNKS / wall_s:.0f} chunks a second; client {cpu_s:.1f} s of processor time, "
        f"{cpu_s / wall_s:.2f} cores; {len(records)} records of {len(prompts)} prompts, {whole} whole, {failed} failed"
    )


if __name__ == "__main__":
    main()
