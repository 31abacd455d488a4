"""The whole house on real data in minutes: raw log → train → publish → profile → payload → a device that ranks offline.

    make walkthrough                               set up, and run this
    python examples/walkthrough.py --out FOLDER    run it again elsewhere; what is done already is not done again

Read `main` as the table of contents. What is long (two trainings, the evaluation) shows its progress and can be
interrupted; run it again and it goes on. All that it makes lies below one folder; `report.html` is what to look at.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is loaded: its threads must not spin beside other work

import argparse
import json
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from rich.rule import Rule

from ossia.adaptation import Adaptation, Base, apply, costs, encode_payload, encode_profile
from ossia.adaptation.cost import Costs
from ossia.backbones import TorchRanker
from ossia.cli.output import make_console, watch
from ossia.data import DATASETS, Cases, Dataset, fetch, prepare, read_log, read_titles
from ossia.device import open_session
from ossia.errors import OssiaError
from ossia.evaluation import Judgement, Row
from ossia.evaluation.pictures import UserCodes
from ossia.evaluation.plots import CatalogCurve, Curve
from ossia.evaluation.report import Headline, Ranking, Report, UserRankings, write_report
from ossia.evaluation.table import markdown_table, rich_table
from ossia.files import write_whole
from ossia.service.contenders import Contender, baselines, catalogs, personal, three_bits, uniform
from ossia.service.keychain import load_signer, make_keys, rotate_keys
from ossia.service.personalizer import Personalizer
from ossia.service.provenance import make_provenance
from ossia.service.trial import compare_personal, judge_all, make_row_of
from ossia.training import BackboneRecipe, load_run, publish, train_backbone
from ossia.training.personalizer import train_personalizer
from ossia.training.personalizer_recipe import PersonalizerRecipe
from ossia.types import Budget

DEFAULT_FOLDER = Path("runs/walkthrough").resolve()
SEED = 1
SHARES = (0.05, 0.10, 0.20, 0.40)  # of the table's bytes, for the curve; the table shows 5 and 20 %
SHOWN = 8  # titles in a list
CONSOLE = make_console(stderr=True)

DEVICES = {
    "a watch": Budget(weight_bytes=52_000, table_bytes=10_000),
    "a phone": Budget(weight_bytes=62_000, table_bytes=30_000),
    "a browser": Budget(weight_bytes=80_000),
}
"""Three users, three budgets: what their devices can afford."""

# A process in which torch can't be imported: what ranks on a device needs none of it.
DEVICE_PROCESS = "import sys; sys.modules['torch'] = None; from ossia.cli import main; main()"


def main() -> None:
    """Walk through the house, room by room."""
    folder = _folder()
    started = time.monotonic()
    data = step_prepare(folder)
    base, trained = step_train_and_publish(folder, data)
    personalizer, personal_epochs = step_train_personalizer(folder, data, base)
    users = step_personalize(folder, data, base, personalizer)
    rows, judgements = step_evaluate(folder, data, base, personalizer)
    curves = (_curve("backbone: SASRec", trained), _curve("personalizer: CHORD", personal_epochs))
    step_report(folder, data, base, users, rows, judgements, curves)
    say(f"[dim]{time.monotonic() - started:.0f} s in all, without the set-up.[/]")


@dataclass(frozen=True, eq=False)
class User:
    """One user of the walkthrough, and what was made for them."""

    name: str
    device: str
    history: list[str]
    adaptation: Adaptation
    costs: Costs
    before: list[dict[str, object]]
    after: list[dict[str, object]]
    met: str


def step_prepare(folder: Path) -> Dataset:
    """Fetch ML-100K (hash-checked, cached) and turn the raw log into histories."""
    say_step(1, "a raw log becomes histories")
    if (folder / "data").exists():
        return Dataset.load(folder / "data")
    named, place = DATASETS["ml-100k"], fetch("ml-100k", progress=say)
    data = prepare(read_log(place / named.log), titles=read_titles(place / named.titles), source={"name": "ml-100k"})
    data.save(folder / "data")
    tied = data.info.tie_share or 0
    events = len(data.histories.items)
    say(f"{data.users:,} users, {data.items:,} films, {events:,} events; {tied:.0%} of neighbors tied in time")
    return data


def step_train_and_publish(folder: Path, data: Dataset) -> tuple[Base, list[dict[str, float]]]:
    """Train SASRec, put it on the nested grid, publish it."""
    say_step(2, "a backbone is trained, and published as a frozen base")
    run = folder / "run"
    recipe = BackboneRecipe(loss="full_softmax", seed=SEED)
    for _ in watch(train_backbone(data, recipe, run), recipe.epochs, "train SASRec", str):
        pass
    base = Base.load(folder / "base") if (folder / "base").exists() else publish(run, data, folder / "base")
    whole = costs(base, Adaptation())
    say(f"base {base.id.hex()[:12]}…: {base.channels:,} channels in {whole.weight_bytes:,} bytes, ")
    say(f"item table {base.table.id.hex()[:12]}…: {len(base.table):,} rows in {whole.table_bytes:,} bytes")
    return base, _epochs(run / "history.jsonl")


def step_train_personalizer(folder: Path, data: Dataset, base: Base) -> tuple[Personalizer, list[dict[str, float]]]:
    """Train CHORD's hypernetworks on the frozen base: profile in, importance of every channel out."""
    say_step(3, "a personalizer is trained on the frozen base")
    recipe = PersonalizerRecipe(seed=SEED)
    for _ in watch(train_personalizer(data, base, recipe, folder / "base"), recipe.most_epochs, "train CHORD", str):
        pass
    return Personalizer.load(base, "chord"), _epochs(base.path / "personalizers" / "chord" / "history.jsonl")


