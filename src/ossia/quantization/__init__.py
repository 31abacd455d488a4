"""Codes ↔ bytes, and the nested grid: numpy is the reference, torch (`fake`) its twin for training."""

from ossia.quantization.codes import pack_bits, pack_codes, unpack_bits, unpack_codes
from ossia.quantization.grid import Grid, Panel, fold, quantize, quantize_rows, round_half_away

__all__ = [
    "Grid",
    "Panel",
    "fold",
    "pack_bits",
    "pack_codes",
    "quantize",
    "quantize_rows",
    "round_half_away",
    "unpack_bits",
    "unpack_codes",
]
