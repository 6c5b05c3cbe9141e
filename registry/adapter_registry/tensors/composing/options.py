"""What a method of composing is told beside the deltas."""

from __future__ import annotations

from dataclasses import dataclass

from adapter_registry.domain.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class How:
    """See `compose_methods.METHODS` for which method heeds what.

    Attributes:
        weights: w_i, one for each delta; negative ones take a delta away.
        keys: a seed for each delta.
        density: share of the entries that stay, 0 to 1; None where the method keeps all.
        spread: how far DELLA's probabilities lie around the density; None is what the dialect has.
        outliers: share of the largest magnitudes that breadcrumbs leaves out.
        scale: what the result is multiplied by (λ).
        election: PEFT's TIES elects signs by `total` or by `frequency`.
        normalise: divide by the sum of weights, in mergekit's dialects; None is that method's default there.
    """

    weights: tuple[float, ...]
    keys: tuple[int, ...] = ()
    density: float | None = None
    spread: float | None = None
    outliers: float = 0.01
    scale: float = 1.0
    election: str = "total"
    normalise: bool | None = None

    @property
    def share(self) -> float:
        """The density of a method that has to be given one."""
        if self.density is None:
            raise InvalidInput("this method leaves entries out: say how many stay with --density, 0 to 1.")
        return self.density


def check(how: How) -> None:
    """Refuse values out of range.

    Raises:
        InvalidInput: which one, and its range.
    """
    if how.density is not None and not 0 <= how.density <= 1:
        raise InvalidInput(f"--density is a share of the entries, 0 to 1, not {how.density:g}.")
    if not 0 <= how.outliers < 1:
        raise InvalidInput(f"--outliers is a share of the entries, at least 0 and below 1, not {how.outliers:g}.")
    if how.spread is not None and not 0 <= how.spread < 1:
        raise InvalidInput(f"--spread is at least 0 and below 1, not {how.spread:g}.")
    if how.election not in ("total", "frequency"):
        raise InvalidInput(f"--election is total or frequency, not {how.election!r}.")


def check_spread(density: float, spread: float) -> None:
    """DELLA's probabilities have to be probabilities; raises InvalidInput."""
    if density < 1 and not 0 < density - spread <= density + spread < 1:
        raise InvalidInput(
            f"with density {density:g} and a spread of {spread:g} to each side, some entries would stay with a "
            "probability outside of 0 to 1; choose a smaller --spread."
        )