def step_personalize(folder: Path, data: Dataset, base: Base, personalizer: Personalizer) -> list[User]:
    """Make three users' versions of the base; a process without torch receives them and ranks."""
    say_step(4, "three users, three budgets: profile → payload → a device without torch")
    cases = data.split().test
    chosen = np.random.default_rng(SEED).choice(len(cases), len(DEVICES), replace=False)
    new_key = rotate_keys if (folder / "keys").exists() else make_keys
    new_key(folder / "keys", int(time.time()) + 86_400)
    users = []
    for case, (device, budget) in zip(chosen.tolist(), DEVICES.items(), strict=True):
        user = _personalize_one(folder, data, base, personalizer, cases, case, device, budget)
        users.append(user)
        _show_user(user)
    return users


def _personalize_one(
    folder: Path, data: Dataset, base: Base, personalizer: Personalizer, cases: Cases, case: int, device: str, budget: Budget
) -> User:
    """Go the whole way for one user, by bytes on the disk, as between two machines."""
    place = folder / "devices" / device.split()[-1]
    place.mkdir(parents=True, exist_ok=True)
    session = open_session(base, history=cases.histories[case])
    (place / "profile.bin").write_bytes(encode_profile(session.profile()))  # what goes up: 68 bytes, never the history

    adaptation = personalizer.personalize(session.profile(), budget)
    now = int(time.time())
    signer = load_signer(folder / "keys", now)
    payload = encode_payload(base, adaptation, issued=now, expiry=signer.expiry, key_id=signer.key_id, sign=signer.sign)
    (place / "payload.bin").write_bytes(payload)

    history = [data.item_ids[row] for row in cases.histories[case].tolist()]
    unseen = np.setdiff1d(np.arange(len(base.table)), cases.histories[case])
    candidates = [base.table.ids[row] for row in unseen.tolist()]
    (place / "history.json").write_text(json.dumps(history))
    (place / "candidates.json").write_text(json.dumps(candidates))
    return User(
        name=f"user {data.user_ids[cases.users[case]]}",
        device=device,
        history=[_title(data, row) for row in cases.histories[case].tolist()[-5:]],
        adaptation=adaptation,
        costs=costs(base, adaptation),
        before=_rerank_elsewhere(base, place, payload=False),
        after=_rerank_elsewhere(base, place, payload=True),
        met=_title(data, int(cases.targets[case])),
    )


def _rerank_elsewhere(base: Base, place: Path, *, payload: bool) -> list[dict[str, object]]:
    """Rank in another process, in which importing torch fails, from files alone."""
    words = [
        "rerank",
        str(base.path),
        "--history",
        "history.json",
        "--candidates",
        "candidates.json",
        "--top",
        str(SHOWN),
        "--json",
    ]
    words += ["--payload", "payload.bin", "--trust", "../../keys/keys.json"] if payload else []
    run = subprocess.run([sys.executable, "-c", DEVICE_PROCESS, *words], cwd=place, capture_output=True, text=True, check=False)
    if run.returncode:
        raise SystemExit(f"the device's process failed:\n{run.stderr}")
    ranking: list[dict[str, object]] = json.loads(run.stdout)["ranking"]
    return ranking


