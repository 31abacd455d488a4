"""Writes the cases of `tests/vectors/vectors.json` as plain lines, for a C program without a JSON reader: stdin → stdout."""

import json
import sys

told = json.load(sys.stdin)
print("bound", told.get("bound", 1e-5))
for name, adaptation in told["adaptations"].items():
    print("payload", adaptation["payload"], adaptation["folded_sha256"])
    for case in (case for case in told["cases"] if case["adaptation"] == name):
        history, expected = told["histories"][case["history"]], case["numpy_int8"]
        scores = ["-inf" if score is None else score for score in expected["scores"]]
        counted = [len(history), *history, len(scores), *told["candidates"], len(expected["state"])]
        print("case", *counted, *expected["state"], *scores, *expected["ranking"])
