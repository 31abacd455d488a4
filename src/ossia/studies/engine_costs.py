"""What a ranking costs with the engine on this machine, part by part: the cost table that latency budgets are read against.

Every figure is a difference of two least times in one process, so it is small and exact rather than large and rough; see
`measure_costs` for which. And a base whose table is far larger than any cache, where what a row costs is what its bytes cost.
"""

from pathlib import Path

import numpy as np

from ossia.adaptation import Adaptation, Base, write_base
from ossia.adaptation.prices import CostTable
from ossia.device import engine as native
from ossia.studies.engine_bench import least_and_late
from ossia.studies.engine_contenders import CANDIDATES, make_task
from ossia.types import Candidates


def measure_costs(base: Base, device: str, repeats: int = 400) -> CostTable:
    """Measure what a ranking costs with the engine here: the table that latency budgets are read against.

        fixed    =  without any gate − 100 rows
        gate     =  all − all without that gate, scaled so that all gates together cost all − fixed
        row      =  (whole table − 100 candidates) / (rows − 100)
        channel  =  (all − without every second inner unit of a feed-forward) / units left out

    The scaling is because gates are not independent: without its last attention, the block before computes one event only.

    Args:
        base: the base.
        device: what is measured, in words.
        repeats: calls for each figure; the least counts.

    Returns:
        the cost table.

    Raises:
        UsageError: the engine was not compiled.
    """
    task, gates, codes = make_task(base), base.manifest.gates, np.full(base.channels, 3, np.uint8)

    def least(adaptation: Adaptation, *, whole: bool = False) -> float:
        ranker = native.engine_ranker(base, adaptation)
        listed = Candidates(np.arange(len(base.table), dtype=np.int32) if whole else task.candidates)
        return least_and_late(lambda: ranker.scores(task.history, listed), repeats)[0]

    everything = least(Adaptation())
    nothing = least(Adaptation(gates=np.zeros(len(gates), np.uint8)))
    row = max(0.0, (least(Adaptation(), whole=True) - everything) / max(1, len(base.table) - CANDIDATES))
    alone = {gate: everything - least(Adaptation(gates=np.array([name != gate for name in gates], np.uint8))) for gate in gates}
    share = max(0.0, everything - nothing) / max(sum(max(0.0, us) for us in alone.values()), 1e-9)
    gates_us, channels_us = {gate: share * max(0.0, us) for gate, us in alone.items()}, {}
    for slot in base.manifest.slots:
        if slot.name.endswith(".expand"):
            thinned, span = codes.copy(), base.spans[slot.name]
            thinned[span.start : span.stop : 2] = 0
            gain = share * max(0.0, everything - least(Adaptation(codes=thinned))) / -(-slot.channels // 2)
            channels_us[slot.name] = min(gain, gates_us[str(slot.gate)] / slot.channels)
            gates_us[str(slot.gate)] -= channels_us[slot.name] * slot.channels  # now counted by the channel
    fixed = max(0.0, nothing - row * CANDIDATES)
    return CostTable(device, f"engine {native.path()}", fixed, gates_us, row, channels_us)


def write_large_base(path: Path, rows: int = 500_000, dim: int = 128) -> Base:
    """Publish an untrained SASRec with a table of random rows: 64 MB at 8 bits as it stands.

    Args:
        path: the base's folder.
        rows: of the table.
        dim: width of a row.

    Returns:
        the base.
    """
    import torch

    from ossia.backbones import BACKBONES

    torch.manual_seed(0)
    model, random = BACKBONES["sasrec"](1, dim=dim), np.random.default_rng(0)
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items() if name != "items.weight"}
    return write_base(
        path,
        backbone="sasrec",
        shape={**model.shape, "items": rows},
        slots=model.slots(),
        gates=model.gates(),
        weights=weights,
        profile_clip=3.0,
        item_vectors=random.standard_normal((rows, dim), np.float32),
        item_ids=[str(row) for row in range(rows)],
        item_counts=np.arange(rows, 0, -1, dtype=np.float32),
    )
