"""From a model's name in a suite to a folder on this machine, and whether a draft fits its target."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.errors import CheckpointError

EMBEDDED = Path(__file__).parent.parent / "drafts" / "checkpoints"
"""Folders of the models that come with the project: `tiny` is tiny/target, `tiny/hass` a draft for it."""


def embedded_names() -> tuple[str, ...]:
    """Names that suites can use for the embedded models."""
    names = sorted(f"{path.parent.parent.name}/{path.parent.name}" for path in EMBEDDED.glob("*/*/config.json"))
    return tuple(name.removesuffix("/target") for name in names)


def model_folder(name: str, suite_folder: Path, revision: str | None = None) -> Path:
    """The folder of an embedded model, of a path (relative to the suite), or of a hub id (downloaded once).

    Raises:
        CheckpointError: there is no such folder, and the hub does not have it or cannot be reached.
    """
    if name in embedded_names():
        embedded = EMBEDDED / name
        return embedded if (embedded / "config.json").exists() else embedded / "target"
    path = Path(name).expanduser()
    path = path if path.is_absolute() else suite_folder / path
    if (path / "config.json").exists():
        return path.resolve()
    looks_like_path = name.startswith((".", "/", "~")) or name.count("/") != 1 or path.exists()
    if looks_like_path:
        raise CheckpointError(
            f"there is no model in {path} (no config.json); give a folder, a hub id such as owner/name, "
            f"or an embedded model: {', '.join(embedded_names())}."
        )
    return _from_hub(name, revision)


def _from_hub(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        return Path(snapshot_download(name, revision=revision))
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"model {name} is not in the local cache and could not be downloaded ({reason}); "
            "download it where there is a network and give its folder."
        ) from error


def read_config(folder: Path) -> dict[str, Any]:
    """A model folder's config.json.

    Raises:
        CheckpointError: it is missing or no JSON object, or there are no weights beside it.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text())
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing; a checkpoint folder has config.json and its weights.") from None
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path}:{error.lineno}: not JSON: {error.msg}.") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: not a JSON object.")
    if not any(file.suffix in (".safetensors", ".bin", ".pt") for file in folder.iterdir()):
        raise CheckpointError(f"{folder} has no weights (*.safetensors, *.bin or *.pt).")
    return config
