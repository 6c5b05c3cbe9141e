"""adapter_config.json -> AdapterConfig: what it asks for, every value that may not be there, and what was noticed.

Fields of every PEFT release from 0.2 to 0.21 are read; unknown ones are kept in the file and named in a notice. What is
refused is values, never the mere presence of a field.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from adapter_registry.domain.errors import Notice, Problem
from adapter_registry.domain.peft.fields import PEFT_TYPES, PROMPT_TYPES
from adapter_registry.domain.peft.refusals import bad, contradictions, notices_of, refused_values

MAX_RANK = 4096
MAX_ENTRIES = 10_000
MAX_ENTRY_BYTES = 256

TASK_TYPES = ("SEQ_CLS", "SEQ_2_SEQ_LM", "CAUSAL_LM", "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION")
"""What PEFT knows; it raises an error for any other."""
FLAGS = ("inference_mode", "prefix_projection", "init_ia3_weights", "use_qalora")
COUNTS = ("encoder_hidden_size", "encoder_num_layers", "num_attention_heads", "init_r", "target_r")

EXTENSIONS = {
    "kasa_config": "kasa",
    "velora_config": "velora",
    "monteclora_config": "monteclora",
    "arrow_config": "arrow",
    "use_qalora": "qalora",
    "use_bdlora": "bdlora",
}
"""Fields that change what a LoRA layer computes or holds -> the name of that variant."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """`use_bdlora`: which modules have a block-diagonal factor, by parts of their names, and how many blocks."""

    down: tuple[str, ...]
    up: tuple[str, ...]
    count: int


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """What an adapter_config.json asks for; fields have PEFT's names and meaning.

    Only fields whose values passed are set; a field with a problem has its default. `extensions` are the names of
    the LoRA variants in use (see `EXTENSIONS`), `other_patterns` the keys of patterns that only other methods have,
    `trainable_token_indices` token ids by embedding name, where an empty name is the input embedding.
    """

    peft_type: str
    task_type: str | None = None
    base_model_name_or_path: str | None = None
    revision: str | None = None
    r: int = 8
    lora_alpha: float = 8.0
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    other_patterns: tuple[str, ...] = ()
    use_rslora: bool = False
    use_dora: bool = False
    lora_bias: bool = False
    fan_in_fan_out: bool = False
    ensure_weight_tying: bool = False
    bias: str = "none"
    target_modules: str | tuple[str, ...] | None = None
    exclude_modules: str | tuple[str, ...] | None = None
    target_parameters: tuple[str, ...] = ()
    modules_to_save: tuple[str, ...] = ()
    feedforward_modules: str | tuple[str, ...] | None = None
    layers_to_transform: tuple[int, ...] | None = None
    layers_pattern: tuple[str, ...] = ()
    layer_replication: tuple[tuple[int, int], ...] = ()
    trainable_token_indices: Mapping[str, tuple[int, ...]] | None = None
    alora: bool = False
    extensions: tuple[str, ...] = ()
    qalora_group_size: int = 16
    blocks: Blocks | None = None
    zero_prompt: bool = False
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
        return tuple(sorted((*(name for name, used in found.items() if used), *self.extensions)))


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
        return ConfigReading(None, (bad("bad-config", "", "a JSON object", found, "Save the adapter again."),), ())
    foreign = _foreign(document)
    if foreign is not None:
        return ConfigReading(None, (foreign,), ())
    reader = _Reader(document)
    config = reader.config()
    problems = (*reader.problems, *refused_values(document), *contradictions(document))
    return ConfigReading(config, tuple(problems), tuple(notices_of(document)))


def _foreign(document: dict[str, Any]) -> Problem | None:
    if "peft_type" not in document and ("fine_tune_type" in document or "lora_parameters" in document):
        return bad(
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
        return bad("unknown-method", "peft_type", f"one of {known}", found, "Save the adapter with PEFT.")
    return None


class _Reader:
    """Takes typed values out of a document; what does not fit becomes a problem and the default is used."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._kind = str(document.get("peft_type"))
        self.problems: list[Problem] = []

    def config(self) -> AdapterConfig:
        self._prompts_need_tokens()
        self._schema()
        return AdapterConfig(
            peft_type=self._kind,
            task_type=self._value(
                "task_type", TASK_TYPES.__contains__, f"null or one of {', '.join(TASK_TYPES)}", None
            ),
            base_model_name_or_path=self._value("base_model_name_or_path", _is_text, "printable text or null", None),
            revision=self._value("revision", _is_text, "printable text or null", None),
            fan_in_fan_out=self._flag("fan_in_fan_out"),
            ensure_weight_tying=self._flag("ensure_weight_tying"),
            bias=self._bias(),
            target_modules=self._names("target_modules"),
            exclude_modules=self._names("exclude_modules"),
            target_parameters=self._texts("target_parameters"),
            modules_to_save=self._texts("modules_to_save"),
            feedforward_modules=self._names("feedforward_modules"),
            layers_to_transform=self._layers(),
            layers_pattern=self._texts("layers_pattern"),
            layer_replication=self._replication(),
            trainable_token_indices=self._tokens(),
            zero_prompt=self._document.get("init_weights") == "zero",
            num_virtual_tokens=self._count("num_virtual_tokens"),
            num_transformer_submodules=self._count("num_transformer_submodules"),
            token_dim=self._count("token_dim"),
            num_layers=self._count("num_layers"),
            num_tasks=self._count("num_tasks"),
            **(self._lora() if self._kind == "LORA" else {"other_patterns": self._other_patterns()}),
        )

    def _schema(self) -> None:
        """Types of fields that nothing here reads, so that PEFT does not stumble over them."""
        for name in FLAGS:
            self._flag(name)
        for name in COUNTS:
            self._count(name)
        for name in self._document:
            if name.endswith("_dropout") or name == "dropout":
                self._value(name, _is_dropout, "a number of at least 0 and below 1", 0)
        if self._kind != "LORA":
            self._value("r", lambda value: type(value) is int and 0 <= value <= 1 << 16, "an integer of 0 to 65,536", 8)
            self._value("alpha", _is_number, "a finite number", 8)

    def _lora(self) -> dict[str, Any]:
        return {
            "r": self._value("r", _is_rank, f"an integer of 1 to {MAX_RANK}", 8),
            "lora_alpha": float(self._value("lora_alpha", _is_number, "a finite number", 8)),
            "rank_pattern": self._pattern("rank_pattern", _is_rank, f"ranks of 1 to {MAX_RANK}"),
            "alpha_pattern": self._pattern("alpha_pattern", _is_number, "finite numbers"),
            "use_rslora": self._flag("use_rslora"),
            "use_dora": self._flag("use_dora"),
            "lora_bias": self._flag("lora_bias"),
            "alora": self._value("alora_invocation_tokens", _is_tokens, "a list of token ids or null", None)
            is not None,
            "extensions": self._extensions(),
            "qalora_group_size": self._count("qalora_group_size") or 16,
            "blocks": self._blocks(),
        }

    def _value(self, name: str, fits: Callable[[Any], bool], expected: str, default: Any) -> Any:
        value = self._document.get(name)
        if value is None:
            return default
        if not fits(value):
            fix = "Correct the field as PEFT writes it."
            self.problems.append(bad("bad-config-value", name, expected, repr(value)[:120], fix))
            return default
        return value

    def _flag(self, name: str) -> bool:
        return bool(self._value(name, lambda value: isinstance(value, bool), "true or false", False))

    def _count(self, name: str) -> int | None:
        found: int | None = self._value(name, _is_count, "an integer of 1 to 1,000,000", None)
        return found

    def _bias(self) -> str:
        if self._kind == "LORA":
            known = ("none", "all", "lora_only")
            return str(self._value("bias", lambda value: value in known, f"one of {', '.join(known)}", "none"))
        # Each of the other methods has its own word for "only biases of adapted layers".
        value = self._document.get("bias")
        return value.lower() if isinstance(value, str) and value.lower().endswith(("all", "_only")) else "none"

    def _names(self, name: str) -> str | tuple[str, ...] | None:
        value = self._document.get(name)
        if isinstance(value, str) and value:
            return str(self._value(name, _is_entry, f"at most {MAX_ENTRY_BYTES} printable bytes", ""))
        return self._texts(name) if value is not None else None

    def _texts(self, name: str) -> tuple[str, ...]:
        value = self._document.get(name)
        if isinstance(value, str):
            value = [value] if value else []
        expected = f"a list of at most {MAX_ENTRIES:,} printable texts of 1 to {MAX_ENTRY_BYTES} bytes"
        self._value(name, lambda _: _is_texts(value), expected, None)
        return tuple(value) if isinstance(value, list) and _is_texts(value) else ()

    def _pattern(self, name: str, fits: Callable[[Any], bool], expected: str) -> dict[str, Any]:
        def allowed(value: Any) -> bool:
            sized = isinstance(value, dict) and len(value) <= MAX_ENTRIES
            return sized and all(map(_is_entry, value)) and all(map(fits, value.values()))

        text = f"at most {MAX_ENTRIES:,} patterns of at most {MAX_ENTRY_BYTES} bytes with {expected}"
        return dict(self._value(name, allowed, text, {}))

    def _other_patterns(self) -> tuple[str, ...]:
        """Keys of other methods' patterns (`lambda_pattern`, ...): PEFT matches those too, whatever they map to."""
        names = [name for name in self._document if name.endswith("_pattern") and name != "layers_pattern"]
        return tuple(key for name in names for key in self._pattern(name, lambda _: True, "any values"))

    def _extensions(self) -> tuple[str, ...]:
        def fits(value: Any) -> bool:
            return isinstance(value, bool | dict)

        return tuple(
            variant for name, variant in EXTENSIONS.items() if self._value(name, fits, "an object or null", None)
        )

    def _blocks(self) -> Blocks | None:
        value = self._document.get("use_bdlora")
        if not isinstance(value, dict):
            return None
        down, up = (value.get(f"target_modules_bd_{side}") or [] for side in "ab")
        count = value.get("nblocks", 1)
        if not (_is_texts(down) and _is_texts(up) and _is_count(count)):
            fix = "Correct the field as PEFT writes it."
            expected = "target_modules_bd_a, target_modules_bd_b and nblocks"
            self.problems.append(bad("bad-config-value", "use_bdlora", expected, repr(value)[:120], fix))
            return None
        return Blocks(tuple(down), tuple(up), count)

    def _layers(self) -> tuple[int, ...] | None:
        value = self._document.get("layers_to_transform")
        if type(value) is int:
            value = [value]
        fits = isinstance(value, list) and all(type(each) is int and each >= 0 for each in value)
        self._value("layers_to_transform", lambda _: fits, "layer numbers", None)
        return tuple(value) if fits and value else None

    def _replication(self) -> tuple[tuple[int, int], ...]:
        def fits(value: Any) -> bool:
            return isinstance(value, list) and len(value) <= MAX_ENTRIES and all(map(_is_range, value))

        found = self._value("layer_replication", fits, "a list of pairs of layer numbers [start, end]", ())
        return tuple((start, end) for start, end in found)

    def _tokens(self) -> dict[str, tuple[int, ...]] | None:
        name = "token_indices" if self._kind == "TRAINABLE_TOKENS" else "trainable_token_indices"
        value = self._document.get(name)
        lists = {"": value} if isinstance(value, list) else value
        fits = isinstance(lists, dict) and all(_is_tokens(ids) for ids in lists.values())
        self._value(name, lambda _: fits, "token ids, or token ids by embedding", None)
        return {name: tuple(ids) for name, ids in lists.items()} if fits and lists else None

    def _prompts_need_tokens(self) -> None:
        if self._kind in PROMPT_TYPES - {"CPT"} and self._document.get("num_virtual_tokens") is None:
            fix = "Save the adapter with PEFT."
            self.problems.append(bad("bad-config-value", "num_virtual_tokens", "an integer", "no such field", fix))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 4096 and value.isprintable()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return type(value) is int and 1 <= value <= 1_000_000


def _is_dropout(value: Any) -> bool:
    return _is_number(value) and 0 <= value < 1


def _is_rank(value: Any) -> bool:
    return type(value) is int and 1 <= value <= MAX_RANK


def _is_entry(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable() and 0 < len(value.encode()) <= MAX_ENTRY_BYTES


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= MAX_ENTRIES and all(map(_is_entry, value))


def _is_tokens(value: Any) -> bool:
    return isinstance(value, list) and all(type(each) is int and each >= 0 for each in value)


def _is_range(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(type(each) is int and 0 <= each <= 100_000 for each in value)
        and value[0] < value[1]
    )
