"""What each width of each thing costs: bytes to fetch, bytes at rest, microseconds, for every channel and row at once.

A channel's planes cost ceil(n / 4) bytes for the top two bits, as much for the next two, ceil(n / 2) for the last four, of n
weights; beside them a channel in use has 4 bytes of scale and 4 of bias, a row that is held 4 bytes of scale and 4 of id.
`cost.py` adds these up for an adaptation, `allocate.py` spends a budget on them.
"""

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from jaxtyping import Float64, Int64, UInt8

from ossia.adaptation.adaptation import Adaptation
from ossia.adaptation.base import Base
from ossia.errors import ArtifactError
from ossia.quantization.grid import plane_bytes
from ossia.types import WIDTHS

CHANNEL_BYTES = 8  # scale and bias
ROW_BYTES = 8  # scale and id


WHOLE = Adaptation()
"""A device that has every plane of the base and every row."""


class CostTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Microseconds measured on one device with one runtime.

    Attributes:
        device: what was measured, in words.
        runtime: with which runtime.
        fixed_us: what every ranking costs.
        gates_us: what each block that runs adds, by gate.
        row_us: what each row scored adds.
        channels_us: what each kept channel of a slot adds, by slot; only for slots whose channels can really be dropped.
    """

    device: str
    runtime: str
    fixed_us: float
    gates_us: dict[str, float]
    row_us: float
    channels_us: dict[str, float] = {}

    @classmethod
    def load(cls, path: Path) -> "CostTable":
        """Read what `ossia bench engine BASE --cost-table FILE` wrote.

        Args:
            path: the file.

        Returns:
            the table.

        Raises:
            ArtifactError: the file is missing, or no cost table.
        """
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except OSError as error:
            raise ArtifactError(f"{path}: expected a cost table, got {error.strerror or error}") from error
        except msgspec.MsgspecError as error:
            raise ArtifactError(f"{path}: expected a cost table, got: {error}") from error


@dataclass(frozen=True, eq=False)
class Prices:
    """Cost of each width for each of many things of one kind (channels, or rows), a column for each code 0 … 3.

    Attributes:
        download: bytes to fetch for that width, beyond what is on the device.
        rest: bytes at rest.
        latency: microseconds; zeros without a cost table.
    """

    download: Int64[np.ndarray, "things 4"]
    rest: Int64[np.ndarray, "things 4"]
    latency: Float64[np.ndarray, "things 4"]


def channel_prices(
    base: Base, gates: UInt8[np.ndarray, " gates"] | None, on_device: Adaptation | None, cost_table: CostTable | None
) -> Prices:
    """Price every width of every channel; channels of a skipped block cost nothing at any width.

    Args:
        base: the base.
        gates: which blocks run; None: all.
        on_device: what is there already; None: nothing.
        cost_table: microseconds, if measured.

    Returns:
        the prices, channels in wire order.
    """
    slots = base.manifest.slots
    runs = dict(
        zip(base.manifest.gates, [True] * len(base.manifest.gates) if gates is None else (gates > 0).tolist(), strict=True)
    )
    per_slot = np.array([[plane_bytes(slot.inputs, bits) for bits in WIDTHS] for slot in slots])
    counts = [slot.channels for slot in slots]
    planes = np.repeat(per_slot, counts, axis=0)
    live = np.repeat([runs.get(slot.gate or "", True) for slot in slots], counts)[:, None]
    held = _held(on_device, None if on_device is None else on_device.codes, base.channels)
    per_channel = np.repeat(
        [0.0 if cost_table is None else cost_table.channels_us.get(slot.name, 0.0) for slot in slots], counts
    )
    return Prices(
        live * _missing(planes, held, scale=4),
        live * (planes + CHANNEL_BYTES * (planes > 0)),
        live * per_channel[:, None] * (planes > 0),
    )


def row_prices(base: Base, on_device: Adaptation | None, cost_table: CostTable | None) -> Prices:
    """Price every width of every row of the table.

    Args:
        base: the base, with its table.
        on_device: what is there already; None: nothing.
        cost_table: microseconds, if measured.

    Returns:
        the prices, rows in the table's order.
    """
    dim = base.table.grid.q.shape[1]
    planes = np.tile([plane_bytes(dim, bits) for bits in WIDTHS], (len(base.table), 1))
    held = _held(on_device, None if on_device is None else on_device.rows, len(base.table))
    download = _missing(planes, held, scale=4) + 4 * ((planes > 0) & (held[:, None] == 0))
    latency = (planes > 0) * (0.0 if cost_table is None else cost_table.row_us)
    return Prices(download, planes + ROW_BYTES * (planes > 0), latency)


def fixed_weight(base: Base, has_codes: bool) -> int:
    """Count the base's bytes at rest that no width changes: norms, positions, the basis, and the codes where there are any.

    Args:
        base: the base.
        has_codes: whether the device keeps a code per channel.

    Returns:
        bytes.
    """
    biases = {f"{slot.name}.bias" for slot in base.manifest.slots}
    floats = sum(array.nbytes for name, array in base.floats.items() if name not in biases)
    return floats + basis_bytes(base) + (-(-base.channels // 4) if has_codes else 0)


def basis_bytes(base: Base) -> int:
    """Count the bytes of the directions that deltas can have coordinates in.

    Args:
        base: the base.

    Returns:
        bytes; 0 without a basis.
    """
    return sum(each.left.nbytes + each.right.nbytes for each in base.basis.values())


def fixed_table(base: Base, is_slice: bool) -> int:
    """Count what a device keeps beside the rows chosen for it: its own history's at 8 bits, and the tail if there is one.

    With the whole table held, rows of the history are rows like any other, and nothing is left for a tail to score.

    Args:
        base: the base; its `length` is the most that a history can be.
        is_slice: whether the device holds a part of the table only.

    Returns:
        bytes.
    """
    if not is_slice:
        return 0
    dim = base.table.grid.q.shape[1]
    return base.manifest.shape["length"] * (plane_bytes(dim, 8) + ROW_BYTES) + tail_bytes(base)


def tail_bytes(base: Base) -> int:
    """Count the bytes of the table's coarse tail.

    Args:
        base: the base with its table.

    Returns:
        bytes; 0 without a tail.
    """
    return base.table.tail.nbytes if base.table.tail is not None else 0


def fixed_download(base: Base, on_device: Adaptation | None, is_slice: bool) -> int:
    """Count what a device fetches whatever the widths are: if it is fresh all floats and the basis; the tail if it lacks rows.

    Args:
        base: the base.
        on_device: what is there already; None: nothing. Who has a part of the table only has the tail too.
        is_slice: whether the device will hold a part of the table only.

    Returns:
        bytes.
    """
    tail = tail_bytes(base) if is_slice and (on_device is None or on_device.rows is None) else 0
    floats = sum(array.nbytes for array in base.floats.values()) + basis_bytes(base)
    return tail + (floats if on_device is None else 0)


def fixed_latency(base: Base, gates: UInt8[np.ndarray, " gates"] | None, cost_table: CostTable) -> float:
    """Add up the microseconds that no width changes: the fixed part and the blocks that run.

    Args:
        base: the base.
        gates: which blocks run; None: all.
        cost_table: measured on the device.

    Returns:
        microseconds.
    """
    names = base.manifest.gates
    runs = np.ones(len(names)) if gates is None else gates
    return cost_table.fixed_us + sum(
        cost_table.gates_us.get(name, 0.0) * int(run) for name, run in zip(names, runs, strict=True)
    )


def block_latency(base: Base, cost_table: CostTable) -> dict[str, float]:
    """Say what each block adds with every channel kept.

    Args:
        base: the base.
        cost_table: measured on the device.

    Returns:
        microseconds, by gate.
    """
    found = {gate: cost_table.gates_us.get(gate, 0.0) for gate in base.manifest.gates}
    for slot in base.manifest.slots:
        if slot.gate is not None:
            found[slot.gate] += cost_table.channels_us.get(slot.name, 0.0) * slot.channels
    return found


def or_top(codes: UInt8[np.ndarray, " things"] | None, count: int) -> UInt8[np.ndarray, " things"]:
    """Return codes, or 8 bits for everything.

    Args:
        codes: one width code per thing; None: all at 8 bits.
        count: how many things there are.

    Returns:
        one code per thing.
    """
    return np.full(count, 3, np.uint8) if codes is None else codes


def _held(on_device: Adaptation | None, codes: UInt8[np.ndarray, " things"] | None, count: int) -> UInt8[np.ndarray, " things"]:
    """Return the widths' codes that are on the device; rows that came with a newer table are not."""
    if on_device is None:
        return np.zeros(count, np.uint8)
    return np.pad(or_top(codes, count), (0, count - (count if codes is None else len(codes))))


def _missing(
    planes: Int64[np.ndarray, "things 4"], held: UInt8[np.ndarray, " things"], scale: int
) -> Int64[np.ndarray, "things 4"]:
    """Count the bytes to fetch for each width: the planes above those held, and the scale of the new width."""
    more = planes - planes[np.arange(len(held)), held][:, None]
    return np.where(more > 0, more + scale, 0)
