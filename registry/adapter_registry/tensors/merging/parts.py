"""A merge in parts, one for each weight file of the result: made anywhere, in any order, and then put together.

What a part tells is the line that the journal of an undivided merge would hold. Putting together lays files and lines
where an interrupted merge would have left them, and goes on with it: it reads each file again, computes what is missing
or damaged, and adds index, config and the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from adapter_registry.domain.base import Base
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.tensors.merging.blocks import Tally
from adapter_registry.tensors.merging.merge import Ingredient, Merged, Options, Progress, lanes_of, merge, planned
from adapter_registry.tensors.merging.methods import check_mergeable
from adapter_registry.tensors.merging.write import aside, lay, line_of, publish, write_files

Line = dict[str, object]
"""What came of a part: see `merge_write.line_of`."""


def files_of(
    base: Base, source: Path, ingredients: Sequence[Ingredient], out: Path, *, options: Options
) -> dict[str, int]:
    """The weight files of the result and their bytes; none where PEFT merges, which does so all at once.

    Raises:
        Unsupported: see `merge`.
    """
    if not check_mergeable(base, ingredients, options):
        return {}
    with planned(base, source, ingredients, out, options=options) as task:
        return {file.name: file.size for file in task.files}


def merge_file(
    base: Base,
    source: Path,
    ingredients: Sequence[Ingredient],
    out: Path,
    *,
    options: Options,
    name: str,
    progress: Progress,
) -> Line:
    """Make one weight file of the result in the new folder `out`; the arguments are those of `merge`.

    Raises:
        InvalidInput: the result has no file of that name.
    """
    with lanes_of(options) as lanes, planned(base, source, ingredients, out, options=options) as task:
        files = [file for file in task.files if file.name == name]
        if not files:
            raise InvalidInput(f"this merge has no file {name[:80]!r}; it has {len(task.files)} others.")
        tallies = {tensor: Tally() for tensor in task.plan.edits}
        with aside(out, task.recipe()) as place:
            threads = options.threads
            [written] = write_files(place, files, workers=threads, progress=progress, tallies=tallies, lanes=lanes)
            publish(place, out)
        return line_of(written, files[0], tallies)


def join(
    base: Base,
    source: Path,
    ingredients: Sequence[Ingredient],
    out: Path,
    *,
    options: Options,
    done: Iterable[tuple[Line, Path]],
    progress: Progress,
) -> Merged:
    """The whole merge from what `merge_file` told and the folders it made: what `merge` makes, byte for byte."""
    with planned(base, source, ingredients, out, options=options) as task:
        lay(out, task.recipe(), done)
    return merge(base, source, ingredients, out, options=options, progress=progress)
