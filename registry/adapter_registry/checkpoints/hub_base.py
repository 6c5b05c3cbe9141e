"""`hf://org/repo@<commit>` -> Base, without downloading weights.

Digests of the weight files come from the Hub's LFS metadata; names, shapes and dtypes from the safetensors headers,
read by range request and by our own strict reader. Tensor bytes are not read, so such a Base has no root: a copy of it
is recognised by its file digests alone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from huggingface_hub import HfApi, hf_hub_url, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

from adapter_registry.checkpoints.base_files import choose
from adapter_registry.checkpoints.checkpoint import MAX_BASE_HEADER, MAX_BASE_TENSORS, Origin, sound
from adapter_registry.checkpoints.file_rules import UNSAFE
from adapter_registry.checkpoints.header import Header, HeaderRefused, parse
from adapter_registry.domain.base import Base
from adapter_registry.domain.errors import InvalidInput, InvalidReference, NotFound, Notice, RegistryError

CONNECTIONS = 8
SECONDS = 30
LARGEST_TEXT = 256_000_000
_URL = re.compile(r"hf://(?P<repository>[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)?)@(?P<revision>[A-Za-z0-9._/-]+)")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_PREFIX = re.compile(r"[0-9a-f]{7,39}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

# The client's HTTP library differs by its version; its error is what HfHubHTTPError is first of all.
_HTTP_ERROR: type[Exception] = HfHubHTTPError.__bases__[0]


class HubUnreachable(RegistryError):
    """The Hub did not answer, or not as the Hub does."""

    code: ClassVar[str] = "hub-unreachable"
    status: ClassVar[int] = 503
    exit_code: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class _File:
    """A file of a repository: its size in bytes and, when it is stored as LFS, its sha256."""

    name: str
    size: int
    sha256: str | None


@dataclass(frozen=True, slots=True)
class _Repository:
    """A repository at one commit, and the files in its top folder by name."""

    api: HfApi
    name: str
    commit: str
    files: dict[str, _File]


def read_hub_base(url: str, *, endpoint: str | None = None) -> Base:
    """The Base at `hf://org/repo@<commit>`.

    A branch, a tag or the start of a commit is resolved to the commit; a notice says to which.

    Args:
        url: as above; the revision is required.
        endpoint: the Hub; default: HF_ENDPOINT, else the public one.

    Raises:
        InvalidReference: not of that form.
        NotFound: no such repository or revision, or HF_TOKEN may not see it.
        InvalidInput: no safetensors there, or unsound ones.
        HubUnreachable: the Hub did not answer, or not as the Hub does.
    """
    found = _match(url)
    with _explained(url):
        repository = _look(HfApi(endpoint=endpoint), found["repository"], found["revision"])
        base = _base(repository)
    if found["revision"] == repository.commit:
        return base
    said = Notice(
        "revision-resolved", "", "", f"{found['revision']} is commit {repository.commit} now; that is recorded"
    )
    return replace(base, notices=(said, *base.notices))


def download(url: str, *, endpoint: str | None = None) -> Path:
    """The folder of the Hub's cache with what is at `hf://org/repo@<commit>`, downloaded; no pickles, no programs.

    Raises:
        InvalidReference, NotFound, HubUnreachable: as `read_hub_base`.
    """
    found = _match(url)
    with _explained(url):
        commit = _look(HfApi(endpoint=endpoint), found["repository"], found["revision"]).commit
        skipped = [f"*{suffix}" for suffix in UNSAFE]
        return Path(snapshot_download(found["repository"], revision=commit, endpoint=endpoint, ignore_patterns=skipped))


def _match(url: str) -> re.Match[str]:
    found = _URL.fullmatch(url)
    if not found:
        raise InvalidReference(f"{url!r}: write hf://org/repo@<commit>; the commit pins what is registered.")
    return found


def _look(api: HfApi, name: str, revision: str) -> _Repository:
    try:
        info = api.model_info(name, revision=revision, files_metadata=True)
    except RevisionNotFoundError:
        if not _PREFIX.fullmatch(revision):
            raise
        info = api.model_info(name, revision=_whole_commit(api, name, revision), files_metadata=True)
    if not _COMMIT.fullmatch(str(info.sha)):
        raise HubUnreachable(f"hf://{name}@{revision}: the Hub names no 40-hex commit for it ({info.sha}).")
    files = (_file(each) for each in info.siblings or [] if "/" not in each.rfilename)
    return _Repository(api, name, str(info.sha), {file.name: file for file in files})


def _whole_commit(api: HfApi, name: str, prefix: str) -> str:
    """The commit of the main branch that begins so; the Hub itself takes whole commits only."""
    commits = sorted({str(each.commit_id) for each in api.list_repo_commits(name)})
    found = [commit for commit in commits if commit.startswith(prefix)]
    if len(found) != 1:
        what = (
            f"several commits begin with {prefix}: {', '.join(found)}" if found else f"no commit begins with {prefix}"
        )
        raise NotFound(f"hf://{name}@{prefix}: {what}.")
    return found[0]


def _file(sibling: Any) -> _File:
    digest = getattr(sibling.lfs, "sha256", None)
    known = isinstance(digest, str) and _SHA256.fullmatch(digest)
    size = sibling.lfs.size if known else sibling.size
    return _File(str(sibling.rfilename), int(size or 0), digest if known else None)


def _base(repository: _Repository) -> Base:
    origin = Origin(f"hf://{repository.name}@{repository.commit}", repository.name, repository.commit)
    weights = choose(repository.files, read=lambda name: _text(repository, name), source=origin.source)
    files = [repository.files[name] for name in weights.names]
    with ThreadPoolExecutor(max_workers=CONNECTIONS) as pool:
        headers = list(pool.map(lambda file: (file.name, _header(repository, file)), files))
        digests = list(pool.map(lambda file: file.sha256 or _downloaded(repository, file), files))
    checkpoint = sound(origin, weights, headers=headers, read=lambda name: _text(repository, name))
    return checkpoint.base(digests)


def _header(repository: _Repository, file: _File) -> Header:
    # Two exact requests: guessing the length would fetch weights, or need a second one anyway.
    prefix = _start(repository, file, min(72, file.size))
    needed = 8 + int.from_bytes(prefix[:8], "little")
    whole = _start(repository, file, needed) if needed <= min(MAX_BASE_HEADER + 8, file.size) else prefix
    try:
        return parse(whole, size=file.size, file=file.name, max_header=MAX_BASE_HEADER, max_tensors=MAX_BASE_TENSORS)
    except HeaderRefused as refused:
        problems = refused.problems
        raise InvalidInput(
            f"hf://{repository.name}@{repository.commit}: {refused.text}", problems=problems
        ) from refused


def _downloaded(repository: _Repository, file: _File) -> str:
    """The sha256 of a weight file small enough for the Hub to keep it without one."""
    return hashlib.sha256(_whole(repository, file)).hexdigest()


def _text(repository: _Repository, name: str) -> bytes | None:
    file = repository.files.get(name)
    return None if file is None else _whole(repository, file)


def _whole(repository: _Repository, file: _File) -> bytes:
    if file.size > LARGEST_TEXT:
        raise InvalidInput(
            f"{repository.name}: {file.name} has {file.size:,} bytes; at most {LARGEST_TEXT:,} are read."
        )
    content = _start(repository, file, file.size)
    if file.sha256 is not None and hashlib.sha256(content).hexdigest() != file.sha256:
        raise HubUnreachable(f"{repository.name}: {file.name} arrived damaged (its sha256 differs): try again.")
    return content


def _start(repository: _Repository, file: _File, size: int) -> bytes:
    """The first `size` bytes of a file; no more are read, whatever the server sends."""
    if size == 0:
        return b""
    url = hf_hub_url(repository.name, file.name, revision=repository.commit, endpoint=repository.api.endpoint)
    headers = {**build_hf_headers(), "Range": f"bytes=0-{size - 1}", "Accept-Encoding": "identity"}
    content = bytearray()
    with _answer(url, headers) as pieces:
        for piece in pieces:
            content += piece
            if len(content) >= size:
                break
    if len(content) < size:
        raise HubUnreachable(f"{url} ended after {len(content):,} of {size:,} bytes: try again.")
    return bytes(content[:size])


@contextmanager
def _answer(url: str, headers: dict[str, str]) -> Iterator[Iterator[bytes]]:
    """The body of the answer in pieces, from the client's own session (proxies, certificates, hooks)."""
    session = get_session()
    if callable(getattr(session, "stream", None)):
        with session.stream("GET", url, headers=headers, timeout=SECONDS, follow_redirects=True) as response:
            if response.status_code >= 400:
                response.read()
            hf_raise_for_status(response)
            yield response.iter_bytes()
        return
    with session.get(url, headers=headers, timeout=SECONDS, stream=True) as response:
        hf_raise_for_status(response)
        yield response.iter_content(1 << 16)


@contextmanager
def _explained(url: str) -> Iterator[None]:
    try:
        yield
    except GatedRepoError as error:
        raise NotFound(f"{url} is gated: accept its terms on the Hub and set HF_TOKEN.") from error
    except RevisionNotFoundError as error:
        raise NotFound(f"{url}: the repository exists, the revision does not.") from error
    except RepositoryNotFoundError as error:
        raise NotFound(f"{url}: no such repository, or HF_TOKEN may not see it.") from error
    except HFValidationError as error:
        raise InvalidReference(f"{url}: {str(error).splitlines()[0][:200]}") from error
    except (EntryNotFoundError, _HTTP_ERROR, OSError, ValueError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise HubUnreachable(
            f"{url}: the Hub cannot be reached or answers wrongly ({reason}); nothing was registered. "
            "Set HF_ENDPOINT to a mirror, or register a downloaded folder."
        ) from error
