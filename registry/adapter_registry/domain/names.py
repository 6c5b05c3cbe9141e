"""The grammar of namespace, adapter, base, tag, stage and label names: what a name may never be, and why."""

from __future__ import annotations

import re
from collections.abc import Iterable

from adapter_registry.domain.errors import InvalidReference

_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,94}[A-Za-z0-9]|[A-Za-z0-9]")
_VERSION_NUMBER = re.compile(r"v[1-9][0-9]*")
_LOOKS_LIKE_NUMBER = re.compile(r"v?[0-9][0-9A-Za-z.+-]*")
_HEX_ONLY = re.compile(r"[0-9a-f]{7,}", re.IGNORECASE)
_STAGE = re.compile(r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?")
_LABEL_KEY = re.compile(r"[a-z0-9]([a-z0-9._/-]{0,61}[a-z0-9])?")

RESERVED = frozenset({"head", "main", "refs", "latest", "sha256", "draft"})
ADDRESSES = frozenset({"api", "auth", "datasets", "health", "kernels", "metrics", "ready", "spaces", "ui", "xet"})
"""What addresses of the server begin with: files of a namespace of that name could not be reached."""
STAGE_NAMES = ("dev", "staging", "prod")
"""The stages of a registry that declared no others. No tag may bear these names, whatever was declared since."""
DEFAULT_NAMESPACE = "default"


def _segment(text: str, kind: str) -> str:
    if not _SEGMENT.fullmatch(text) or "--" in text or ".." in text:
        raise InvalidReference(
            f"{text!r} is not {kind}: 1 to 96 letters, digits, '.', '_' or '-', first and last a letter or digit, "
            "no '--' and no '..'."
        )
    if text.lower().endswith((".git", ".lock")):
        raise InvalidReference(f"{text!r} is not {kind}: names ending in .git or .lock are taken by other tools.")
    return text


def check_adapter_name(text: str) -> str:
    """A valid adapter name, as given.

    Raises:
        InvalidReference: says which rule it breaks. `v3` and bare hex are refused because they mean a version
            and a digest wherever a reference is read.
    """
    _segment(text, "an adapter name")
    if _VERSION_NUMBER.fullmatch(text) or _HEX_ONLY.fullmatch(text):
        raise InvalidReference(f"{text!r} is not an adapter name: it reads as a version number or a digest.")
    return text


def check_namespace(text: str) -> str:
    """A valid namespace, as given; raises InvalidReference otherwise."""
    if text.lower() in ADDRESSES:
        raise InvalidReference(f"{text!r} is not a namespace: addresses of the server begin with it.")
    return _segment(text, "a namespace")


def check_key_name(text: str) -> str:
    """A name that a signing key may have, as given; raises InvalidReference otherwise."""
    return _segment(text, "a name of a key")


def check_base_name(text: str) -> str:
    """A valid base name: one segment, or `org/name` as on the Hub; raises InvalidReference otherwise."""
    parts = text.split("/")
    if len(parts) > 2:
        raise InvalidReference(f"{text!r} is not a base name: at most one '/', as in org/name.")
    for part in parts:
        _segment(part, "a base name")
    return text


def check_stage_name(text: str, kind: str = "a stage") -> str:
    """A name that a stage or a lane of one may have, as given.

    Raises:
        InvalidReference: says which rule it breaks. It has no dot, because a dot stands between stage and lane.
    """
    if not _STAGE.fullmatch(text) or "--" in text:
        lane = " A dot is of a lane; what has to be in one first needs a stage of its own." if "." in text else ""
        raise InvalidReference(
            f"{text!r} is not a name for {kind}: 1 to 32 of a-z, 0-9 and '-', the first a letter, the last no '-', "
            f"no '--'.{lane}"
        )
    if text in RESERVED or _LOOKS_LIKE_NUMBER.fullmatch(text) or _HEX_ONLY.fullmatch(text):
        raise InvalidReference(
            f"{text!r} cannot be the name of {kind}: version numbers, hex digests and {', '.join(sorted(RESERVED))} "
            "are reserved."
        )
    return text


def check_tag(text: str, stages: Iterable[str] = ()) -> str:
    """A valid tag name, as given.

    Args:
        text: the name.
        stages: that the registry has declared, beside STAGE_NAMES.

    Raises:
        InvalidReference: also for stages and their lanes, version numbers, semantic versions, bare hex and reserved
            words, so that a tag can never shadow what moves only by promotion or never.
    """
    _segment(text, "a tag")
    if text.partition(".")[0] in (*STAGE_NAMES, *stages):
        raise InvalidReference(f"{text!r} is a stage, not a tag: it moves by `adapters promote`, never by tagging.")
    if text.lower() in RESERVED or _LOOKS_LIKE_NUMBER.fullmatch(text) or _HEX_ONLY.fullmatch(text):
        raise InvalidReference(
            f"{text!r} cannot be a tag: version numbers, hex digests and {', '.join(sorted(RESERVED))} are reserved."
        )
    return text


def check_label(key: str, value: str) -> tuple[str, str]:
    """A valid label; raises InvalidReference otherwise. Values are up to 256 printable characters."""
    if not _LABEL_KEY.fullmatch(key):
        raise InvalidReference(
            f"{key!r} is not a label key: 1 to 63 of a-z, 0-9, '.', '_', '/', '-', first and last a letter or digit."
        )
    if len(value) > 256 or not value.isprintable():
        raise InvalidReference(f"label {key}: its value must be at most 256 printable characters.")
    return key, value
