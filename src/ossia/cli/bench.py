"""The commands under `bench`: measurements against other libraries, each in one run on one machine."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ossia.cli.learn import INTERRUPTED, EpochsOption, SeedOption, SettingOption, make_recipe, parse_settings
from ossia.cli.options import DataArgument, JsonOption
from ossia.cli.output import answer, say, watch

if TYPE_CHECKING:
    import rich.table

    import ossia.studies.race

bench = typer.Typer(help="Measure ossia against other libraries, side by side in one run.", no_args_is_help=True)


@bench.callback()
def _group() -> None:
    """Measure ossia against other libraries, side by side in one run."""


@bench.command("train")
def train(
    data: DataArgument,
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Runs, checkpoints and records; resumable.")],
    epochs: EpochsOption = None,
    seed: SeedOption = None,
    settings: SettingOption = None,
    peer_lr: Annotated[float, typer.Option("--peer-lr", help="Adam's step size of RecTools.")] = 1e-3,
    peer_batch: Annotated[int, typer.Option("--peer-batch", min=1, help="Sequences per step of RecTools.")] = 128,
    peer_negatives: Annotated[
        int, typer.Option("--peer-negatives", min=1, help="Negatives that RecTools draws for every event; ours share theirs.")
    ] = 128,
    threads: Annotated[int, typer.Option("--threads", min=1, help="For each of the two, which never run at once.")] = 1,
    target: Annotated[
        float | None, typer.Option("--target", help="The validation NDCG@10 to reach; left out: RecTools' best.")
    ] = None,
    environment: Annotated[
        Path | None, typer.Option("--environment", metavar="VENV", help="With RecTools; left out: made in the cache, once.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train our SASRec and RecTools', epoch by epoch in turns, and compare the time to a validation NDCG@10.

    Same data, split, width, length, blocks, heads, dropout and threads; judged by one protocol. An interrupted race goes on
    where it stopped when you type the same again. Needs a clone of the repository.

    Example: ossia bench train data --out race --set blocks=1 --set heads=1 --set hidden=64
    """
    from ossia.data import Dataset
    from ossia.studies.peer import Peer, peer_python, peer_script
    from ossia.studies.race import Settings, conclude, race
    from ossia.training import BackboneRecipe

    chosen = {name: value for name, value in (("epochs", epochs), ("seed", seed)) if value is not None}
    recipe = make_recipe(BackboneRecipe, chosen | parse_settings(settings or []))
    dataset = Dataset.load(data)
    wanted = Settings(recipe, peer_lr, peer_batch, peer_negatives, threads)
    command = [str(peer_python(environment, say)), str(peer_script())]

    def open_peer(folder: Path) -> Peer:
        return Peer([*command, str(folder)], threads=threads, log=folder / "log.txt")

    try:
        for _ in watch(race(dataset, wanted, out, open_peer), 2 * recipe.epochs, "bench train", str):
            pass
    except KeyboardInterrupt:
        say(f"bench train: every epoch that ended is in {out / 'laps.jsonl'}; run again to resume")
        raise typer.Exit(INTERRUPTED) from None
    verdict = conclude(dataset, out, target=target, seed=recipe.seed)
    answer(_as_result(verdict, out, data, dataset.hash, threads), _lines(verdict), as_json=as_json)


def _as_result(verdict: "ossia.studies.race.Verdict", out: Path, data: Path, data_hash: str, threads: int) -> dict[str, object]:
    """Put everything together that a program wants to know."""
    from ossia.service.provenance import make_provenance
    from ossia.studies.race import read_laps

    command = shlex.join(["ossia", *sys.argv[1:]])
    provenance = make_provenance(command, seeds=(), data=str(data), data_hash=data_hash)
    told = {field: getattr(verdict, field) for field in ("target", "seconds", "ratio", "best", "rows", "comparison")}
    return told | {"threads": threads, "laps": read_laps(out), "provenance": provenance}


def _lines(verdict: "ossia.studies.race.Verdict") -> "list[str | rich.table.Table]":
    """Say it for people: one table, one sentence."""
    from rich.table import Table

    table = Table(title="SASRec: ossia against RecTools", title_justify="left", header_style="bold")
    heads = ("", "seconds to the target", "best validation NDCG@10", "seconds to it", "test NDCG@10", "95 %", "test HR@10")
    for place, head in enumerate(heads):
        table.add_column(head, justify="right" if place else "left")
    for row in verdict.rows:
        seconds, best, ndcg = verdict.seconds[row.name], verdict.best[row.name], row.ndcg_at_10
        table.add_row(
            row.name,
            "–" if seconds is None else f"{seconds:,.1f}",
            f"{best.validation_ndcg:.4f}",
            f"{best.total_seconds:,.1f}",
            f"{ndcg.mean:.4f}",
            f"{ndcg.low:.4f}–{ndcg.high:.4f}",
            f"{row.hr_at_10.mean:.4f}",
        )
    gap = verdict.comparison.ndcg_at_10
    ratio = "one of the two never got there" if verdict.ratio is None else f"ossia is {verdict.ratio:.1f} × as fast"
    return [
        table,
        f"target: validation NDCG@10 {verdict.target:.4f}; {ratio}",
        f"ossia − rectools on test: NDCG@10 {gap.mean:+.4f} ({gap.low:+.4f} … {gap.high:+.4f})",
    ]
