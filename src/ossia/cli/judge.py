"""The command `evaluate`: every row of the table goes through the device path, and stands beside its controls."""

import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ossia.cli.learn import RUN_FILE
from ossia.cli.options import BudgetOption, CostTableOption, JsonOption, RuntimeOption
from ossia.cli.output import answer, say, watch
from ossia.errors import UsageError

if TYPE_CHECKING:
    import ossia.adaptation
    import ossia.cli.lists
    import ossia.data
    import ossia.evaluation
    import ossia.service.contenders
    import ossia.training


def evaluate(
    data: Annotated[Path, typer.Option("--data", metavar="DATA", help="What it was trained on, from `prepare`.")],
    model: Annotated[
        Path | None,
        typer.Argument(metavar="[BASE|RUN]", help="A published base, or a run not yet published; left out: baselines alone."),
    ] = None,
    run: Annotated[Path | None, typer.Option("--run", help="Beside a base: its backbone in float32, from `train`.")] = None,
    personalizer: Annotated[str | None, typer.Option("--personalizer", metavar="NAME", help="Add personal rows.")] = None,
    budget: BudgetOption = "",
    cost_table: CostTableOption = None,
    candidates: Annotated[
        Path | None,
        typer.Option("--candidates", metavar="FILE", help="Rank given lists instead: lines of a user's id, then item ids."),
    ] = None,
    sampled_negatives: Annotated[
        int | None,
        typer.Option("--sampled-negatives", min=1, metavar="N", help="Rank among N drawn items instead, as old papers do."),
    ] = None,
    keep_seen: Annotated[bool, typer.Option("--keep-seen", help="Offer what is in the history again.")] = False,
    validation: Annotated[bool, typer.Option("--validation", help="Judge validation events: for choosing.")] = False,
    most: Annotated[int | None, typer.Option("--cases", min=1, help="Draw this many users: a quick look.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of intervals, of draws, of who gets whose codes.")] = 0,
    runtime: RuntimeOption = "numpy",
    as_json: JsonOption = False,
) -> None:
    """Rank the whole catalog for every held-out event: a base on the device's own path, or a run in float32, beside baselines.

    Without --budget, personal codes get the weight bytes of about three bits a channel, generated weights have no limit.

    Example: ossia evaluate base --data data --run run --personalizer chord --budget weight_bytes=48000

    Example: ossia evaluate run --data data

    Example: ossia evaluate base --data data --candidates candidates.txt
    """
    from ossia.cli.lists import Wanted, make_task, remark
    from ossia.data import Dataset
    from ossia.evaluation.lists import GivenOrder
    from ossia.evaluation.table import json_table, rich_table
    from ossia.service.contenders import Contender, baselines
    from ossia.service.provenance import make_provenance
    from ossia.service.trial import compare_personal, make_row_of

    dataset = Dataset.load(data)
    base, run = (None, model) if model is not None and is_run(model) else (model, run)
    if base is None and (personalizer or budget):
        raise UsageError("evaluate: expected a base for --personalizer and --budget, got none")
    loaded = None if base is None else _load(base, data, dataset)
    trained = None if run is None else _load_run(run, dataset.hash)
    split = _split_for(dataset, loaded, trained, validation=validation, named=model)
    wanted = Wanted(candidates, sampled_negatives, keep_seen, most, seed)
    task = make_task(split.validation if validation else split.test, dataset, wanted)
    contenders = chain(
        () if candidates is None else (Contender("the order given", "baseline", GivenOrder()),),
        baselines(split, dataset.items),
        () if trained is None else (_trained(trained),),
        () if loaded is None else _of_base(loaded, task.cases, personalizer, (budget, cost_table), seed, runtime),
    )
    judged = _judge(contenders, task, dataset.items, keep_seen=keep_seen)
    rows = [make_row_of(contender, judgement, seed=seed) for contender, judgement in judged]
    comparisons = compare_personal({judgement.name: judgement for _, judgement in judged}, seed=seed)
    if as_json:
        command = shlex.join(["ossia", *sys.argv[1:]])
        provenance = make_provenance(command, seeds=(seed,), data=str(data), data_hash=dataset.hash)
        typer.echo(json_table(rows, provenance, comparisons).decode(), nl=False)
        return
    events = "validation" if validation else "test"
    table = rich_table(rows, title=f"{len(task.cases):,} {events} events of {data}, {dataset.items:,} items")
    answer({}, [table, *map(_sentence, comparisons), remark(task, wanted)], as_json=False)


def is_run(path: Path) -> bool:
    """Tell a run's folder from a base's.

    Args:
        path: a folder that `train` or `publish` wrote; anything else counts as a base, whose loader says what is wrong.

    Returns:
        whether it is a run.
    """
    return (path / RUN_FILE).is_file()


