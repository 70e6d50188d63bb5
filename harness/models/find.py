"""From a model's name in a suite to a folder on this machine, and whether a draft fits its target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from draftbench.drafts.layout import text_fields
from draftbench.harness.errors import CheckpointError
from draftbench.harness.places import CHECKPOINTS
from draftbench.harness.workloads.regular import JSON_BYTES, read_json

EMBEDDED = CHECKPOINTS
"""Folders of the models that come with the project: `tiny` is tiny/target, `tiny/hass` a draft for it."""

UNUSED = ["original/*", "*.gguf", "*.onnx", "*.msgpack", "*.h5"]
"""Files in models' repositories that repeat the weights in formats that are not read here."""
WEIGHTS = ("*.safetensors", "*.bin", "*.pt")
HUB_TIMEOUT_S = 5.0


def embedded_names() -> tuple[str, ...]:
    """Names that suites can use for the embedded models."""
    names = sorted(f"{path.parent.parent.name}/{path.parent.name}" for path in EMBEDDED.glob("*/*/config.json"))
    return tuple(name.removesuffix("/target") for name in names)


def model_folder(name: str, suite_folder: Path, revision: str | None = None, needs_weights: bool = True) -> Path:
    """The folder of an embedded model, of a path (relative to the suite), or of a hub id (downloaded once).

    Args:
        name: a hub id may carry a folder of the repository and its revision: owner/name:folder@revision.

    Raises:
        CheckpointError: there is no such folder, and the hub does not have it or cannot be reached.
    """
    path = _folder(name, suite_folder)
    if (path / "config.json").exists():
        return path.resolve()
    found = _hub_name(name, revision)
    looks_like_path = name.startswith((".", "/", "~")) or found.repository.count("/") != 1 or path.exists()
    if looks_like_path:
        raise CheckpointError(
            f"there is no model in {path} (no config.json); give a folder, a hub id such as owner/name (or "
            f"owner/name:folder), or an embedded model: {', '.join(embedded_names())}."
        )
    try:
        return _from_hub(found, UNUSED if needs_weights else [*UNUSED, *WEIGHTS])
    except CheckpointError as error:
        raise CheckpointError(
            f"{error} Nor is there a folder {path}: relative names begin in the suite's folder, in a rerun in --folder."
        ) from error


def local_folder(name: str, suite_folder: Path) -> Path | None:
    """As `model_folder`, without the network; None if the model is not here."""
    path = _folder(name, suite_folder)
    if (path / "config.json").exists():
        return path.resolve()

    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    hub = _hub_name(name, None)
    try:
        snapshot = snapshot_download(
            hub.repository,
            revision=hub.revision,
            allow_patterns=hub.patterns,
            ignore_patterns=UNUSED,
            local_files_only=True,
        )
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    found = Path(snapshot) / hub.folder
    return found if not hub.folder or (found / "config.json").exists() else None


def hub_bytes(name: str) -> int | None:
    """How much a hub id's download is; None where the hub cannot be asked or does not say."""
    from fnmatch import fnmatch

    from huggingface_hub import HfApi

    hub = _hub_name(name, None)
    try:
        asked = HfApi().model_info(hub.repository, revision=hub.revision, files_metadata=True, timeout=HUB_TIMEOUT_S)
    except Exception:  # no network, no such model, no access: the library and its transport raise many kinds
        return None
    inside = f"{hub.folder}/" if hub.folder else ""
    files = [file for file in asked.siblings or () if file.rfilename.startswith(inside)]
    wanted = [file for file in files if not any(fnmatch(file.rfilename, pattern) for pattern in UNUSED)]
    return sum(file.size or 0 for file in wanted) or None


def _folder(name: str, suite_folder: Path) -> Path:
    if name in embedded_names():
        embedded = EMBEDDED / name
        return embedded if (embedded / "config.json").exists() else embedded / "target"
    path = Path(name).expanduser()
    return path if path.is_absolute() else suite_folder / path


@dataclass(frozen=True)
class _HubName:
    """A hub id, the folder of it that is the model ("" for all of it), and its revision."""

    repository: str
    folder: str
    revision: str | None

    @property
    def patterns(self) -> list[str] | None:
        """What is downloaded; None for everything."""
        return [f"{self.folder}/*"] if self.folder else None


def _hub_name(name: str, revision: str | None) -> _HubName:
    """owner/name, owner/name:folder, either with @revision."""
    place, _, given = name.partition("@")
    repository, _, folder = place.partition(":")
    return _HubName(repository, folder.strip("/"), given or revision)


def _from_hub(hub: _HubName, unwanted: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        snapshot = snapshot_download(
            hub.repository, revision=hub.revision, allow_patterns=hub.patterns, ignore_patterns=unwanted
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"model {hub.repository} is not in the local cache and could not be downloaded ({reason}); "
            "download it where there is a network and give its folder."
        ) from error
    found = Path(snapshot) / hub.folder
    if hub.folder and not (found / "config.json").exists():
        raise CheckpointError(
            f"{hub.repository} has no {hub.folder}/config.json; look up the folder's name on the hub."
        )
    return found


def read_config(folder: Path, needs_weights: bool = True) -> dict[str, Any]:
    """A model folder's config.json.

    Args:
        needs_weights: there have to be weights beside it; weights made at random need none.

    Raises:
        CheckpointError: it is missing or no JSON object, or there are no weights beside it.
    """
    path = folder / "config.json"
    if not path.exists():
        raise CheckpointError(f"{path} is missing; a checkpoint folder has config.json and its weights.")
    config = read_json(path, JSON_BYTES, CheckpointError)
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: not a JSON object.")
    if needs_weights and not any(file.suffix in (".safetensors", ".bin", ".pt") for file in folder.iterdir()):
        raise CheckpointError(f"{folder} has no weights (*.safetensors, *.bin or *.pt).")
    return config


def read_target(folder: Path, needs_weights: bool = True) -> dict[str, Any]:
    """A target's config.json, its language model's fields where they are not nested.

    Raises:
        CheckpointError: as `read_config` says.
    """
    return text_fields(read_config(folder, needs_weights))


def num_parameters(config: Mapping[str, Any]) -> int:
    """Weights of a LLaMA-shaped model, by its configuration."""
    hidden, layers = config["hidden_size"], config["num_hidden_layers"]
    heads = config["num_attention_heads"]
    size = config.get("head_dim") or hidden // heads
    kv = config.get("num_key_value_heads") or heads
    layer = 2 * hidden * size * (heads + kv) + 3 * hidden * config["intermediate_size"] + 2 * hidden
    embeddings = (1 if config.get("tie_word_embeddings") else 2) * config["vocab_size"] * hidden
    return int(layers * layer + embeddings + hidden)
