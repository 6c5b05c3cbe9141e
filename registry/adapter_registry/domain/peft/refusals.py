"""Values in adapter_config.json that are refused whatever the weights are, and what is worth a notice."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from adapter_registry.domain.errors import Notice, Problem
from adapter_registry.domain.peft.fields import CONFIG, KNOWN_FIELDS, MODELLED

COMPUTED_AT_LOAD = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Initialisations that change, or were trained against a change of, the base's weights."""

HARMLESS_INITS = frozenset({"gaussian", "eva", "orthogonal", "mica", "true", "false", "kaiming"})
"""Initialisations that leave the base as it is; once weights are loaded they have no effect."""

_TRANSFORMERS_CLASS = re.compile(r"transformers\.models\.([a-z0-9_]+\.)+modeling_[a-z0-9_]+")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")
_FILE_KEY = re.compile(r"(^|_)(path|paths|file|files|dir|directory|folder|cache|url)($|_)", re.IGNORECASE)


def bad(code: str, name: str, expected: str, found: str, fix: str) -> Problem:
    """A problem of one field of the config."""
    return Problem(code, CONFIG, name, expected, found, fix)


def refused_values(document: dict[str, Any]) -> Iterator[Problem]:
    """Values that make PEFT import code, read files or change the base when it loads the adapter."""
    yield from _auto_mapping(document.get("auto_mapping"))
    yield from _megatron(document)
    if document.get("prompt_tuning_init_state_dict_path") is not None:
        found = repr(document["prompt_tuning_init_state_dict_path"])[:80]
        yield _refuse("prompt_tuning_init_state_dict_path", "null", found, "It is read when PEFT loads: set null.")
    tokenizer = document.get("tokenizer_name_or_path")
    if tokenizer is not None and not (isinstance(tokenizer, str) and _REPOSITORY.fullmatch(tokenizer)):
        fix = "It is read when PEFT loads: name a repository, or set null."
        yield _refuse("tokenizer_name_or_path", "a repository id or null", repr(tokenizer)[:80], fix)
    for path, value in _leaves(document, ""):
        if path.rpartition(".")[2] == "trust_remote_code" and value not in (None, False):
            yield _refuse(path, "false or absent", "true", "It runs code that others wrote: remove it.")
        elif _names_a_file(path, value):
            fix = "Files of the machine it was trained on mean nothing elsewhere: set null."
            yield _refuse(path, "null", repr(value)[:80], fix)
    yield from _initialisation(document.get("init_lora_weights"))


def contradictions(document: dict[str, Any]) -> Iterator[Problem]:
    """Fields that exclude each other: PEFT raises an error before it looks at any weight."""
    given = document.get
    targets = given("target_modules")
    if isinstance(targets, str) and targets != "all-linear":
        for name in ("layers_to_transform", "layers_pattern"):
            if given(name) is not None:
                yield _contradiction(name, "null, as target_modules is a pattern", repr(given(name))[:80])
    if given("layers_pattern") and given("layers_to_transform") is None:
        yield _contradiction("layers_to_transform", "layer numbers, as layers_pattern is set", "null")
    if given("peft_type") == "LORA" and given("lora_bias") is True:
        if given("use_dora") is True:
            yield _contradiction("lora_bias", "false, as use_dora is set", "true")
        if not isinstance(given("init_lora_weights", True), bool | None):
            yield _contradiction("init_lora_weights", "true or false, as lora_bias is set", given("init_lora_weights"))


def notices_of(document: dict[str, Any]) -> Iterator[Notice]:
    """What does not block and is worth knowing."""
    if document.get("peft_type") in MODELLED:
        unknown = sorted(document.keys() - KNOWN_FIELDS)
        if unknown:
            shown = (name.encode("ascii", "backslashreplace").decode()[:60] for name in unknown[:8])
            names = ", ".join(shown) + (" ..." if len(unknown) > 8 else "")
            yield Notice("unknown-fields", CONFIG, "", f"fields no PEFT release writes, kept as they are: {names}")
    value = document.get("init_lora_weights")
    if value == "mica":
        yield Notice("slow-load", CONFIG, "init_lora_weights", "mica decomposes each base weight when PEFT loads it")
    if value == "eva":
        text = "eva leaves the base as it is: it chose the first values only, which the weights replace"
        yield Notice("harmless-init", CONFIG, "init_lora_weights", text)
    if document.get("kasa_config"):
        text = "KaSA takes the r smallest singular values out of each adapted base weight whenever it is loaded"
        yield Notice("changes-base-at-load", CONFIG, "kasa_config", text)
    if document.get("peft_type") == "XLORA" and isinstance(document.get("adapters"), dict):
        text = f"PEFT loads {len(document['adapters'])} other adapters with it; they are not part of it"
        yield Notice("needs-others", CONFIG, "adapters", text)
    if document.get("base_model_name_or_path") is None:
        yield Notice("no-base-name", CONFIG, "base_model_name_or_path", "names no base; --base says which it is")


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


def _megatron(document: dict[str, Any]) -> Iterator[Problem]:
    if document.get("megatron_config") is not None:
        fix = "It makes PEFT import other code: set null."
        yield _refuse("megatron_config", "null", "a Megatron configuration", fix)
    if document.get("megatron_core") not in (None, "megatron.core"):
        found = repr(document["megatron_core"])[:80]
        yield _refuse("megatron_core", "null or megatron.core", found, "It names a module that PEFT imports: set null.")


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _leaves(each, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for each in value:
            if isinstance(each, dict | list):
                yield from _leaves(each, path)
    else:
        yield path, value


def _names_a_file(path: str, value: Any) -> bool:
    outer, _, key = path.rpartition(".")
    return bool(
        outer.partition(".")[0].endswith("_config") and isinstance(value, str) and value and _FILE_KEY.search(key)
    )


def _initialisation(value: Any) -> Iterator[Problem]:
    if value is None or isinstance(value, bool):
        return
    name = value.lower() if isinstance(value, str) else ""
    if name.startswith(COMPUTED_AT_LOAD):
        yield _refuse(
            "init_lora_weights",
            "an initialisation that leaves the base's weights as they are",
            repr(value)[:60],
            "It was trained against base weights that this initialisation changes, and PEFT repeats that on load where "
            "it can. Convert it to a plain LoRA: save it with "
            "save_pretrained(..., path_initial_model_for_weight_conversion=...), then push that.",
        )
    elif name not in HARMLESS_INITS:
        expected = f"true, false, or one of {', '.join(sorted(HARMLESS_INITS - {'true', 'false'}))}"
        yield bad("bad-config-value", "init_lora_weights", expected, repr(value)[:60], "Set true.")


def _refuse(name: str, expected: str, found: str, fix: str) -> Problem:
    return bad("refused-value", name, expected, found, fix)


def _contradiction(name: str, expected: str, found: Any) -> Problem:
    return bad("contradiction", name, expected, str(found), "PEFT cannot load this config: correct one of the two.")
