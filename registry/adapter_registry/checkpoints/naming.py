"""Names of a base's tensors as an adapter uses them.

A checkpoint's names and the live model's module paths differ in three known ways, and an adapter has the live ones:
a part of the path is renamed when transformers loads the checkpoint (`block_sparse_moe` -> `mlp`); a prefix is added,
removed or replaced (`h.0` -> `transformer.h.0` for a base saved without its head, `language_model.model.layers` ->
`model.language_model.layers` for vision-language models); layers are repeated by `layer_replication`. One consistent
change is found for the whole adapter; nothing is guessed module by module.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from adapter_registry.domain.base import Base, Tensor

MAX_CHANGES = 6
MAX_CANDIDATES = 12
SAMPLED = 4_000
"""How many of an adapter's modules are asked where they are in the base; a model's stacks are few."""

Change = tuple[str, str]
"""(prefix in the checkpoint, prefix in the live model); each empty or ending in a dot."""
_Rules = tuple[tuple[re.Pattern[str], str], ...]


def _rules(*pairs: tuple[str, str]) -> _Rules:
    return tuple((re.compile(pattern), text) for pattern, text in pairs)


_LEGACY = _rules((r"(?<=\.)gamma$", "weight"), (r"(?<=\.)beta$", "bias"))
_ATTENTION = (
    (r"\battention\.(?:attention|self)\.(query|key|value)\b", r"attention.\1"),
    (r"\battention\.query\b", "attention.q_proj"),
    (r"\battention\.key\b", "attention.k_proj"),
    (r"\battention\.value\b", "attention.v_proj"),
    (r"\battention\.output\.dense\b", "attention.o_proj"),
    (r"\bintermediate\.dense\b", "mlp.fc1"),
    (r"\boutput\.dense\b", "mlp.fc2"),
)
RENAMES: tuple[_Rules, ...] = (
    (),
    _rules((r"\bblock_sparse_moe\b", "mlp")),
    _rules((r"\bblock_sparse_moe\.gate\b", "mlp.router"), (r"\bblock_sparse_moe\b", "mlp")),
    _rules(
        (r"\binput_linear\.weight$", "experts.gate_up_proj"),
        (r"\boutput_linear\.weight$", "experts.down_proj"),
        (r"\brouter\.layer\b", "router"),
    ),
    _rules((r"^embed_out\b", "lm_head")),
    _rules((r"\bencoder\.layer\b", "layers"), *_ATTENTION),
    _rules(*_ATTENTION),
    _rules((r"\bout_proj\b", "o_proj"), (r"\blayers\.(\d+)\.(fc[12])\b", r"layers.\1.mlp.\2")),
)
"""Parts of names that transformers 5 changes when it loads a checkpoint, as alternatives; the first changes nothing."""

_EXPERTS = ".experts."
_SINGLE = frozenset({"embed_tokens", "lm_head", "wte", "word_embeddings"})
"""Modules that stand beside the stacks, and tell a prefix by their name alone."""
_WRAPPERS = frozenset(
    """
    model transformer encoder decoder backbone bert roberta electra vit clip vlm llm gpt_neox visual vision_model
    vision_tower vision_encoder text_model text_encoder language_model audio_model audio_tower audio_encoder
    image_encoder thinker talker tracker_model detector_model video_model timm_model pretrained_model auto_model
    """.split()  # noqa: SIM905  a paragraph of names reads better than a column of strings
)
"""What models call the part of them that a checkpoint may hold alone."""

_WEIGHT_NORM = re.compile(r"\.parametrizations\.weight\.original\d$")
_STACK = re.compile(r"(?P<head>(?:.*?\.)?(?:layers|layer|h))\.(?P<number>\d+)\.(?P<rest>.+)")


@dataclass(frozen=True, slots=True)
class Naming:
    """One consistent way to name the tensors of a base.

    Attributes:
        tensors: live name -> Tensor.
        changes: (prefix in the checkpoint, prefix in the live model), most specific first.
        renamed: whether parts of names were changed as transformers does.
    """

    tensors: Mapping[str, Tensor]
    changes: tuple[Change, ...] = ()
    renamed: bool = False

    @property
    def told(self) -> str:
        """What differs from the checkpoint's names, for people; empty when nothing does."""
        parts = [
            f"{live or 'no prefix'!r} in place of {stored!r}" if stored else f"the prefix {live!r}"
            for stored, live in self.changes
        ]
        if self.renamed:
            parts.append("the parts that transformers 5 renames")
        return f"its module names have {' and '.join(parts)} beside the checkpoint's tensor names" if parts else ""


def namings(base: Base, paths: Collection[str], replication: Sequence[tuple[int, int]] = ()) -> Iterator[Naming]:
    """The ways to name the tensors of `base` that differ, for an adapter with these module paths; likeliest first."""
    words = _words(base)
    seen: set[frozenset[str]] = set()
    for rules in RENAMES:
        plain = {_applied(_applied(tensor.name, _LEGACY), rules): tensor for tensor in base.tensors}
        if replication:
            plain = dict(_replicated(plain, replication))
        if frozenset(plain) in seen:
            continue
        seen.add(frozenset(plain))
        modules = {_WEIGHT_NORM.sub(".weight", name).rpartition(".")[0] for name in plain}
        modules |= {f"{module.partition(_EXPERTS)[0]}.experts" for module in modules if _EXPERTS in module}
        changes = prefix_changes(modules, paths, words)
        yield Naming({_live(name, changes): tensor for name, tensor in plain.items()}, changes, bool(rules))


