"""The commands that learn: train (a backbone, or a personalizer on a frozen base) and publish. They need torch.

Training is a generator of epochs, each saved before it is told of. So Ctrl-C costs at most the epoch at work, and the same
command again goes on from the last one saved, to the very same result. `RUN/command.json` keeps what was typed and where the
data lay; everything else that a run must remember is the library's.
"""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol, TypeVar, runtime_checkable

import msgspec
import typer

from ossia.adaptation.base import Base
from ossia.adaptation.manifests import read_manifest
from ossia.adaptation.personalizer_manifest import PersonalizerManifest, personalizer_folder
from ossia.cli.options import DataArgument, JsonOption
from ossia.cli.output import answer, count, say, watch
from ossia.errors import ArtifactError, UsageError
from ossia.files import write_whole

if TYPE_CHECKING:
    import ossia.data

Recipe = TypeVar("Recipe", bound=msgspec.Struct)
COMMAND = "command.json"
MANIFEST = "manifest.json"
RUN_FILE = "run.json"  # what a folder must hold to be thrown away by --restart
INTERRUPTED = 130

OutOption = Annotated[
    Path, typer.Option("--out", metavar="RUN|BASE", help="The run's folder; for a personalizer the base itself.")
]
EpochsOption = Annotated[int | None, typer.Option("--epochs", help="The most passes over the data.")]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Of everything that is random.")]
DeviceOption = Annotated[str | None, typer.Option("--device", help="cpu, cuda or cuda:N.")]
SettingOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Another setting, such as dim=32; repeatable. A wrong name lists them all."
    ),
]


@runtime_checkable
class Numbered(Protocol):
    """An epoch of either training, which says itself in a line as `str`."""

    @property
    def index(self) -> int:
        """0 for the first epoch."""
        ...


class Command(msgspec.Struct, frozen=True):
    """`RUN/command.json`: what was typed, and where the data lay."""

    command: str
    data: str


