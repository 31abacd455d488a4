"""What an adaptation costs a device: bytes to fetch, bytes at rest, microseconds.

    weight_bytes     base at rest: for each channel in use its planes, scale and bias; norms and positions; the codes
    table_bytes      for each row held its planes, scale and id; the rows of the device's own history at 8 bits; the tail
    download_bytes   the payload, and the planes, scales, ids and floats that are not on the device yet
    latency_us       by a measured table: fixed + gates that run + channels kept + rows to score

The same prices (`prices.py`) are added up here and spent in `allocate.py`, so that what is promised is what is counted.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from ossia.adaptation.adaptation import Adaptation
from ossia.adaptation.base import Base
from ossia.adaptation.payload import HEADER, SIGNATURE_BYTES
from ossia.adaptation.prices import (
    WHOLE,
    CostTable,
    Prices,
    channel_prices,
    fixed_download,
    fixed_latency,
    fixed_table,
    fixed_weight,
    or_top,
    row_prices,
)
from ossia.adaptation.sections import DIGEST_BYTES, encode_delta, encode_row_lists


@dataclass(frozen=True)
class Costs:
    """What one adaptation costs; fields are those of `Budget`, and the payload by itself."""

    download_bytes: int
    weight_bytes: int
    table_bytes: int
    payload_bytes: int
    latency_us: float | None


@dataclass(frozen=True, eq=False)
class PriceList:
    """What every width of everything costs one device; made once, asked for many adaptations.

    Attributes:
        base: the base.
        on_device: whose planes and rows are on the device already; None: a fresh device that has nothing.
        cost_table: the device's measured microseconds, if any.
        gates: which blocks run; None: all.
        channels: prices of the channels, in wire order.
        rows: prices of the rows, in the table's order.
    """

    base: Base
    on_device: Adaptation | None
    cost_table: CostTable | None
    gates: UInt8[np.ndarray, " gates"] | None
    channels: Prices
    rows: Prices

    def costs(self, adaptation: Adaptation, *, signed: bool = False) -> Costs:
        """Add up what an adaptation costs.

        Args:
            adaptation: with the gates that the list was made for.
            signed: count a signature.

        Returns:
            the costs.
        """
        base = self.base
        codes, rows = or_top(adaptation.codes, base.channels), or_top(adaptation.rows, len(base.table))
        payload = payload_bytes(base, adaptation, signed=signed)
        fetched = _pick(self.channels.download, codes) + _pick(self.rows.download, rows)
        latency = None
        if self.cost_table is not None:
            fixed = fixed_latency(base, self.gates, self.cost_table)
            latency = fixed + float(_pick(self.channels.latency, codes) + _pick(self.rows.latency, rows))
        return Costs(
            download_bytes=int(payload + fixed_download(base, self.on_device, adaptation.rows is not None) + fetched),
            weight_bytes=int(fixed_weight(base, adaptation.codes is not None) + _pick(self.channels.rest, codes)),
            table_bytes=int(fixed_table(base, adaptation.rows is not None) + _pick(self.rows.rest, rows)),
            payload_bytes=payload,
            latency_us=latency,
        )


def price_list(
    base: Base,
    *,
    gates: UInt8[np.ndarray, " gates"] | None = None,
    on_device: Adaptation | None = WHOLE,
    cost_table: CostTable | None = None,
) -> PriceList:
    """Price every width of every channel and row for one device.

    Args:
        base: the base.
        gates: which blocks run; None: all.
        on_device: what is there already; None: nothing.
        cost_table: microseconds, if measured.

    Returns:
        the list.
    """
    channels, rows = channel_prices(base, gates, on_device, cost_table), row_prices(base, on_device, cost_table)
    return PriceList(base, on_device, cost_table, gates, channels, rows)


def costs(
    base: Base,
    adaptation: Adaptation,
    *,
    on_device: Adaptation | None = WHOLE,
    cost_table: CostTable | None = None,
    signed: bool = False,
) -> Costs:
    """Price one adaptation.

    Args:
        base: the base that it is for.
        adaptation: what to price.
        on_device: whose planes and rows are on the device already; None: a fresh device that has nothing.
        cost_table: the device's measured microseconds; without it there is no latency.
        signed: count a signature.

    Returns:
        the costs.
    """
    return price_list(base, gates=adaptation.gates, on_device=on_device, cost_table=cost_table).costs(adaptation, signed=signed)


def payload_bytes(base: Base, adaptation: Adaptation, *, signed: bool = False) -> int:
    """Count the payload's bytes without making it (the digest of the rows is the expensive part).

    Args:
        base: the base that it is for.
        adaptation: what it would carry.
        signed: count a signature.

    Returns:
        exactly the length that `encode_payload` gives.
    """
    total = HEADER.size + (SIGNATURE_BYTES if signed else 0)
    if adaptation.gates is not None:
        total += -(-len(adaptation.gates) // 8)
    if adaptation.codes is not None:
        total += -(-len(adaptation.codes) // 4)
    if adaptation.deltas:
        total += len(encode_delta(base, adaptation))
    if adaptation.rows is not None:
        total += 1 + len(encode_row_lists(adaptation.rows)) + DIGEST_BYTES
    return total


def _pick(
    prices: Int64[np.ndarray, "things 4"] | Float64[np.ndarray, "things 4"], codes: UInt8[np.ndarray, " things"]
) -> float:
    """Add up the cost of the widths chosen."""
    return float(prices[np.arange(len(codes)), codes].sum())
