"""Experiments that compare: several trainings side by side, on the same data, judged by one protocol.

peer     another library in an environment and a process of its own
race     time to a validation NDCG@10, ours and the peer's epochs by turns
catalog  which rows of the item table a device should hold: quality against bytes and staleness
chord    personal precision beside all its controls, several runs pooled: material, rows, verdict
engine_bench  the device engine beside torch and onnxruntime, each in a process of its own
"""
