"""Exports the graphs that `race.js` gives to onnxruntime-web and LiteRT.js: the base's own network, in float32 and quantized.

    python benchmarks/browser/graphs.py BASE DIR

They are those of `ossia bench engine`: candidates gathered, or TopK, inside of the graph.
"""

import sys
from pathlib import Path

from ossia.adaptation import Base
from ossia.studies.engine_contenders import CANDIDATES, TOP, export_graphs, make_task
from ossia.studies.engine_litert import export_litert


def main() -> None:
    """Write every graph of `ossia bench engine`."""
    path, folder = map(Path, sys.argv[1:])
    folder.mkdir(parents=True, exist_ok=True)
    base = Base.load(path)
    export_graphs(make_task(base), folder)
    export_litert(base, CANDIDATES, TOP, folder)


if __name__ == "__main__":
    main()
