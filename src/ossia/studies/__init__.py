"""Experiments that compare: several trainings side by side, on the same data, judged by one protocol.

    race · peer       time to a validation NDCG@10, epochs by turns with another library in a process of its own
    catalog           which rows of the item table a device should hold: quality against bytes and staleness
    chord             personal precision beside all its controls: material, point, desk, rows, verdict
    forward_ofa       a structure and weights of one's own, and each part of it left out; fine-tuning on the device
    widths            is one master as good at 2 bits as a model trained for 2 bits?
    engine_bench      the device engine beside torch, onnxruntime and LiteRT, each in a process of its own

`runs` and `judged_rows` are what studies share: a run is known by its folder's name, and a row that was judged is written down.
"""
