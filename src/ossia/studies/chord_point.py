"""An operating point of the study of CHORD, as it is typed: widths, an average, and what else is rounded.

2,4,8@3           channels at 2, 4 or 8 bits, 3 bits a weight on average
2,4,8@3t4         … and every item row at 4 bits
2,4,8@3a8         … and what every slot reads at 8 bits
"""

import re
from typing import NamedTuple

from ossia.errors import UsageError
from ossia.types import WIDTHS


class Point(NamedTuple):
    """Where a study looks.

    Attributes:
        alphabet: widths that a channel may have, rising.
        bits: of a weight, on average.
        activations: bits of what every slot reads; None: float32.
        table: bits of an item row, scored or read.
    """

    alphabet: tuple[int, ...]
    bits: float
    activations: int | None = None
    table: int = 8

    @classmethod
    def parse(cls, text: str) -> "Point":
        """Read a point as it is typed.

        Args:
            text: such as `2,4,8@3`; `2,4,8@3t4` for an item table at 4 bits, `2,4,8@3a8` for activations at 8.

        Returns:
            the point.

        Raises:
            UsageError: it is none.
        """
        found = re.fullmatch(r"(\d(?:,\d)+)@(\d+(?:\.\d+)?)(?:t([24]))?(?:a([2-8]))?", text)
        alphabet = tuple(map(int, found[1].split(","))) if found else ()
        bits = float(found[2]) if found else -1.0
        if not found or not set(alphabet) <= set(WIDTHS) or list(alphabet) != sorted(set(alphabet)):
            raise UsageError(f"point: expected widths out of {WIDTHS}, rising, and an average, such as 2,4,8@3; got {text!r}")
        if not alphabet[0] <= bits <= alphabet[-1]:
            raise UsageError(f"point: expected an average from {alphabet[0]} to {alphabet[-1]} bits, got {bits:g}")
        return cls(alphabet, bits, int(found[4]) if found[4] else None, int(found[3] or 8))

    @property
    def rounds(self) -> str:
        """Say what it rounds beside channels: nothing, as a rule.

        Example:
            >>> Point.parse("2,4,8@3t4a8").rounds
            'item rows and activations'
        """
        return " and ".join(["item rows"] * (self.table < 8) + ["activations"] * bool(self.activations))

    def __str__(self) -> str:
        """Write it as it is typed."""
        table = f"t{self.table}" if self.table < 8 else ""
        activations = f"a{self.activations}" if self.activations else ""
        return f"{','.join(map(str, self.alphabet))}@{self.bits:g}{table}{activations}"