def step_evaluate(
    folder: Path, data: Dataset, base: Base, personalizer: Personalizer
) -> tuple[dict[str, Row], dict[str, Judgement]]:
    """Judge everything on every user's last event, through the device's own path."""
    say_step(5, "everybody's last event is judged, through the device's own path")
    split = data.split()
    backbone = load_run(folder / "run").backbone
    size = sum(parameter.numel() * parameter.element_size() for parameter in backbone.parameters())
    contenders = chain(
        baselines(split, data.items),
        [Contender("base in fp32", "base", TorchRanker(backbone), size)],
        uniform(base),
        personal(base, personalizer, split.test, three_bits(base), seed=SEED),
        *(catalogs(base, personalizer, split.test, share) for share in SHARES),
    )
    rows, judgements = {}, {}
    steps = judge_all(contenders, split.test, data.items)
    for contender, judgement in watch(steps, None, "evaluate", _describe):
        if judgement is not None:
            judgements[contender.name] = judgement
            rows[contender.name] = make_row_of(contender, judgement, seed=SEED)
    return rows, judgements


def step_report(
    folder: Path,
    data: Dataset,
    base: Base,
    users: list[User],
    rows: dict[str, Row],
    judgements: dict[str, Judgement],
    curves: tuple[Curve, Curve],
) -> None:
    """Print one table; write one page."""
    say_step(6, "what came out")
    shown = [
        row
        for name, row in rows.items()
        if ("catalog" not in name and "popular rows" not in name) or _share(name) in (0.05, 0.2)
    ]
    comparisons = compare_personal({row.name: judgements[row.name] for row in shown}, seed=SEED)
    make_console(stderr=False).print(
        rich_table(shown, title=f"ML-100K: the last event of {shown[0].cases:,} users, all {data.items:,} films ranked")
    )
    for each in comparisons:
        gap = each.ndcg_at_10
        say(f"{each.name} − {each.versus}: NDCG@10 {gap.mean:+.4f} ({gap.low:+.4f} … {gap.high:+.4f})")
    command = "make walkthrough" if folder == DEFAULT_FOLDER else shlex.join(["python", *sys.argv])
    provenance = make_provenance(command, seeds=(SEED,), data="ml-100k", data_hash=data.hash)
    write_whole(folder / "table.md", markdown_table(shown, provenance, comparisons).encode())
    report = Report(
        title="ossia, the walkthrough",
        promise="One recommender in the cloud, a version of it made for one person on one device: trained, published, "
        "personalized and judged on ML-100K, every personal row beside what it must beat.",
        headlines=_headlines(base, users, rows),
        rows=tuple(shown),
        comparisons=tuple(comparisons),
        slots=base.manifest.slots,
        users=tuple(_codes(base, user) for user in users),
        curves=curves,
        rankings=tuple(_rankings(user) for user in users),
        catalog=_catalog(rows),
        whole_table=rows["uniform 8 bits"].ndcg_at_10,
        provenance=provenance,
    )
    path = Path("report.html") if folder == DEFAULT_FOLDER else folder / "report.html"
    write_report(path, report)
    say(f"The page with pictures: {path.resolve()}")


def _headlines(base: Base, users: list[User], rows: dict[str, Row]) -> tuple[Headline, ...]:
    """Pick the few figures at the top of the page."""
    payloads = [user.costs.payload_bytes for user in users]
    slice_, popular = rows["personal catalog, 5% of the table"], rows["popular rows, 5% of the table"]
    return (
        Headline(f"{4 + base.manifest.shape['dim']} B", "leave a device: its profile, never its history"),
        Headline(f"{min(payloads):,}–{max(payloads):,} B", "of payload come back to these three devices"),
        Headline(f"{apply_ms(base, users[0].adaptation):.1f} ms", "to fold a payload into the base, in numpy, once"),
        Headline(
            f"{slice_.ndcg_at_10.mean / max(popular.ndcg_at_10.mean, 1e-9):.1f} ×",
            "the NDCG@10 of popular rows, with the user's own rows in 5 % of the table's bytes",
        ),
    )


