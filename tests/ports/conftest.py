"""Vectors that are wide enough for every vector loop of a port, and fit none of them: 76 is 64 and 12, 100 is 96 and 4."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

VECTORS = Path(__file__).parents[1] / "vectors"
SHAPE = {"items": 13, "dim": 76, "length": 6, "blocks": 2, "heads": 2, "hidden": 100}


@pytest.fixture(scope="session", params=["sasrec", "valves"])
def wide_vectors(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a base and its vectors; states only within a hundredth, for here a last digit may turn an activation over."""
    make, folder = runpy.run_path(str(VECTORS / "make.py")), tmp_path_factory.mktemp("wide")
    make["SHAPES"][request.param].update(SHAPE)
    base = make["make_base"](folder / "base", request.param)
    cases = []
    adaptations = make["make_adaptations"](base)
    for name, adaptation in adaptations.items():
        ranker = make["NUMPY"]["numpy_int8"](base, adaptation)
        for said, history in make["HISTORIES"].items():
            told = {"state": ranker.state(np.array(history, np.int32)).tolist(), "scores": [], "ranking": []}
            cases.append({"adaptation": name, "history": said, "numpy_int8": told})
    described = {name: make["describe"](base, adaptation) for name, adaptation in adaptations.items()}
    vectors = {"bound": 0.01, "histories": make["HISTORIES"], "candidates": [], "adaptations": described, "cases": cases}
    (folder / "vectors.json").write_text(json.dumps(vectors))
    return folder
