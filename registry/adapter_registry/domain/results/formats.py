"""Results files of evaluation harnesses: which format a file is in, and the scores in it."""

from __future__ import annotations

import io
import json
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from adapter_registry.domain.digest import of_bytes
from adapter_registry.domain.errors import InvalidInput, Problem
from adapter_registry.domain.evidence.score import Score
from adapter_registry.domain.figures import count
from adapter_registry.domain.results import inspect as results_inspect
from adapter_registry.domain.results import lighteval as results_lighteval
from adapter_registry.domain.results import lm_eval as results_lm_eval
from adapter_registry.domain.results.file import ResultsFile
from adapter_registry.domain.untrusted import words

LARGEST_FILE = 64 * 1024 * 1024
"""Bytes of a results file, and of the header inside a compressed log."""

LARGEST_DIRECTORY = 8 * 1024 * 1024
"""Bytes of a compressed log's table of contents; ten thousand samples take one."""

MOST_SCORES = 20_000
LONGEST_METRIC = 256

FORMATS: dict[str, tuple[Callable[[Mapping[str, Any]], bool], Callable[[Mapping[str, Any]], ResultsFile]]] = {
    "lighteval": (results_lighteval.recognises, results_lighteval.read),
    "Inspect": (results_inspect.recognises, results_inspect.read),
    "lm-evaluation-harness": (results_lm_eval.recognises, results_lm_eval.read),
}
"""Format -> (whether a document is of it, how to read it)."""

_KNOWN = "results_*.json of lm-evaluation-harness, results_*.json of lighteval, or a .json or .eval log of Inspect"


def read_results(data: bytes, *, name: str) -> ResultsFile:
    """Every score in a results file, ready to be bound to what it was measured on.

    Nothing in the file is believed about what was measured: that is `claims`, to be shown and not trusted.

    Args:
        data: the whole file.
        name: its name, for the scores' source and for the problems.

    Raises:
        InvalidInput: it is none of the known formats, is not finished or was invalidated, holds no score, or is too
            large; `problems` says which.
    """
    if len(data) > LARGEST_FILE:
        size = f"{len(data):,} bytes"
        raise _refused(name, "size", f"at most {LARGEST_FILE:,} bytes", size, "Export the results without samples.")
    try:
        document = _log(data, name) if data.startswith(b"PK\x03\x04") else _document(data, name)
        found = _reader(document, name)(document)
        return _checked(found, data, name)
    except RecursionError as error:
        raise _refused(name, "", "a results file", "JSON nested too deeply", _EXPORT) from error


_EXPORT = "Export the results again and import that file."


def _reader(document: Mapping[str, Any], name: str) -> Callable[[Mapping[str, Any]], ResultsFile]:
    matching = [(title, read) for title, (recognises, read) in FORMATS.items() if recognises(document)]
    if len(matching) > 1:
        titles = " and ".join(title for title, _ in matching)
        raise _refused(name, "", "one format", f"the keys of {titles} together", _EXPORT)
    if not matching:
        keys = ", ".join(sorted(str(key)[:40] for key in document)[:8]) or "none"
        raise _refused(name, "", _KNOWN, f"a JSON object with the keys {keys}", _by_hand(document))
    return matching[0][1]


def _by_hand(document: Mapping[str, Any]) -> str:
    if {"doc_id", "doc_hash"} & document.keys():
        return "This is a samples file of lm-evaluation-harness; import the results_*.json beside it."
    return "Record single values with `adapters score add`."


def _checked(found: ResultsFile, data: bytes, name: str) -> ResultsFile:
    problems = [*found.problems, *_unusable(found.scores)]
    if not found.scores and not problems:
        problems = [("results", "at least one metric with a number", "none")]
    if problems:
        listed = [Problem("results-invalid", name, words(at), want, words(got), _EXPORT) for at, want, got in problems]
        text = "".join(f"\n  {problem}" for problem in listed)
        raise InvalidInput(f"{name}: nothing was recorded:{text}", problems=listed)
    notices = list(found.notices)
    scores = [_finite(score, notices) for score in found.scores]
    digest = of_bytes(data)
    bound = tuple(replace(s, source=name, evidence=digest, producer=found.producer) for s in scores)
    return replace(found, scores=bound, notices=tuple(notices))


