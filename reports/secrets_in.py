"""Secrets in a text: what detect-secrets knows, and what it does not look for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Any

_CALLED = (
    r"(?:api|access|secret|private|auth|account|signing|encryption)[_-]?key|pass(?:word|wd|phrase)|pwd|secret|token"
    r"|credentials?|connection[_-]?string"
)
"""What settings are called that hold a secret."""
_BLOCK = r"[A-Z ]*PRIVATE KEY(?: BLOCK)?-----"
_OWN = {
    "private key": rf"-----BEGIN {_BLOCK}.*?(?:-----END {_BLOCK}|\Z)",
    "key by its prefix": r"\b(?:(?:hf_|gh[pousr]_|AKIA|ASIA|npm_|dop_v1_)[A-Za-z0-9]{12,}|AIza[\w-]{30,})",
    "token by its prefix": r"\b(?:sk-|github_pat_|glpat-|eyJ|[rsp]k_(?:live|test)_|xox[a-z]+-|xapp-|ya29\.|SG\.|pypi-)"
    r"[\w.-]{10,}",
    "authorization": r"(?<=Bearer )[^\s\"',;]+|(?<=Basic )[A-Za-z0-9+/=]{8,}",
    "setting of a secret": rf"(?i:(?P<name>{_CALLED})[\"'\\]*\s*[=:]\s*[\"'\\]*)"
    r"(?P<value>[^\s\"',;&(){}\[\]<>\\]{3,})",
    "argument of a secret": rf"--[\w-]*(?i:(?P<name>{_CALLED}))\s+[\"']?(?P<value>[^\s\"'-][^\s\"']{{2,}})",
    "key of 40 hex digits": r"(?<![\w/@.-])[0-9a-fA-F]{40}(?![\w-])",
}
_PATTERNS = {kind: re.compile(pattern, re.DOTALL) for kind, pattern in _OWN.items()}
_NO_SECRET = re.compile(r"(?i)none|null|true|false|secret|str|\*+|\$\w+|[A-Z_]+_ENV")
_PLUGINS = (
    "ArtifactoryDetector", "AWSKeyDetector", "AzureStorageKeyDetector", "BasicAuthDetector", "CloudantDetector",
    "DiscordBotTokenDetector", "GitHubTokenDetector", "GitLabTokenDetector", "IbmCloudIamDetector",
    "IbmCosHmacDetector", "JwtTokenDetector", "MailchimpDetector", "NpmDetector", "OpenAIDetector",
    "PypiTokenDetector", "SendGridDetector", "SlackDetector", "SoftlayerDetector", "SquareOAuthDetector",
    "StripeDetector", "TelegramBotTokenDetector", "TwilioKeyDetector",
)  # fmt: skip
"""detect-secrets' detectors of known forms; those of high entropy would find every hash."""


@lru_cache(maxsize=10_000)
def secrets_in(text: str) -> tuple[tuple[str, str], ...]:
    """Every secret that is found in a text, with what it is, the longest first."""
    found = dict([*_known(text), *_own(text)]) if len(text) > 7 else {}
    return tuple(sorted(found.items(), key=lambda pair: -len(pair[0])))


def _own(text: str) -> Iterator[tuple[str, str]]:
    for kind, pattern in _PATTERNS.items():
        for match in pattern.finditer(text):
            named = match.groupdict()
            value = named.get("value") or match[0]
            # A token may be one of a vocabulary: eos_token=151645.
            counted = value.isdigit() and named.get("name", "").lower() == "token"
            if not (_NO_SECRET.fullmatch(value) or counted):
                yield value, kind


def _known(text: str) -> Iterator[tuple[str, str]]:
    for plugin in _plugins():
        for value in plugin.analyze_string(text):
            if value:
                yield value, plugin.secret_type


def has_detector() -> bool:
    """Whether detect-secrets is installed, as the lock has it."""
    return bool(_plugins())


@cache
def _plugins() -> tuple[Any, ...]:
    try:
        from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
    except ImportError:
        return ()
    mapping: dict[str, Any] = get_mapping_from_secret_type_to_class()
    kinds = {kind.__name__: kind for kind in mapping.values()}
    return tuple(kinds[name]() for name in _PLUGINS if name in kinds)