def _load(path: Path, data: Path, dataset: "ossia.data.Dataset") -> "ossia.adaptation.Base":
    """Load a base that was published with the items of the data."""
    from ossia.adaptation.base import Base

    base = Base.load(path)
    _check_same(base.table.ids, dataset.item_ids, f"{data}: expected the items that {path} was published with, got others")
    return base


def _of_base(
    base: "ossia.adaptation.Base",
    cases: "ossia.data.Cases",
    personalizer: str | None,
    afforded: tuple[str, Path | None],
    seed: int,
    runtime: str,
) -> Iterator["ossia.service.contenders.Contender"]:
    """Make a base's rows at one width, and the personal ones with their controls; what is wrong is said before any work."""
    from ossia.cli.cloud import read_costs
    from ossia.service.contenders import personal, possible_catalogs, uniform, usual_budget
    from ossia.service.generator import load_personalizer
    from ossia.types import Budget

    if personalizer is None:
        return uniform(base, runtime=runtime)
    loaded = load_personalizer(base, personalizer)
    budget, cost_table = afforded
    limits = Budget.parse(budget) if budget else usual_budget(loaded)
    return chain(
        uniform(base, runtime=runtime),
        personal(base, loaded, cases, limits, device=read_costs(cost_table), seed=seed, runtime=runtime),
        possible_catalogs(base, loaded, cases, runtime=runtime, say=lambda text: say(f"evaluate: {text}")),
    )


def _load_run(run: Path, data_hash: str) -> "ossia.training.Run":
    """Load a run on the data given."""
    from ossia.training import load_run

    loaded = load_run(run)
    _check_same(loaded.data_hash, data_hash, f"{run}: expected a run on the data given, got one on {loaded.data_hash[:12]}…")
    return loaded


def _is_refit(base: "ossia.adaptation.Base | None", run: "ossia.training.Run | None", split: "ossia.data.Split") -> bool:
    """Tell whether what is judged has learned from validation events: a run says so, of a base the table's counts tell."""
    counted = 0 if base is None else int(base.table.counts.sum())
    return counted > len(split.train.items) or (run is not None and run.recipe.refit)


def _split_for(
    dataset: "ossia.data.Dataset",
    base: "ossia.adaptation.Base | None",
    run: "ossia.training.Run | None",
    *,
    validation: bool,
    named: Path | None,
) -> "ossia.data.Split":
    """Split the log: beside a refit, baselines may learn from validation events, too, and those judge nobody."""
    from ossia.data import with_validation

    split = dataset.split()
    if not _is_refit(base, run, split):
        return split
    if validation:
        raise UsageError(f"{named}: expected a training that has not seen validation events, got a refit")
    return replace(split, train=with_validation(split))


def _judge(
    contenders: Iterator["ossia.service.contenders.Contender"], task: "ossia.cli.lists.Task", items: int, *, keep_seen: bool
) -> list[tuple["ossia.service.contenders.Contender", "ossia.evaluation.Judgement"]]:
    """Judge them one after another, and say how each did."""
    from ossia.service.trial import judge_all

    steps = judge_all(contenders, task.cases, items, remove_seen=not keep_seen, lists=task.lists, protocol=task.protocol)
    return [(contender, judgement) for contender, judgement in watch(steps, None, "evaluate", _describe) if judgement]


def _trained(run: "ossia.training.Run") -> "ossia.service.contenders.Contender":
    """Make the trained backbone itself, in float32: what the base was before it was quantized."""
    from ossia.backbones.ranker import TorchRanker
    from ossia.service.contenders import Contender

    rest_bytes = sum(parameter.numel() * parameter.element_size() for parameter in run.backbone.parameters())
    return Contender("base in fp32", "base", TorchRanker(run.backbone), float(rest_bytes))


def _check_same(one: Sequence[str], other: Sequence[str], message: str) -> None:
    """Refuse artifacts that don't belong together: row 7 would be another item, and every figure wrong."""
    from ossia.errors import ArtifactError

    if len(one) < len(other) or list(one[: len(other)]) != list(other):
        raise ArtifactError(message)


def _describe(step: tuple["ossia.service.contenders.Contender", "ossia.evaluation.Judgement | None"]) -> str | None:
    """Say how a contender did, at its end."""
    contender, judgement = step
    return None if judgement is None else f"{contender.name}: NDCG@10 {judgement.ndcg(10):.4f}"


def _sentence(comparison: "ossia.evaluation.Comparison") -> str:
    """Say a comparison in words."""
    gap = comparison.ndcg_at_10
    p = "" if gap.p is None else f", p {gap.p:.2g}"
    return f"{comparison.name} − {comparison.versus}: NDCG@10 {gap.mean:+.4f} ({gap.low:+.4f} … {gap.high:+.4f}{p})"