def apply_ms(base: Base, adaptation: Adaptation) -> float:
    """Time the fold of one adaptation: the fastest of twenty, in milliseconds."""
    times = []
    for _ in range(20):
        start = time.perf_counter()
        apply(base, adaptation)
        times.append(time.perf_counter() - start)
    return 1000 * min(times)


def _codes(base: Base, user: User) -> UserCodes:
    """Take a user's codes for their picture; a user without codes has 8 bits throughout."""
    codes = user.adaptation.codes if user.adaptation.codes is not None else np.full(base.channels, 3, np.uint8)
    return UserCodes(f"{user.name}, {user.device}", _bytes(user), codes)


def _rankings(user: User) -> UserRankings:
    """Take a user's two lists."""
    lists = [
        ("the base", "before, for everybody", user.before),
        (f"made for {user.name}", f"after, on {user.device}", user.after),
    ]
    rankings = [
        Ranking(name, note, tuple(str(line["title"]) for line in lines), tuple(float(str(line["score"])) for line in lines))
        for name, note, lines in lists
    ]
    return UserRankings(f"{user.name}, {user.device}", tuple(user.history), tuple(rankings), user.met)


def _catalog(rows: dict[str, Row]) -> tuple[CatalogCurve, ...]:
    """Collect the curves of quality against the share of the table's bytes."""
    return tuple(
        CatalogCurve(
            label, family, tuple((_share(name), row.ndcg_at_10) for name, row in rows.items() if name.startswith(start))
        )
        for label, start, family in (
            ("the user's own rows", "personal catalog", "personal"),
            ("the most popular rows", "popular rows", "control"),
        )
    )


def _share(name: str) -> float:
    """Read the share out of a row's name; 1 where it names none."""
    percent = [word for word in name.split() if word.endswith("%")]
    return float(percent[0].rstrip("%")) / 100 if percent else 1.0


def _curve(name: str, epochs: list[dict[str, float]]) -> Curve:
    """Turn the lines of a training's history into a curve."""
    ndcg = tuple(epoch["validation_ndcg"] for epoch in epochs)
    return Curve(name, tuple(epoch["loss"] for epoch in epochs), ndcg, int(np.argmax(ndcg)))


def _epochs(path: Path) -> list[dict[str, float]]:
    """Read a training's history, a line each epoch."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def _describe(step: tuple[Contender, Judgement | None]) -> str | None:
    """Say how a contender did, at its end."""
    contender, judgement = step
    return None if judgement is None else f"{contender.name}: NDCG@10 {judgement.ndcg(10):.4f}"


def _show_user(user: User) -> None:
    """Print one user's lists side by side."""
    say(f"\n[bold]{user.name}[/] on {user.device}: {_bytes(user)}")
    say(f"  lately: {' · '.join(user.history)}")
    for place, (before, after) in enumerate(zip(user.before, user.after, strict=True), start=1):
        say(f"  {place}  {_entry(before)}  {_entry(after)}")


def _entry(line: dict[str, object]) -> str:
    """Write one title with its score, in a column."""
    return f"{float(str(line['score'])):6.2f} {str(line['title'])[:40]:<40}"


def _bytes(user: User) -> str:
    """Say what a user's version weighs."""
    return f"payload {user.costs.payload_bytes:,} B; on the device {user.costs.weight_bytes:,} + {user.costs.table_bytes:,} B"


def _title(data: Dataset, row: int) -> str:
    """Name a film."""
    return data.titles[row] if data.titles is not None else data.item_ids[row]


def say_step(number: int, text: str) -> None:
    """Announce a step."""
    CONSOLE.print(Rule(f"[bold]{number}  {text}", align="left", style="dim"))


def say(text: str) -> None:
    """Tell what happened, on stderr; only the table goes to stdout."""
    CONSOLE.print(text, highlight=False)


def _folder() -> Path:
    """Read where to work."""
    parser = argparse.ArgumentParser(description="Walk through the whole house on ML-100K.")
    parser.add_argument("--out", type=Path, default=DEFAULT_FOLDER, help="where everything goes")
    folder: Path = parser.parse_args().out.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


if __name__ == "__main__":
    try:
        main()
    except OssiaError as error:
        raise SystemExit(f"walkthrough: {error}") from error