def _unusable(scores: Sequence[Score]) -> list[tuple[str, str, str]]:
    """(where, expected, found) of scores that could not be stored or told apart."""
    too_many = len(scores) > MOST_SCORES
    problems = [("results", f"at most {MOST_SCORES:,} scores", f"{len(scores):,}")] if too_many else []
    long = [score.metric for score in scores if len(score.metric) > LONGEST_METRIC]
    problems += [
        (m[:60] + "…", f"a name of at most {LONGEST_METRIC} characters", count(len(m), "character")) for m in long
    ]
    seen: set[str] = set()
    for score in scores:
        key = str(score.comparability)
        if key in seen:
            problems.append((score.metric, "each metric once per setting", "it twice"))
        seen.add(key)
    return problems[:50]


def _finite(score: Score, notices: list[str]) -> Score:
    """An infinite value is no measurement: kept as NaN, which fails every gate, and said."""
    if not math.isinf(score.value):
        return score
    notices.append(f"{score.metric} is infinite in the file; recorded as NaN, which fails every gate on it")
    return replace(score, value=math.nan)


# Bytes


class _Repeated(ValueError):
    """A key stands twice in one object; a parser would silently keep the last."""


def _document(data: bytes, name: str) -> Mapping[str, Any]:
    if data.startswith(b"version https://git-lfs.github.com/spec/"):
        raise _refused(name, "", _KNOWN, "a Git LFS pointer", "Fetch the file itself with git lfs pull.")
    try:
        document = json.loads(data, object_pairs_hook=_each_once)
    except _Repeated as error:
        raise _refused(name, str(error), "each key once", "it twice in one object", _EXPORT) from error
    except ValueError as error:
        if _is_samples(data):
            fix = "Import the results_*.json beside it; this file has one sample per line."
            raise _refused(name, "", "one JSON object", "a JSON lines file", fix) from error
        raise _refused(name, "", "JSON", str(error), _EXPORT) from error
    if not isinstance(document, dict):
        raise _refused(name, "", _KNOWN, f"a JSON {type(document).__name__}", _EXPORT)
    return document


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise _Repeated(next(key for key in keys if keys.count(key) > 1))
    return found


def _is_samples(data: bytes) -> bool:
    first, _, rest = data.partition(b"\n")
    return first.startswith(b"{") and first.rstrip().endswith(b"}") and rest.lstrip().startswith(b"{")


def _log(data: bytes, name: str) -> Mapping[str, Any]:
    """A compressed Inspect log as the JSON log it would be, its samples in short where it holds summaries of them."""
    _check_directory(data, name)
    header = _document(_entry(data, "header.json", name), name)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        summarised = _SUMMARIES in archive.namelist()
    if not summarised:
        return header
    try:
        return {**header, "samples": json.loads(_entry(data, _SUMMARIES, name))}
    except ValueError as error:
        raise _refused(name, _SUMMARIES, "JSON", str(error), _EXPORT) from error


_SUMMARIES = "summaries.json"


def _entry(data: bytes, entry: str, name: str) -> bytes:
    """An entry of an archive, never more of it than the limit."""
    convert = "Convert it: inspect log convert --to json --output-dir OUT FILE"
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive, archive.open(entry) as stream:
            found = stream.read(LARGEST_FILE + 1)
    except KeyError as error:
        fix = "A log without header.json is still being written, or is another kind of archive."
        raise _refused(name, "", "an Inspect log with header.json", "an archive without it", fix) from error
    except NotImplementedError as error:
        raise _refused(name, entry, "deflate compression", str(error), convert) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError, struct.error) as error:
        raise _refused(name, "", "an undamaged archive", str(error), convert) from error
    if len(found) > LARGEST_FILE:
        expected = f"at most {LARGEST_FILE:,} bytes"
        raise _refused(name, entry, expected, "more when decompressed", convert)
    return found


_END_RECORD = re.compile(rb"PK\x05\x06.{6}(..)(....)", re.DOTALL)


def _check_directory(data: bytes, name: str) -> None:
    """Refuse a table of contents that would take far more memory than the file."""
    found = _END_RECORD.search(data, max(0, len(data) - 65_557))
    size = int.from_bytes(found.group(2), "little") if found else 0
    if size > LARGEST_DIRECTORY:
        expected = f"a table of contents of at most {LARGEST_DIRECTORY:,} bytes"
        raise _refused(name, "", expected, f"one of {size:,}", "Import a .json log without samples.")


def _refused(name: str, field: str, expected: str, found: str, fix: str) -> InvalidInput:
    problem = Problem("results-invalid", name, words(field), expected, words(found), fix)
    return InvalidInput(f"nothing was recorded: {problem}", problems=[problem])
