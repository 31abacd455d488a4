"""Drawings made of plain SVG and CSS: the codes of users, and a bar with its interval.

**Codes.** A user's codes are a picture: one cell a channel, 64 to a line, one band of lines a slot, from dark (8 bits) to the
color of the page (0 bits). What is the same in all users' pictures is drawn pale, so that what is left in full color is
what is personal. Cells of one width are one path, which keeps a picture of 1,152 channels in a few kilobytes.

Colors are CSS variables: `--width-0`, `--width-2`, `--width-4`, `--width-8`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from jaxtyping import Bool, Int, UInt8

from ossia.errors import UsageError
from ossia.evaluation.bootstrap import Interval
from ossia.types import WIDTHS, Slot

_WIDE, _HIGH, _ACROSS, _LEFT, _RIGHT, _GAP = 5, 10, 64, 56, 24, 4


@dataclass(frozen=True, eq=False)
class UserCodes:
    """The codes that were made for one user.

    Attributes:
        name: whose codes.
        note: such as the budget and the bytes of the payload.
        codes: 0 … 3, naming `WIDTHS`; every slot's channels after the other's, in wire order.
    """

    name: str
    note: str
    codes: UInt8[np.ndarray, " channels"]


def draw_codes(slots: Sequence[Slot], users: Sequence[UserCodes]) -> list[str]:
    """Draw every user's codes; channels in which all users agree are pale.

    Args:
        slots: name, channels and inputs of every slot, in wire order.
        users: whose codes.

    Returns:
        one SVG element per user.

    Raises:
        UsageError: codes of another length than the slots have channels.
    """
    channels = sum(slot.channels for slot in slots)
    for user in users:
        if len(user.codes) != channels:
            raise UsageError(f"codes of {user.name}: expected {channels:,} channels, got {len(user.codes):,}")
    agree = np.ptp([user.codes for user in users], axis=0) == 0 if len(users) > 1 else np.zeros(channels, bool)
    return [_draw_user(slots, user, agree) for user in users]


def average_bits(slots: Sequence[Slot], codes: UInt8[np.ndarray, " channels"]) -> float:
    """Bits per weight, averaged over all weights of the slots.

    Args:
        slots: name, channels and inputs of every slot, in wire order.
        codes: 0 … 3 per channel.

    Returns:
        0 … 8.

    Example:
        >>> average_bits([Slot("query", 2, 10), Slot("contract", 1, 20)], np.array([1, 3, 2], np.uint8))
        4.5
    """
    inputs = np.concatenate([np.full(slot.channels, slot.inputs) for slot in slots])
    return float(np.average(np.array(WIDTHS)[codes], weights=inputs))


def draw_interval(interval: Interval, most: float, family: str) -> str:
    """Draw a mean as a bar from 0, with its interval as a whisker.

    Args:
        interval: mean, low and high.
        most: what the whole width of the cell stands for; above 0.
        family: of the row, gives the color.

    Returns:
        an HTML element.
    """
    mean, low, high = (100 * max(0.0, value) / most for value in (interval.mean, interval.low, interval.high))
    return (
        f'<span class="track {family}" aria-hidden="true"><i style="width:{mean:.2f}%"></i>'
        f'<b style="left:{low:.2f}%;width:{high - low:.2f}%"></b></span>'
    )


def _draw_user(slots: Sequence[Slot], user: UserCodes, agree: Bool[np.ndarray, " channels"]) -> str:
    """One user's picture: labels on the left, cells, average bits of each slot on the right."""
    tops, height = _tops(slots)
    across, down = _positions(slots, tops)
    parts = []
    for code, width in enumerate(WIDTHS):
        for alike in (True, False):
            here = (user.codes == code) & (agree == alike)
            if here.any():
                kind = f"width-{width} alike" if alike else f"width-{width}"
                parts.append(f'<path class="{kind}" d="{_cells(across[here], down[here])}"/>')
    starts = np.cumsum([0, *(slot.channels for slot in slots)])
    for slot, top, start in zip(slots, tops, starts, strict=False):
        bits = average_bits([slot], user.codes[start : start + slot.channels])
        parts.append(f'<text x="{_LEFT - 5}" y="{top + 8}" text-anchor="end">{escape(slot.name.rpartition(".")[2])}</text>')
        parts.append(f'<text class="bits" x="{_LEFT + _ACROSS * _WIDE + 4}" y="{top + 8}">{bits:.1f}</text>')
    parts += [f'<text class="group" x="0" y="{top}">{escape(name)}</text>' for name, top in _groups(slots, tops)]
    total = _LEFT + _ACROSS * _WIDE + _RIGHT
    label = escape(f"codes of {user.name}, {average_bits(slots, user.codes):.2f} bits on average")
    return f'<svg class="codes" viewBox="0 0 {total} {height}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _tops(slots: Sequence[Slot]) -> tuple[list[int], int]:
    """Where each slot's band begins, and how high the picture is; a new block leaves room for its name."""
    tops: list[int] = []
    y, group = 0, None
    for slot in slots:
        if (new := slot.name.rpartition(".")[0]) != group:
            y, group = y + (24 if tops else 16), new
        tops.append(y)
        y += -(-slot.channels // _ACROSS) * _HIGH + _GAP
    return tops, y


def _groups(slots: Sequence[Slot], tops: Sequence[int]) -> list[tuple[str, int]]:
    """The name of each block, and the baseline on which it is written."""
    names = [slot.name.rpartition(".")[0] for slot in slots]
    return [(name, top - 7) for i, (name, top) in enumerate(zip(names, tops, strict=True)) if i == 0 or names[i - 1] != name]


def _positions(slots: Sequence[Slot], tops: Sequence[int]) -> tuple[Int[np.ndarray, " channels"], Int[np.ndarray, " channels"]]:
    """Upper left corner of every channel's cell."""
    within = np.concatenate([np.arange(slot.channels) for slot in slots])
    top = np.concatenate([np.full(slot.channels, y) for slot, y in zip(slots, tops, strict=True)])
    return _LEFT + within % _ACROSS * _WIDE, top + within // _ACROSS * _HIGH


def _cells(across: Int[np.ndarray, " cells"], down: Int[np.ndarray, " cells"]) -> str:
    """One path of squares, a little smaller than their cells."""
    width, height = _WIDE - 0.6, _HIGH - 0.6
    return "".join(f"M{x} {y}h{width}v{height}h-{width}z" for x, y in zip(across.tolist(), down.tolist(), strict=True))
