"""Machine code compiled once on each machine: kept beside the package, or in the user's cache; loaded in milliseconds.

numba keeps what it compiles too, but takes half a second to import and to find it.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import platformdirs

from adapter_registry.domain.errors import Unsupported

Assembly = Callable[[], Iterable[str]]
"""Makes LLVM assembly: one text for each module."""
_PREFIX = 32
"""Bytes of the digest before each kept object."""
_engines: list[Any] = []


def loaded(name: str, source: bytes, assembly: Assembly) -> Callable[[str], int]:
    """Finds the addresses of the symbols of some modules.

    Args:
        name: of the file that the code is kept in.
        source: what the code is made of: another source is compiled anew.
        assembly: makes the modules, where nothing is kept.

    Raises:
        Unsupported: the compiler is not installed.
    """
    try:
        import llvmlite.binding as llvm  # noqa: PLC0415  slow, and absent without the extra
    except ImportError as error:
        raise Unsupported(
            "merging needs numba, which is not installed; nothing was written. Install 'adapter-registry[jobs]'."
        ) from error
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    cpu, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    told = f"{llvm.llvm_version_info} {llvm.get_process_triple()} {cpu} {features}".encode()
    file = f"{name}-{hashlib.sha256(source + told).hexdigest()[:24]}.o"
    target = llvm.Target.from_default_triple()
    machine = target.create_target_machine(cpu=cpu, features=features, opt=3, jit=True, codemodel="jitdefault")
    kept = _kept(file)
    if kept is None:
        modules = [llvm.parse_assembly(text) for text in assembly()]
        for other in modules[1:]:
            modules[0].link_in(other)
        kept = machine.emit_object(modules[0])
        _keep(file, kept)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(kept))
    engine.finalize_object()
    _engines.append(engine)  # the code goes with it
    return engine.get_function_address  # type: ignore[no-any-return]


def _places() -> Iterator[Path]:
    yield Path(__file__).parent / "__pycache__"
    yield platformdirs.user_cache_path("adapter-registry")


def _kept(file: str) -> bytes | None:
    """An object that was compiled before and is whole."""
    for place in _places():
        try:
            data = (place / file).read_bytes()
        except OSError:
            continue
        if hashlib.sha256(data[_PREFIX:]).digest() == data[:_PREFIX]:
            return data[_PREFIX:]
    return None


def _keep(file: str, data: bytes) -> None:
    """Keep an object in the first place that can be written; in none, it is compiled each time."""
    for place in _places():
        aside = place / f"{file}.{secrets.token_hex(4)}"
        try:
            place.mkdir(parents=True, exist_ok=True)
            aside.write_bytes(hashlib.sha256(data).digest() + data)
            aside.replace(place / file)
        except OSError:
            continue
        return
