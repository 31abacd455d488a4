"""Codes and bytes: four 2-bit codes to a byte, first channel lowest.

A code names a width in `WIDTHS`: 0 → nothing, 1 → 2 bits, 2 → 4 bits, 3 → 8 bits. Padding bits are zero and the length is
exact, so that one list of codes has one spelling.
"""

from typing import Final

import numpy as np
from jaxtyping import UInt8

from ossia.errors import PayloadError

CODE_SHIFTS: Final = np.array([0, 2, 4, 6], np.uint8)
GATHER: Final = np.uint32(1 << 24 | 1 << 18 | 1 << 12 | 1 << 6)
"""Times four codes in the bytes of a word: they meet in its highest byte, and nothing below them carries into it."""


def pack_codes(codes: UInt8[np.ndarray, " channels"]) -> bytes:
    """Pack 2-bit codes four to a byte, first channel lowest.

    Args:
        codes: one code per channel, 0 … 3.

    Returns:
        ceil(channels / 4) bytes, padding bits zero.

    Example:
        >>> pack_codes(np.array([1, 2, 3], np.uint8)).hex()
        '39'
    """
    fours = np.frombuffer(codes.tobytes() + bytes(-len(codes) % 4), "<u4")
    return (fours * GATHER >> 24).astype(np.uint8).tobytes()


def unpack_codes(packed: bytes, channels: int) -> UInt8[np.ndarray, " channels"]:
    """Undo `pack_codes`; only the canonical spelling is accepted.

    Args:
        packed: exactly ceil(channels / 4) bytes.
        channels: how many codes they hold.

    Returns:
        one code per channel.

    Raises:
        PayloadError: the length is wrong, or a padding bit is set.

    Example:
        >>> unpack_codes(bytes.fromhex("39"), 3)
        array([1, 2, 3], dtype=uint8)
    """
    expected = -(-channels // 4)
    if len(packed) != expected:
        raise PayloadError(f"codes: expected {expected:,} bytes for {channels:,} channels, got {len(packed):,}")
    codes = ((np.frombuffer(packed, np.uint8)[:, None] >> CODE_SHIFTS) & 3).reshape(-1)
    if codes[channels:].any():
        raise PayloadError(f"codes: expected zero padding after {channels:,} channels, got a set bit")
    return codes[:channels]


def pack_bits(bits: UInt8[np.ndarray, " count"]) -> bytes:
    """Pack single bits eight to a byte, first lowest, padding zero.

    Args:
        bits: zeros and ones.

    Returns:
        ceil(count / 8) bytes.

    Example:
        >>> pack_bits(np.array([1, 0, 1], np.uint8)).hex()
        '05'
    """
    return np.packbits(bits, bitorder="little").tobytes()


def unpack_bits(packed: bytes, count: int) -> UInt8[np.ndarray, " count"]:
    """Undo `pack_bits`; only the canonical spelling is accepted.

    Args:
        packed: exactly ceil(count / 8) bytes.
        count: how many bits they hold.

    Returns:
        zeros and ones.

    Raises:
        PayloadError: the length is wrong, or a padding bit is set.
    """
    expected = -(-count // 8)
    if len(packed) != expected:
        raise PayloadError(f"bits: expected {expected:,} bytes for {count:,} bits, got {len(packed):,}")
    bits = np.unpackbits(np.frombuffer(packed, np.uint8), bitorder="little")
    if bits[count:].any():
        raise PayloadError(f"bits: expected zero padding after {count:,} bits, got a set bit")
    return bits[:count]
