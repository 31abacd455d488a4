"""What each structure of a base costs with the engine on this machine, beside what the cost table says.

    python benchmarks/structures.py BASE [--repeats 2000]

Blocks are not independent: without its last attention, a SASRec computes what lies before for one event only. A cost table has
one price a block, so that budgets are kept; this is what a structure really takes. 100 candidates, the least of all calls.
"""

import argparse
from itertools import product
from pathlib import Path

import numpy as np

from ossia.adaptation import Adaptation, Base, costs
from ossia.device import engine as native
from ossia.studies.engine_bench import least_and_late
from ossia.studies.engine_contenders import make_task
from ossia.studies.engine_costs import measure_costs
from ossia.types import Candidates


def main() -> None:
    """Time every structure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("base", type=Path)
    parser.add_argument("--repeats", type=int, default=2000)
    asked = parser.parse_args()
    base = Base.load(asked.base)
    table, task = measure_costs(base, "here", asked.repeats), make_task(base)
    found = {}
    for kept in product((0, 1), repeat=len(base.manifest.gates)):
        ranker = native.engine_ranker(base, Adaptation(gates=np.array(kept, np.uint8)))
        found[kept] = least_and_late(lambda r=ranker: r.scores(task.history, Candidates(task.candidates)), asked.repeats)[0]
    whole = max(found.values())
    print(f"{' '.join(base.manifest.gates)}: µs, of the slowest, by the cost table (with the whole catalog's rows)")
    for kept, took in sorted(found.items(), key=lambda pair: pair[1]):
        told = costs(base, Adaptation(gates=np.array(kept, np.uint8)), cost_table=table).latency_us
        print(f"  {kept}: {took:6.1f}  {took / whole:4.0%}  {told:6.1f}")


if __name__ == "__main__":
    main()
