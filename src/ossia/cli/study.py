"""The commands under `study`: experiments that compare methods on several trained runs, resumable row by row."""

import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ossia.cli.learn import INTERRUPTED, SettingOption, make_recipe, parse_settings
from ossia.cli.options import DataArgument, JsonOption
from ossia.cli.output import answer, say, watch
from ossia.cli.study_tables import catalog_lines, chord_lines, forward_ofa_lines, widths_table

if TYPE_CHECKING:
    import ossia.data
    import ossia.evaluation

ROWS_A_POINT, ROWS_A_RUN = {"ridge": 6, "chord": 6}, 6
ROWS_A_SHARE = 25

RunsOption = Annotated[
    list[Path], typer.Option("--run", metavar="RUN", help="A float32 run of `train` on DATA; repeat it for several seeds.")
]

study = typer.Typer(help="Compare methods on several trained runs, each row beside what it must beat.", no_args_is_help=True)


@study.callback()
def _group() -> None:
    """Compare methods on several trained runs, each row beside what it must beat."""


@study.command("chord")
def chord(
    data: DataArgument,
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Bases, rows and the page; resumable.")],
    runs: RunsOption,
    points: Annotated[
        list[str] | None,
        typer.Option(
            "--point",
            metavar="WIDTHS@BITS",
            help="Widths and average bits; repeatable. Left out: 2,4,8@3. 2,4,8@3t4: item rows at 4; a8: activations at 8.",
        ),
    ] = None,
    personalizers: Annotated[
        list[str] | None,
        typer.Option("--personalizer", help="Whose own widths: ridge, which is quick, or chord; repeatable. Left out: both."),
    ] = None,
    random_encoders: Annotated[
        list[Path] | None,
        typer.Option("--random-encoder", metavar="RUN", help="For each --run one with `--set moving=items`, as another row."),
    ] = None,
    started_from: Annotated[
        list[Path] | None,
        typer.Option("--started-from", metavar="RUN", help="For each --run the one that it was started from, as another row."),
    ] = None,
    same_teacher: Annotated[
        list[Path] | None,
        typer.Option("--same-teacher", metavar="RUN", help="For each --run one so started and taught, without widths, a row."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Is a choice of precision personal, and better than full precision? One table and one page for each point.

    Publishes each run, learns from validation events, judges each row once on all test events, and pools the runs. Typed again,
    it goes on where it stopped.

    Example: ossia study chord data --run run0 --run run1 --point 2,4,8@3 --point 2,8@3.8 --out study
    """
    from ossia.data import Dataset
    from ossia.studies.chord import BEFORE, PERSONALIZERS, RANDOM_ENCODER, SAME_TEACHER, study_others
    from ossia.studies.chord import study as judge
    from ossia.studies.chord_point import Point
    from ossia.studies.chord_verdict import conclude, write_page
    from ossia.studies.runs import names_of

    dataset, wanted = Dataset.load(data), [Point.parse(text) for text in points or ["2,4,8@3"]]
    whose = personalizers or PERSONALIZERS
    rows = sum(3 + bool(point.rounds) + sum(ROWS_A_POINT.get(each, 0) for each in whose) for point in wanted)
    _go_through(judge(dataset, runs, wanted, out, whose), len(runs) * (ROWS_A_RUN + rows), "study chord", out)
    asked = {RANDOM_ENCODER: random_encoders, BEFORE: started_from, SAME_TEACHER: same_teacher}
    for row, others in asked.items():
        if others:
            _go_through(study_others(dataset, runs, others, out, row), len(runs), "study chord", out)
    names = names_of(runs)
    verdicts = [conclude(dataset, out, names, point) for point in wanted]
    provenance = _provenance(data, dataset)
    for verdict in verdicts:
        write_page(out / f"chord-{verdict.point}.html", verdict, data.resolve().name, provenance)
    lines = [line for verdict in verdicts for line in chord_lines(verdict)]
    answer({"verdicts": verdicts, "provenance": provenance}, lines, as_json=as_json)


@study.command("forward-ofa")
def forward_ofa(
    data: DataArgument,
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Bases, networks, rows and pages; resumable.")],
    runs: RunsOption,
    shares: Annotated[
        list[float] | None,
        typer.Option("--share", metavar="SHARE", help="Of the blocks' cost that a device can afford; repeatable: .5 and 1."),
    ] = None,
    cases: Annotated[int | None, typer.Option("--cases", min=2, help="Draw this many test users: a quick look.")] = None,
    variants: Annotated[
        list[str] | None,
        typer.Option("--variant", help="What to train; repeatable. A wrong name lists them all. Left out: all."),
    ] = None,
    cost_table: Annotated[
        Path | None,
        typer.Option("--cost-table", metavar="FILE", help="Of `bench engine`: blocks cost microseconds, not weights."),
    ] = None,
    settings: SettingOption = None,
    as_json: JsonOption = False,
) -> None:
    """Are a structure and weights of one's own worth it, and which part of Forward-OFA does it? A table and page per share.

    Publishes each run, trains Forward-OFA and each version without one of its parts on validation events, judges each row once
    on all test events, and pools the runs. Typed again, it goes on where it stopped.

    Example: ossia study forward-ofa data --run run0 --run run1 --share .5 --share 1 --set rank=2 --out study

    Example: ossia study forward-ofa data --run run0 --variant "own payload" --cost-table costs.json --out study
    """
    from ossia.adaptation import CostTable
    from ossia.data import Dataset
    from ossia.studies.forward_ofa import study as judge
    from ossia.studies.forward_ofa_variants import VARIANTS
    from ossia.studies.forward_ofa_verdict import conclude, write_page
    from ossia.studies.runs import names_of
    from ossia.training.generator_recipe import GeneratorRecipe

    dataset, wanted = Dataset.load(data), shares or [0.5, 1.0]
    recipe = make_recipe(GeneratorRecipe, {"personalizer": "forward-ofa"} | parse_settings(settings or []))
    prices, trained = None if cost_table is None else CostTable.load(cost_table), variants or list(VARIANTS)
    total = len(runs) * (2 + ROWS_A_SHARE * len(wanted)) if set(trained) == set(VARIANTS) else None
    _go_through(
        judge(dataset, runs, wanted, out, recipe, cases=cases, variants=trained, prices=prices), total, "study forward-ofa", out
    )
    verdicts = [conclude(dataset, out, names_of(runs), share) for share in wanted]
    provenance = _provenance(data, dataset, recipe.seed)
    for verdict in verdicts:
        write_page(out / f"forward-ofa-{verdict.share:g}.html", verdict, data.resolve().name, provenance)
    lines = [line for verdict in verdicts for line in forward_ofa_lines(verdict)]
    answer({"verdicts": verdicts, "provenance": provenance}, lines, as_json=as_json)


@study.command("catalog")
def catalog(
    data: DataArgument,
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Bases, ranks and the page; resumable.")],
    runs: RunsOption,
    cases: Annotated[int, typer.Option("--cases", min=2, help="Draw at most this many test users of each run.")] = 6_000,
    as_json: JsonOption = False,
) -> None:
    """Which part of the item table should a device hold? Quality against bytes, fresh and two and five events stale.

    Example: ossia study catalog data --run run0 --run run1 --out study
    """
    from ossia.data import Dataset
    from ossia.studies.catalog_study import PARTS
    from ossia.studies.catalog_study import study as judge
    from ossia.studies.catalog_verdict import conclude, write_page
    from ossia.studies.runs import names_of

    dataset, name = Dataset.load(data), data.resolve().name
    _go_through(judge(dataset, runs, out, cases), len(runs) * len(PARTS), "study catalog", out)
    verdict = conclude(out, names_of(runs))
    provenance = _provenance(data, dataset)
    write_page(out / "catalog.html", verdict, name, provenance)
    answer({"verdict": verdict, "provenance": provenance}, catalog_lines(verdict, name), as_json=as_json)


@study.command("widths")
def widths(
    data: DataArgument,
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Trainings and rows; resumable.")],
    runs: RunsOption,
    lessons: Annotated[
        list[str] | None, typer.Option("--lesson", help="What to train; repeatable. A wrong name lists them all.")
    ] = None,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Of each lesson at the most, from the run's weights on.")] = 10,
    lr: Annotated[float, typer.Option("--lr", help="Adam's step size in the lessons.")] = 1e-3,
    as_json: JsonOption = False,
) -> None:
    """Is one master as good at 2 bits as a model trained for 2 bits? Each run trained on for all widths, and for 2 alone.

    Example: ossia study widths data --run run0 --run run1 --lesson "2 bits alone" --lesson "all at once, taught" --out study
    """
    from ossia.data import Dataset
    from ossia.studies.runs import names_of
    from ossia.studies.widths import Settings, conclude
    from ossia.studies.widths import study as judge

    settings = Settings(tuple(lessons) if lessons else Settings.lessons, epochs, lr)
    dataset, names = Dataset.load(data), names_of(runs)
    _go_through(judge(dataset, runs, settings, out), None, "study widths", out)
    verdict = conclude(dataset, out, names, settings)
    provenance = _provenance(data, dataset)
    answer({"verdict": verdict, "provenance": provenance}, [widths_table(verdict, data.resolve().name)], as_json=as_json)


def _go_through(steps: Iterable[object], total: int | None, what: str, out: Path) -> None:
    """Go through a study; when somebody stops us, say that nothing is lost."""
    try:
        for _ in watch(steps, total, what, str):
            pass
    except KeyboardInterrupt:
        say(f"{what}: what is through is in {out}; run again to resume")
        raise typer.Exit(INTERRUPTED) from None


def _provenance(data: Path, dataset: "ossia.data.Dataset", *seeds: int) -> "ossia.evaluation.Provenance":
    """Note what was typed, on which data."""
    from ossia.service.provenance import make_provenance

    command = shlex.join(["ossia", *sys.argv[1:]])
    return make_provenance(command, seeds=seeds, data=data.resolve().name, data_hash=dataset.hash)