def _words(base: Base) -> Callable[[str], bool]:
    """Which components a prefix may have: the checkpoint's, the model's own name, and what wrappers are called."""
    own = {part for tensor in base.tensors for part in tensor.name.split(".")}
    kind = (base.model_type or "").replace("-", "_")

    def known(part: str) -> bool:
        return part in _WRAPPERS or part in own or (len(part) > 2 and part in kind)

    return known


def _applied(name: str, rules: _Rules) -> str:
    for pattern, text in rules:
        name = pattern.sub(text, name)
    return name


def _replicated(plain: Mapping[str, Tensor], ranges: Sequence[tuple[int, int]]) -> Iterator[tuple[str, Tensor]]:
    """The tensors with each stack's layers repeated as `layer_replication` says; its ends are exclusive."""
    order = [number for start, end in ranges for number in range(start, end)]
    copies: defaultdict[int, list[int]] = defaultdict(list)
    for new, old in enumerate(order):
        copies[old].append(new)
    for name, tensor in plain.items():
        found = _STACK.fullmatch(name)
        if found is None:
            yield name, tensor
            continue
        for new in copies[int(found["number"])]:
            yield f"{found['head']}.{new}.{found['rest']}", tensor


def prefix_changes(
    modules: Collection[str], paths: Collection[str], known: Callable[[str], bool]
) -> tuple[Change, ...]:
    """Replacements of prefixes under which the most of `paths` are among `modules`, most specific first.

    A change is kept when it explains paths that were unexplained and takes away none that were; two stacks of a model
    may need two. A prefix has only components that are `known`: any other is no model's.
    """
    sample = sorted(paths)[:: max(1, len(paths) // SAMPLED)]
    changes: tuple[Change, ...] = ()
    explained = {path for path in sample if path in modules}
    plain = bool(explained)
    index = _by_suffix(modules) if len(explained) < len(sample) else {}
    while len(explained) < len(sample) and len(changes) < MAX_CHANGES:
        for change in _candidates(index, [path for path in sample if path not in explained], known):
            wider = _narrowed({*changes, change}, sample, modules) if plain or changes else (change,)
            live = {_live(f"{module}.", wider)[:-1] for module in modules}
            now = {path for path in sample if path in live}
            if now > explained:
                changes, explained = wider, now
                break
        else:
            break
    return changes


def _narrowed(changes: Collection[Change], paths: Sequence[str], modules: Collection[str]) -> tuple[Change, ...]:
    """Several changes, most specific first; one that only adds a prefix does so to the stacks that need it."""
    narrow: set[Change] = set()
    for stored, live in changes:
        if stored:
            narrow.add((stored, live))
            continue
        inside = (path.removeprefix(live) for path in paths if path.startswith(live))
        narrow |= {(f"{stack}.", f"{live}{stack}.") for stack in {p.split(".", 1)[0] for p in inside if p in modules}}
    return tuple(sorted(narrow, key=lambda change: (-len(change[0]), change)))


def _by_suffix(modules: Iterable[str]) -> dict[str, list[str]]:
    """Path without its first components -> those prefixes; a prefix holds no layer number."""
    index: defaultdict[str, list[str]] = defaultdict(list)
    for module in modules:
        for prefix, rest in _splits(module):
            index[rest].append(prefix)
    return index


def _splits(path: str) -> Iterator[tuple[str, str]]:
    parts = path.split(".")
    for i in range(min(5, len(parts))):
        if i and parts[i - 1].isdigit():
            return
        yield "".join(f"{part}." for part in parts[:i]), ".".join(parts[i:])


def _candidates(index: Mapping[str, list[str]], paths: Sequence[str], known: Callable[[str], bool]) -> list[Change]:
    """Changes that would explain some of `paths`: those that explain the most first, the least change among equals."""
    votes: Counter[Change] = Counter()
    for path in paths:
        votes.update(
            {
                (stored, live)
                for live, rest in _splits(path)
                if all(map(known, live.split(".")[:-1]))
                for stored in index.get(rest, ())
                # One name in common (`dense`) is none when both sides have a prefix before it.
                if "." in rest or rest in _SINGLE or not (stored and live)
            }
        )
    return sorted(votes, key=lambda change: (-votes[change], _unlikeness(change)))[:MAX_CANDIDATES]


def _unlikeness(change: Change) -> tuple[int, int, Change]:
    """Stacks of one model have layers of the same names; prefixes with the same words are of the same stack."""
    stored, live = change
    words = set(stored.split(".")) ^ set(live.split("."))
    return len(words), len(stored) + len(live), change


def _live(name: str, changes: tuple[Change, ...]) -> str:
    for stored, live in changes:
        if name.startswith(stored):
            return live + name[len(stored) :]
    return name
