"""Engine arguments that run code, open ports or load from elsewhere: never without permission or from a manifest."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

from draftbench.drafts.api import discover
from draftbench.harness.errors import SuiteError
from draftbench.harness.runtime.fleet import find_fleet
from draftbench.harness.suite import Suite, check_recorded, load_suite
from draftbench.harness.suite.engine_arguments import HARMLESS

GOOD = """\
version: 1
name: good
target: {model: tiny, dtype: float32}
arms:
  - {name: vanilla, architecture: vanilla, engine: ENGINE}
workloads:
  - {name: arithmetic, source: synthetic, family: arithmetic, num_prompts: 4}
sampling: {temperature: 0, max_tokens: 64, seed: 0}
load: [{concurrency: 1}]
blocks: 2
"""


def suite_with(folder: Path, engine: str) -> Path:
    path = folder / "suite.yaml"
    path.write_text(GOOD.replace("ENGINE", engine))
    return path


@pytest.mark.parametrize(
    ("engine", "name"),
    [
        ("{trust_remote_code: true}", "trust_remote_code"),
        ("{trust_remote: true}", "trust_remote"),  # argparse takes a beginning for the whole
        ("{trust-remote-code: true}", "trust-remote-code"),
        ("{custom_weight_loader: os.system}", "custom_weight_loader"),
        ("{load_format: remote}", "load_format"),
        ("{model_path: ./other}", "model_path"),
        ("{host: 0.0.0.0}", "host"),
        ("{grpc_port: 5000}", "grpc_port"),
        ("{lora_paths: ./lora}", "lora_paths"),
        ("{crash_dump_folder: ./here}", "crash_dump_folder"),
        ("{config: other.yaml}", "config"),
        ("{no_such_argument: 1}", "no_such_argument"),
    ],
)
def test_an_argument_that_is_not_known_to_be_harmless_needs_permission(
    tmp_path: Path, engine: str, name: str
) -> None:  # fmt: skip
    """Told with file and line, and with what to write on the command line; then it is taken."""
    path = suite_with(tmp_path, engine)
    with pytest.raises(SuiteError, match=rf"suite\.yaml:5: arms\[0\]\.engine\.{name} may run code.*--allow {name}\."):
        load_suite(path)
    assert load_suite(path, {name}).allowed == {name}


@pytest.mark.parametrize(
    "engine", ["{enable_mixed_chunk: --trust-remote-code}", '{log_level: "-x"}', "{quantization: ../x}", '{dtype: ""}']
)
def test_a_value_is_no_argument_of_its_own(tmp_path: Path, engine: str) -> None:
    """A switch takes no value, so that SGLang would read the next word as an argument."""
    with pytest.raises(SuiteError, match=r"suite\.yaml:5: arms\[0\]\.engine\.\w+ is '.*'; allowed: "):
        load_suite(suite_with(tmp_path, engine))


def test_permission_for_an_argument_is_none_for_others(tmp_path: Path) -> None:
    """Its value may be any text but what would be read as a further argument."""
    path = suite_with(tmp_path, "{lora_paths: --trust-remote-code}")
    with pytest.raises(SuiteError, match=r"lora_paths is '--trust-remote-code'; allowed: a text does not begin with"):
        load_suite(path, {"lora_paths"})
    assert load_suite(suite_with(tmp_path, "{lora_paths: ./lora}"), {"lora_paths"}).allowed == {"lora_paths"}


def test_harmless_arguments_stay_free(tmp_path: Path) -> None:
    """Numbers, switches, names of SGLang's own parts."""
    engine = "{mem_fraction_static: 0.5, enable_mixed_chunk: true, attention_backend: triton, page_size: 16}"
    assert load_suite(suite_with(tmp_path, engine)).allowed == frozenset()


def test_no_manifest_gives_permission(tmp_path: Path) -> None:
    """A suite that was recorded with a permission is not run again by its record; nothing is started or downloaded."""
    allowed = load_suite(suite_with(tmp_path, "{trust_remote_code: true}"), {"trust_remote_code"})
    find_fleet(allowed, discover(), tmp_path, tmp_path, False)
    recorded = Suite.model_validate_json(json.dumps(allowed.model_dump(mode="json")))
    with pytest.raises(SuiteError, match=r"arm vanilla: engine\.trust_remote_code .* taken from no manifest"):
        find_fleet(recorded, discover(), tmp_path, tmp_path, False)


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        ('"http://203.0.113.5:30000", api: sglang', "prompts would be sent to http://203.0.113.5:30000"),
        ('"http://localhost:1", api: sglang, api_key_env: AWS_SECRET', "AWS_SECRET would be sent to"),
        ('"http://127.0.0.1.example.org", api: sglang', "prompts would be sent to"),
    ],
)
def test_no_manifest_sends_anything_to_a_host_or_any_key(tmp_path: Path, endpoint: str, said: str) -> None:
    """A stranger's report names an address of theirs and a variable of the environment."""
    path = suite_with(tmp_path, "{}")
    path.write_text(path.read_text().replace("architecture: vanilla, engine: {}", f"endpoint: {endpoint}"))
    recorded = Suite.model_validate_json(json.dumps(load_suite(path).model_dump(mode="json")))
    with pytest.raises(SuiteError, match=f"{said}.* taken from no manifest"):
        check_recorded(recorded)


def test_a_manifests_endpoint_on_this_host_is_taken(tmp_path: Path) -> None:
    """Without a key nothing leaves the host."""
    path = suite_with(tmp_path, "{}")
    here = 'endpoint: "http://127.0.0.1:30000", api: sglang'
    path.write_text(path.read_text().replace("architecture: vanilla, engine: {}", here))
    check_recorded(load_suite(path))


def test_harmless_arguments_are_sglangs() -> None:
    """Each is a field of ServerArgs, and none of them is a path or an address by its name."""
    found = importlib.util.find_spec("sglang")
    assert found is not None
    assert found.origin is not None
    text = (Path(found.origin).parent / "srt" / "server_args.py").read_text()
    fields = set(re.findall(r"^    ([a-z]\w*): A\[", text, re.MULTILINE))
    assert fields >= HARMLESS
    assert not [
        name for name in HARMLESS if re.search(r"(^|_)(path|folder|dir|file|url|addr|host|port|hook)s?(_|$)", name)
    ]
