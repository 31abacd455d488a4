"""Judging any ranker: full ranking, intervals, baselines, controls, the table of results and the report.

    target_ranks / judge     the protocol: the whole catalog, seen items removed, ties against us
    list_ranks     other protocols, under other names: given lists with their candidate recall, sampled negatives
    bootstrap_mean, paired_bootstrap     how sure we are
    Popularity, MarkovBigram, ItemKNN     what every table must hold
    controls     what a personal thing must beat
    results, table, report     rows; for people and programs; as one HTML file

No torch here: a ranker is anything with `scores(history, candidates)`.
"""

from ossia.evaluation.baselines import MarkovBigram, Popularity, recent_counts
from ossia.evaluation.bootstrap import Interval, as_share, bootstrap_mean, paired_bootstrap
from ossia.evaluation.item_knn import ItemKNN
from ossia.evaluation.lists import candidate_recall, draw_lists, list_ranks, sampled_hr_at_k, sampled_ndcg_at_k
from ossia.evaluation.metrics import hr_at_k, mrr_at_k, ndcg_at_k, target_rank
from ossia.evaluation.protocol import Judgement, judge, pool_seeds, rank_batches, repeat_share, target_ranks
from ossia.evaluation.results import Comparison, Provenance, Row, compare, make_row, with_bytes

__all__ = [
    "Comparison",
    "Interval",
    "ItemKNN",
    "Judgement",
    "MarkovBigram",
    "Popularity",
    "Provenance",
    "Row",
    "as_share",
    "bootstrap_mean",
    "candidate_recall",
    "compare",
    "draw_lists",
    "hr_at_k",
    "judge",
    "list_ranks",
    "make_row",
    "mrr_at_k",
    "ndcg_at_k",
    "paired_bootstrap",
    "pool_seeds",
    "rank_batches",
    "recent_counts",
    "repeat_share",
    "sampled_hr_at_k",
    "sampled_ndcg_at_k",
    "target_rank",
    "target_ranks",
    "with_bytes",
]
