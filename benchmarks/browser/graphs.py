"""Exports the graphs that `race.js` gives to onnxruntime-web: the base's own network, in float32 and three times quantized.

    python benchmarks/browser/graphs.py BASE DIR

They are those of `ossia bench engine`: candidates gathered, or TopK, inside of the graph.
"""

import sys
from pathlib import Path

from ossia.adaptation import Base
from ossia.studies.engine_bench import export_graphs, make_task


def main() -> None:
    """Write every graph of `ossia bench engine`."""
    base, folder = map(Path, sys.argv[1:])
    folder.mkdir(parents=True, exist_ok=True)
    export_graphs(make_task(Base.load(base)), folder)


if __name__ == "__main__":
    main()
