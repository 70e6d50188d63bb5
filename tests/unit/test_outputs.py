"""`bench.py outputs`: what is said before an engine starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from draftbench import bench


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path, capsys: Any) -> None:
    """A folder is no file, and a file holds none; neither starts an engine."""
    (tmp_path / "file").touch()
    for out in (tmp_path, tmp_path / "file" / "outputs.jsonl"):
        assert bench.main(["outputs", "suites/quickstart.yaml", "--out", str(out)]) == 2
        assert "cannot be written" in capsys.readouterr().err


def test_endpoints_alone_make_no_outputs(tmp_path: Path, capsys: Any) -> None:
    """Outputs are the target's own, from an engine of ours; the file's folder is made."""
    text = Path("suites/selftest.yaml").read_text()
    arms = text[text.index("arms:") : text.index("workloads:")]
    suite = tmp_path / "served.yaml"
    suite.write_text(text.replace(arms, "arms:\n  - {name: p, endpoint: 'http://127.0.0.1:9', api: sglang}\n"))
    out = tmp_path / "new" / "outputs.jsonl"
    assert bench.main(["outputs", str(suite), "--out", str(out)]) == 2
    assert "Add a vanilla arm" in capsys.readouterr().err
    assert out.parent.exists()
