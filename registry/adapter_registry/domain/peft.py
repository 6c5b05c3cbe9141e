"""adapter_config.json -> AdapterConfig: what it asks for, every value that may not be there, and what was noticed.

Fields of every PEFT release from 0.2 to 0.21 are read; unknown ones are kept in the file and named in a notice. What is
refused is values, never the mere presence of a field.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from adapter_registry.domain.errors import Notice, Problem
from adapter_registry.domain.peft_fields import KNOWN_FIELDS, MODELLED, PEFT_TYPES, PROMPT_TYPES

CONFIG = "adapter_config.json"
MAX_RANK = 4096
MAX_ENTRIES = 10_000
MAX_ENTRY_BYTES = 256


COMPUTED_AT_LOAD = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Initialisations that change, or were trained against a change of, the base's weights."""

HARMLESS_INITS = frozenset({"gaussian", "eva", "orthogonal", "mica", "true", "false", "kaiming"})

BOOLEANS = (
    "inference_mode",
    "fan_in_fan_out",
    "use_rslora",
    "use_dora",
    "lora_bias",
    "use_qalora",
    "ensure_weight_tying",
    "prefix_projection",
    "init_ia3_weights",
    "enable_lora_merge",
)
_TRANSFORMERS_CLASS = re.compile(r"transformers\.models\.[a-z0-9_]+\.modeling_[a-z0-9_]+")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")
_FILE_KEY = re.compile(r"(^|_)(path|file|files|dir|directory|folder|cache|cache_dir)($|_)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """What an adapter_config.json asks for; fields have PEFT's names and meaning.

    Only fields whose values passed are set; a field with a problem has its default.
    """

    peft_type: str
    task_type: str | None = None
    base_model_name_or_path: str | None = None
    revision: str | None = None
    r: int = 8
    lora_alpha: float = 8.0
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    use_rslora: bool = False
    use_dora: bool = False
    lora_bias: bool = False
    fan_in_fan_out: bool = False
    bias: str = "none"
    target_modules: str | tuple[str, ...] | None = None
    exclude_modules: str | tuple[str, ...] | None = None
    target_parameters: tuple[str, ...] = ()
    modules_to_save: tuple[str, ...] = ()
    feedforward_modules: str | tuple[str, ...] | None = None
    layers_to_transform: tuple[int, ...] | None = None
    layers_pattern: tuple[str, ...] = ()
    layer_replication: tuple[tuple[int, int], ...] = ()
    trainable_token_indices: Mapping[str, int] | None = None
    alora: bool = False
    num_virtual_tokens: int | None = None
    num_transformer_submodules: int | None = None
    token_dim: int | None = None
    num_layers: int | None = None
    num_tasks: int | None = None

    @property
    def variant(self) -> tuple[str, ...]:
        """What modifies the method, sorted."""
        found = {
            "rslora": self.use_rslora,
            "dora": self.use_dora,
            "alora": self.alora,
            "lora_bias": self.lora_bias,
            "layer_replication": bool(self.layer_replication),
        }
        return tuple(sorted(name for name, used in found.items() if used))


@dataclass(frozen=True, slots=True)
class ConfigReading:
    """A config, or None when it names no known method; with every problem and notice."""

    config: AdapterConfig | None
    problems: tuple[Problem, ...]
    notices: tuple[Notice, ...]


def read_config(document: Any) -> ConfigReading:
    """Read a parsed adapter_config.json; never raises for what is in it."""
    if not isinstance(document, dict):
        found = type(document).__name__
        return ConfigReading(None, (_bad("bad-config", "", "a JSON object", found, "Save the adapter again."),), ())
    foreign = _foreign(document)
    if foreign is not None:
        return ConfigReading(None, (foreign,), ())
    reader = _Reader(document)
    config = reader.config()
    problems = (*reader.problems, *_refused_values(document))
    return ConfigReading(config, tuple(problems), tuple(_notices(document)))


def _foreign(document: dict[str, Any]) -> Problem | None:
    if "peft_type" not in document and ("fine_tune_type" in document or "lora_parameters" in document):
        return _bad(
            "mlx-adapter",
            "peft_type",
            "an adapter that PEFT saved",
            "an MLX adapter: the same file name, another format",
            "Convert it to PEFT's format first (names become base_model.model...lora_A.weight, factors transposed).",
        )
    kind = document.get("peft_type")
    if not isinstance(kind, str) or kind not in PEFT_TYPES:
        known = ", ".join(sorted(PEFT_TYPES))
        found = repr(kind)[:80] if kind is not None else "no such field"
        return _bad("unknown-method", "peft_type", f"one of {known}", found, "Save the adapter with PEFT.")
    return None


class _Reader:
    """Takes typed values out of a document; what does not fit becomes a problem and the default is used."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self.problems: list[Problem] = []

    def config(self) -> AdapterConfig:
        given = self._document.get
        replication = self._list("layer_replication", _is_range, "pairs of layer numbers [start, end]")
        self._prompts_need_tokens()
        return AdapterConfig(
            peft_type=str(given("peft_type")),
            task_type=self._value("task_type", _is_text, "text or null", None),
            base_model_name_or_path=self._value("base_model_name_or_path", _is_text, "text or null", None),
            revision=self._value("revision", _is_text, "text or null", None),
            r=self._rank(),
            lora_alpha=float(self._value("lora_alpha", _is_number, "a finite number", 8)),
            rank_pattern=self._pattern("rank_pattern", _is_rank, f"ranks of 1 to {MAX_RANK}"),
            alpha_pattern=self._pattern("alpha_pattern", _is_number, "finite numbers"),
            use_rslora=self._flag("use_rslora"),
            use_dora=self._flag("use_dora"),
            lora_bias=self._flag("lora_bias"),
            fan_in_fan_out=self._flag("fan_in_fan_out"),
            bias=self._bias(),
            target_modules=self._names("target_modules"),
            exclude_modules=self._names("exclude_modules"),
            target_parameters=self._texts("target_parameters"),
            modules_to_save=self._texts("modules_to_save"),
            feedforward_modules=self._names("feedforward_modules"),
            layers_to_transform=self._layers(),
            layers_pattern=self._texts("layers_pattern"),
            layer_replication=tuple((start, end) for start, end in replication),
            trainable_token_indices=self._tokens(),
            alora=self._value("alora_invocation_tokens", _is_list, "a list of token ids or null", None) is not None,
            num_virtual_tokens=self._count("num_virtual_tokens"),
            num_transformer_submodules=self._count("num_transformer_submodules"),
            token_dim=self._count("token_dim"),
            num_layers=self._count("num_layers"),
            num_tasks=self._count("num_tasks"),
        )

    def _value(self, name: str, fits: Callable[[Any], bool], expected: str, default: Any) -> Any:
        value = self._document.get(name)
        if value is None:
            return default
        if not fits(value):
            fix = "Correct the field as PEFT writes it."
            self.problems.append(_bad("bad-config-value", name, expected, repr(value)[:120], fix))
            return default
        return value

    def _flag(self, name: str) -> bool:
        return bool(self._value(name, lambda value: isinstance(value, bool), "true or false", False))

    def _count(self, name: str) -> int | None:
        found: int | None = self._value(name, _is_count, "an integer of 1 to 1,000,000", None)
        return found

    def _rank(self) -> int:
        if self._document.get("peft_type") != "LORA":
            return 8
        self._value("lora_dropout", _is_dropout, "a number of at least 0 and below 1", 0)
        return int(self._value("r", _is_rank, f"an integer of 1 to {MAX_RANK}", 8))

    def _bias(self) -> str:
        if self._document.get("peft_type") not in ("LORA", "ADALORA"):
            return "none"
        known = ("none", "all", "lora_only")
        return str(self._value("bias", lambda value: value in known, f"one of {', '.join(known)}", "none"))

    def _names(self, name: str) -> str | tuple[str, ...] | None:
        value = self._document.get(name)
        if isinstance(value, str):
            return str(self._value(name, _is_entry, f"at most {MAX_ENTRY_BYTES} bytes", ""))
        return self._texts(name) if value is not None else None

    def _texts(self, name: str) -> tuple[str, ...]:
        value = self._document.get(name)
        if isinstance(value, str):
            value = [value]
        expected = f"a list of at most {MAX_ENTRIES:,} texts of 1 to {MAX_ENTRY_BYTES} bytes"
        self._value(name, lambda _: _is_texts(value), expected, None)
        return tuple(value) if isinstance(value, list) and _is_texts(value) else ()

    def _list(self, name: str, fits: Callable[[Any], bool], expected: str) -> tuple[Any, ...]:
        def allowed(value: Any) -> bool:
            return isinstance(value, list) and len(value) <= MAX_ENTRIES and all(map(fits, value))

        return tuple(self._value(name, allowed, f"a list of {expected}", ()))

    def _pattern(self, name: str, fits: Callable[[Any], bool], expected: str) -> dict[str, Any]:
        def allowed(value: Any) -> bool:
            sized = isinstance(value, dict) and len(value) <= MAX_ENTRIES
            return sized and all(map(_is_entry, value)) and all(map(fits, value.values()))

        text = f"at most {MAX_ENTRIES:,} patterns of at most {MAX_ENTRY_BYTES} bytes with {expected}"
        return dict(self._value(name, allowed, text, {}))

    def _layers(self) -> tuple[int, ...] | None:
        value = self._document.get("layers_to_transform")
        if type(value) is int:
            value = [value]
        fits = isinstance(value, list) and all(type(each) is int and each >= 0 for each in value)
        self._value("layers_to_transform", lambda _: fits, "layer numbers", None)
        return tuple(value) if fits and value else None

    def _tokens(self) -> dict[str, int] | None:
        """Embedding name -> how many of its rows are trained; the name is empty for the input embedding."""
        value = self._document.get("trainable_token_indices", self._document.get("token_indices"))
        lists = {"": value} if isinstance(value, list) else value
        fits = isinstance(lists, dict) and all(
            isinstance(ids, list) and all(type(each) is int and each >= 0 for each in ids) for ids in lists.values()
        )
        self._value("trainable_token_indices", lambda _: fits, "token ids, or token ids by embedding", None)
        return {name: len(ids) for name, ids in lists.items()} if fits and lists else None

    def _prompts_need_tokens(self) -> None:
        kind = self._document.get("peft_type")
        if kind in PROMPT_TYPES - {"CPT"} and self._document.get("num_virtual_tokens") is None:
            fix = "Save the adapter with PEFT."
            self.problems.append(_bad("bad-config-value", "num_virtual_tokens", "an integer", "no such field", fix))


def _refused_values(document: dict[str, Any]) -> Iterator[Problem]:
    yield from _auto_mapping(document.get("auto_mapping"))
    if document.get("megatron_config") is not None:
        yield _refuse(
            "megatron_config", "null", "a Megatron configuration", "It makes PEFT import other code: set null."
        )
    if document.get("megatron_core") not in (None, "megatron.core"):
        found = repr(document["megatron_core"])[:80]
        yield _refuse("megatron_core", "null or megatron.core", found, "It names a module that PEFT imports: set null.")
    if document.get("prompt_tuning_init_state_dict_path") is not None:
        found = repr(document["prompt_tuning_init_state_dict_path"])[:80]
        yield _refuse("prompt_tuning_init_state_dict_path", "null", found, "It is read when PEFT loads: set null.")
    tokenizer = document.get("tokenizer_name_or_path")
    if tokenizer is not None and not (isinstance(tokenizer, str) and _REPOSITORY.fullmatch(tokenizer)):
        fix = "It is read when PEFT loads: name a repository, or set null."
        yield _refuse("tokenizer_name_or_path", "a repository id or null", repr(tokenizer)[:80], fix)
    for path in _trusting(document, ""):
        yield _refuse(path, "false or absent", "true", "It runs code that others wrote: remove it.")
    for name, value in document.items():
        if name.endswith("_config") and isinstance(value, dict):
            for key, text in value.items():
                if isinstance(text, str) and text and _FILE_KEY.search(key):
                    fix = "Files of the machine it was trained on mean nothing elsewhere: set null."
                    yield _refuse(f"{name}.{key}", "null", repr(text)[:80], fix)
    yield from _initialisation(document.get("init_lora_weights"))


def _auto_mapping(value: Any) -> Iterator[Problem]:
    if value is None:
        return
    library = value.get("parent_library") if isinstance(value, dict) else None
    name = value.get("base_model_class") if isinstance(value, dict) else None
    sound = isinstance(library, str) and _TRANSFORMERS_CLASS.fullmatch(library)
    if not sound or not isinstance(name, str) or not _IDENTIFIER.fullmatch(name):
        expected = "null, or a class under transformers.models.*.modeling_*"
        fix = "It names code that PEFT imports: set null and give task_type instead."
        yield _refuse("auto_mapping", expected, repr(value)[:120], fix)


def _trusting(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, each in value.items():
            here = f"{path}.{key}" if path else key
            if key == "trust_remote_code" and each not in (None, False):
                yield here
            yield from _trusting(each, here)
    elif isinstance(value, list):
        for each in value:
            yield from _trusting(each, path)


def _initialisation(value: Any) -> Iterator[Problem]:
    if isinstance(value, str) and value.lower().startswith(COMPUTED_AT_LOAD):
        yield _refuse(
            "init_lora_weights",
            "an initialisation that leaves the base's weights as they are",
            repr(value)[:60],
            "PEFT changes the base's weights when it loads this. Convert it to a plain LoRA: save it with "
            "save_pretrained(..., path_initial_model_for_weight_conversion=...), then push that.",
        )
    elif value is not None and not isinstance(value, bool | str):
        yield _bad("bad-config-value", "init_lora_weights", "true, false or a name", repr(value)[:60], "Set true.")


def _notices(document: dict[str, Any]) -> Iterator[Notice]:
    if document.get("peft_type") in MODELLED:
        unknown = sorted(document.keys() - KNOWN_FIELDS)
        if unknown:
            names = ", ".join(name[:60] for name in unknown[:8]) + (" ..." if len(unknown) > 8 else "")
            yield Notice("unknown-fields", CONFIG, "", f"fields no PEFT release writes, kept as they are: {names}")
    value = document.get("init_lora_weights")
    if value == "mica":
        yield Notice("slow-load", CONFIG, "init_lora_weights", "mica decomposes each base weight when PEFT loads it")
    if document.get("base_model_name_or_path") is None:
        yield Notice("no-base-name", CONFIG, "base_model_name_or_path", "names no base; --base says which it is")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 4096


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return type(value) is int and 1 <= value <= 1_000_000


def _is_dropout(value: Any) -> bool:
    return _is_number(value) and 0 <= value < 1


def _is_rank(value: Any) -> bool:
    return type(value) is int and 1 <= value <= MAX_RANK


def _is_entry(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value.encode("utf-8", "replace")) <= MAX_ENTRY_BYTES


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= MAX_ENTRIES and all(map(_is_entry, value))


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= MAX_ENTRIES


def _is_range(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(type(each) is int and 0 <= each <= 100_000 for each in value)
        and value[0] < value[1]
    )


def _refuse(name: str, expected: str, found: str, fix: str) -> Problem:
    return _bad("refused-value", name, expected, found, fix)


def _bad(code: str, name: str, expected: str, found: str, fix: str) -> Problem:
    return Problem(code, CONFIG, name, expected, found, fix)
