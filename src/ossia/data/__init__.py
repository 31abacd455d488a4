"""Logs → histories: reading, filtering, numbering, splitting; data sets by name; users made up.

log = read_log("ratings.csv")                       any layout, files or a frame → user, item, time
data = prepare(log, min_user=5, min_item=5)         k-core, order, row numbers, identity
data.save("DATA"); data = Dataset.load("DATA")
split = data.split()                                train, validation, test, as settled by `prepare`
"""

from ossia.data.dataset import Counts, DataInfo, Dataset
from ossia.data.datasets import DATASETS, fetch
from ossia.data.global_time import Cuts, check_no_leak, choose_cuts, global_time
from ossia.data.histories import Histories
from ossia.data.interactions import RECOGNIZED, read_log
from ossia.data.prepare import prepare
from ossia.data.splits import Cases, Split, item_counts, leave_one_out, with_validation
from ossia.data.synthetic import synthetic
from ossia.data.titles import read_titles

__all__ = [
    "DATASETS",
    "RECOGNIZED",
    "Cases",
    "Counts",
    "Cuts",
    "DataInfo",
    "Dataset",
    "Histories",
    "Split",
    "check_no_leak",
    "choose_cuts",
    "fetch",
    "global_time",
    "item_counts",
    "leave_one_out",
    "prepare",
    "read_log",
    "read_titles",
    "synthetic",
    "with_validation",
]
