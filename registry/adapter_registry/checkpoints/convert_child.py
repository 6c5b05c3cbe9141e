"""A process of its own that reads a pickle with weights-only loading and writes safetensors.

Run as `python -I -B convert_child.py IN OUT CPU_SECONDS MEMORY_BYTES`: it limits itself before it reads anything, and
has no environment. Exit code 0, or 3 with the reason on stderr.
"""

import resource
import sys
from pathlib import Path


def convert(source: Path, target: Path) -> str:
    """Write the tensors of `source` to `target`; empty, or why that is refused."""
    import torch  # noqa: PLC0415  only this child has it
    from safetensors.torch import save_file  # noqa: PLC0415

    loaded = torch.load(source, map_location="cpu", weights_only=True)
    if not isinstance(loaded, dict) or not loaded:
        return f"it holds a {type(loaded).__name__}, not a table of tensors"
    wrong = [name for name, value in loaded.items() if not (isinstance(name, str) and isinstance(value, torch.Tensor))]
    if wrong:
        return f"{str(wrong[0])[:100]!r} is no named tensor"
    tensors = {name: value.detach().clone().contiguous() for name, value in loaded.items()}
    save_file(tensors, target, metadata={"format": "pt"})
    return ""


if __name__ == "__main__":
    seconds, memory = int(sys.argv[3]), int(sys.argv[4])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        reason = convert(Path(sys.argv[1]), Path(sys.argv[2]))
    except Exception as error:  # noqa: BLE001  the edge of the process: whatever a hostile pickle raises is a refusal
        reason = f"{type(error).__name__}: {str(error).splitlines()[0][:300] if str(error) else ''}"
    if reason:
        sys.stderr.write(reason)
        sys.exit(3)