def train(
    data: DataArgument,
    out: OutOption,
    backbone: Annotated[str, typer.Option("--backbone", help="What to train: sasrec, caser or gru4rec.")] = "sasrec",
    base: Annotated[Path | None, typer.Option("--base", help="Train a personalizer on this frozen base.")] = None,
    personalizer: Annotated[
        str | None,
        typer.Option("--personalizer", metavar="NAME", help="With --base: chord, ridge, duet, ridge-head or forward-ofa."),
    ] = None,
    teacher: Annotated[
        Path | None, typer.Option("--teacher", metavar="RUN", help="Distill: learn from this run's rankings as well.")
    ] = None,
    refit: Annotated[
        Path | None,
        typer.Option("--refit", metavar="RUN", help="Train once more with this run's settings, on validation events too."),
    ] = None,
    item_vectors: Annotated[
        Path | None,
        typer.Option(
            "--item-vectors", metavar="FILE", help="Item rows begin at these vectors: .safetensors, or .npy and .json."
        ),
    ] = None,
    start: Annotated[
        Path | None, typer.Option("--start", metavar="RUN", help="Begin at this run's weights: same sizes, same data.")
    ] = None,
    dim: Annotated[int | None, typer.Option("--dim", help="Width of item vectors and user states.")] = None,
    epochs: EpochsOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    settings: SettingOption = None,
    restart: Annotated[bool, typer.Option("--restart", help="Throw away what an earlier training left there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a backbone, or with --base a personalizer. Interrupted, it goes on where it stopped when you run it again.

    Example: ossia train data --backbone sasrec --out run --epochs 50 --set dim=32

    Example: ossia train data --out run --set blocks=1 --set heads=1 --set hidden=64 --set valves=1

    Example: ossia train data --teacher run --dim 16 --set distillation.top=50 --out student

    Example: ossia train data --start run --teacher run --epochs 10 --set lr=1e-3 --set widths.draw=all --out nested

    Example: ossia train data --start run --epochs 4 --set lr=.001 --set coarse.parts=4 --out coarse

    Example: ossia train data --refit run --out final

    Example: ossia train data --base base --personalizer chord --out base

    Example: ossia train data --base base --personalizer ridge --set learn=sensitivities --out base

    Example: ossia train data --base base --personalizer duet --set rank=2 --out base
    """
    from ossia.data import Dataset

    chosen = {"dim": dim, "epochs": epochs, "seed": seed, "device": device}
    wanted = {name: value for name, value in chosen.items() if value is not None} | parse_settings(settings or [])
    dataset = Dataset.load(data)
    if refit is not None:
        if base is not None or teacher is not None or start is not None or set(wanted) - {"seed", "device"}:
            raise UsageError("train: expected --refit with --seed and --device at most: the run has all other settings")
        from ossia.training import load_run, refit_recipe

        wanted = msgspec.structs.asdict(refit_recipe(load_run(refit), dataset.hash)) | wanted
    if (base is None) != (personalizer is None):
        raise UsageError("train: expected --base and --personalizer together, got one of them")
    if base is None or personalizer is None:
        _train_backbone(dataset, data, out, {"backbone": backbone} | wanted, (teacher, item_vectors, start), restart, as_json)
    elif teacher or item_vectors or start:
        raise UsageError("train: expected --teacher, --item-vectors and --start for a backbone, got them with --base")
    else:
        _train_personalizer(dataset, base, out, wanted | {"personalizer": personalizer}, restart, as_json)


def publish(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A folder that `train` wrote.")],
    out: Annotated[Path, typer.Option("--out", metavar="BASE", help="The folder to make.")],
    data: Annotated[Path | None, typer.Option("--data", help="Where the run's data lies now, if it was moved.")] = None,
    tail: Annotated[
        int, typer.Option("--tail", metavar="BYTES", min=0, help="Bytes a row of a coarse version of the whole table: 4, 8, …")
    ] = 0,
    basis: Annotated[
        int,
        typer.Option(
            "--basis", metavar="DIRECTIONS", min=0, help="Of each slot, for weights that are generated as coordinates."
        ),
    ] = 0,
    as_json: JsonOption = False,
) -> None:
    """Put a trained backbone on the nested grid, and its item vectors into a table: a base, frozen from here on.

    With a tail, a device that holds a part of the table's rows ranks the others too, coarsely. A run that was trained with
    product codes (coarse.parts) has its own.

    Example: ossia publish run --out base

    Example: ossia publish run --tail 4 --basis 8 --out base
    """
    from ossia.data import Dataset
    from ossia.training import publish as make_base

    base = make_base(run, Dataset.load(data or _data_of(run)), out, tail=tail, basis=basis)
    result = {"base": out, "id": base.id.hex(), "channels": base.channels, "items": len(base.table)}
    line = f"{out}: {base.id.hex()[:16]}…, {count(base.channels, 'channel')}, {count(len(base.table), 'item')}"
    answer(result, [line], as_json=as_json)


def _train_backbone(
    dataset: "ossia.data.Dataset",
    data: Path,
    out: Path,
    wanted: dict[str, object],
    beside: tuple[Path | None, Path | None, Path | None],
    restart: bool,
    as_json: bool,
) -> None:
    """Train a backbone and say how it went."""
    from ossia.training import BackboneRecipe, load_run, train_backbone
    from ossia.training.run import HISTORY, read_history

    recipe, first = make_recipe(BackboneRecipe, wanted), os.environ.get("RANK", "0") == "0"  # torchrun numbers its processes
    if restart and first:
        _throw_away(out)
    teacher, start = (load_run(run) if run else None for run in (beside[0], beside[2]))
    steps = train_backbone(dataset, recipe, out, teacher=teacher, item_vectors=beside[1], start=start)
    if not first:
        for _ in steps:
            pass
        return
    done = len(read_history(out / HISTORY)) if (out / HISTORY).exists() else 0
    typed = shlex.join(["ossia", *sys.argv[1:]])
    write_whole(out / COMMAND, msgspec.json.encode(Command(typed, os.path.abspath(data))) + b"\n")  # noqa: PTH100 - keeps links
    _follow(steps, recipe.epochs, f"train {recipe.backbone}", done)
    run = load_run(out)
    best = max((epoch for epoch in run.epochs if epoch.best), key=lambda epoch: epoch.index)
    result = {"run": out, "epochs": run.epochs, "best": best, "recipe": run.recipe, "data_hash": run.data_hash}
    line = f"{out}: {count(len(run.epochs), 'epoch')}; best: {best}"
    answer(result, [line], as_json=as_json)


def _train_personalizer(
    dataset: "ossia.data.Dataset", base: Path, out: Path, wanted: dict[str, object], restart: bool, as_json: bool
) -> None:
    """Train a personalizer into its base's folder and say how it went."""
    from ossia.personalizers import GENERATORS
    from ossia.training.personalizer import GeneratorRecipe, PersonalizerRecipe, train_personalizer

    if out.resolve() != base.resolve():
        raise UsageError(f"--out: expected the base itself, {base}, into which a personalizer goes; got {out}")
    kind: type[PersonalizerRecipe | GeneratorRecipe] = PersonalizerRecipe
    if wanted["personalizer"] in GENERATORS:
        kind = GeneratorRecipe
    recipe, loaded = make_recipe(kind, wanted), Base.load(base)
    folder = personalizer_folder(base, recipe.name or recipe.personalizer)
    steps = train_personalizer(dataset, loaded, recipe, out, resume=not restart)
    _follow(steps, recipe.most_epochs, f"train {recipe.personalizer}", 0)
    _, manifest = read_manifest(folder / MANIFEST, PersonalizerManifest)
    own, another = (manifest.validation[f"{whose}_log_likelihood"] for whose in ("own", "another"))
    result = {"personalizer": folder, "manifest": manifest}
    line = f"{folder}: validation log-likelihood {own:.4f} with a user's own answer, {another:.4f} with another user's"
    answer(result, [line], as_json=as_json)


def _follow(steps: Iterator[Numbered], total: int, what: str, done: int) -> None:
    """Go through the epochs; when somebody stops us, say what is saved."""
    saved = done - 1

    def noted() -> Iterator[Numbered]:
        """Note each epoch as soon as it is saved, before anything is shown."""
        nonlocal saved
        for epoch in steps:
            saved = epoch.index
            yield epoch

    try:
        for _ in watch(noted(), total, what, str, start=done):
            pass
    except KeyboardInterrupt:
        say(
            f"{what}: "
            + (f"saved at epoch {saved}; run again to resume" if saved >= 0 else "stopped before an epoch was saved")
        )
        raise typer.Exit(INTERRUPTED) from None


def parse_settings(settings: list[str]) -> dict[str, object]:
    """Read `name=value`, or `group.name=value`; values are what they would be in JSON, and else text.

    Args:
        settings: as typed.

    Returns:
        values by name.

    Raises:
        UsageError: one has no equals sign, or is said of a group and inside of it.

    Example:
        >>> parse_settings(["dim=16", "loss=bce", "distillation.top=50", "distillation.weight=.7"])
        {'dim': 16, 'loss': 'bce', 'distillation': {'top': 50, 'weight': 0.7}}
    """
    read: dict[str, object] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise UsageError(f"--set: expected name=value, got {setting!r}")
        *groups, last = name.split(".")
        inside = read
        for group in groups:
            found = inside.setdefault(group, {})
            if not isinstance(found, dict):
                raise UsageError(f"--set: expected {group} once, got {group} and {name}")
            inside = found
        inside[last] = _value(text)
    return read


def _value(text: str) -> object:
    """Read a value as JSON, or .5 as people write it, or else as text."""
    try:
        return msgspec.json.decode(re.sub(r"^(-?)\.", r"\g<1>0.", text))
    except msgspec.DecodeError:
        return text


def make_recipe(kind: type[Recipe], wanted: dict[str, object]) -> Recipe:
    """Make a recipe of what was asked for; what was not is the recipe's own choice.

    Args:
        kind: of recipe.
        wanted: values by name.

    Returns:
        the recipe.

    Raises:
        UsageError: an unknown name, or a value out of range.
    """
    known = [field.name for field in msgspec.structs.fields(kind)]
    for name in wanted:
        if name not in known:
            raise UsageError(f"train: expected a setting among {', '.join(known)}, got {name!r}")
    try:
        return msgspec.convert(wanted, kind)
    except msgspec.ValidationError as error:
        raise UsageError(f"train: {error}") from error


def _throw_away(run: Path) -> None:
    """Remove an earlier run, and nothing that is none."""
    if not run.exists() or (run.is_dir() and not any(run.iterdir())):
        return
    if not (run / RUN_FILE).is_file():
        raise UsageError(f"{run}: expected the folder of an earlier run, found no {RUN_FILE} in it")
    shutil.rmtree(run)


def _data_of(run: Path) -> Path:
    """Find the data of a run where it lay when the run was trained."""
    try:
        command = msgspec.json.decode((run / COMMAND).read_bytes(), type=Command)
    except (OSError, msgspec.MsgspecError) as error:
        raise ArtifactError(f"{run / COMMAND}: expected where the data lies, got: {error}; say it with --data") from error
    return Path(command.data)
