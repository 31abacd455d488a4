"""The whole journey by the command line, on a small log: every step's result is the next one's input."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ossia.adaptation import Base
from ossia.data import Dataset

BASELINES = ["popularity", "recent popularity", "Markov bigram", "item-kNN"]
COMMANDS = ("prepare", "train", "publish", "profile", "personalize", "inspect", "rerank", "evaluate")
WITHOUT_TORCH = "import sys; sys.modules.update(torch=None, polars=None); from ossia.cli import main; main(sys.argv[1:])"


@pytest.fixture(scope="module")
def payload(house, cli: Callable, tmp_path_factory: pytest.TempPathFactory):
    """A profile and a payload, made by the command line."""
    folder = tmp_path_factory.mktemp("device")
    profile = cli("profile", house.base, "--history", house.history, "--out", folder / "profile", "--json")
    budget = f"weight_bytes={_middle(Base.load(house.base))}"
    words = ("--personalizer", "chord", "--profile", folder / "profile", "--budget", budget, "--out", folder / "payload")
    keys = ("--keys", folder / "keys")
    assert cli("keys", "make", folder / "keys").code == 0
    made = cli("personalize", house.base, *words, *keys, "--sequence", 7, "--days", 2, "--json")
    assert (profile.code, made.code) == (0, 0), profile.err + made.err
    return folder / "payload", profile, made


def _middle(base: Base) -> int:
    from ossia.service.contenders import three_bits

    limit = three_bits(base).weight_bytes
    assert limit is not None
    return int(limit)


def test_every_step_says_what_it_made_as_json_and_nothing_else(house) -> None:
    assert house.said["prepare"].result["info"]["after"] == {"users": 60, "items": 50, "events": 600}
    assert len(house.said["train"].result["epochs"]) == 3
    assert house.said["train"].result["data_hash"] == Dataset.load(house.data).hash
    assert house.said["publish"].result["id"] == Base.load(house.base).id.hex()
    assert house.said["personalizer"].result["manifest"]["base"] == Base.load(house.base).id.hex()


def test_a_run_keeps_what_was_typed_and_where_its_data_lay(house) -> None:
    kept = json.loads((house.run / "command.json").read_text())
    assert kept["data"] == str(house.data)
    assert json.loads((house.run / "recipe.json").read_text())["dim"] == 16


def test_a_profile_is_small_and_holds_no_item(house, payload) -> None:
    _, profile, _ = payload
    assert profile.result["bytes"] == 16 + 4


def test_a_payload_keeps_the_budget_and_carries_what_was_asked(house, payload, cli: Callable) -> None:
    path, _, made = payload
    limit = _middle(Base.load(house.base))
    assert 0.97 * limit <= made.result["costs"]["weight_bytes"] <= limit
    seen = cli("inspect", house.base, "--payload", path, "--json").result
    assert seen["sequence"] == 7
    assert (seen["key"], seen["signature"]) == (made.result["key"], "not checked")
    trust = path.parent / "keys" / "keys.json"
    assert cli("inspect", house.base, "--payload", path, "--trust", trust, "--json").result["signature"] == "holds"
    assert seen["expiry"] - seen["issued"] == 2 * 24 * 60 * 60
    assert sum(seen["channels_at_bits"].values()) == Base.load(house.base).channels
    assert seen["payload_bytes"] == path.stat().st_size == made.result["payload_bytes"]


def test_inspect_tells_people_the_same(house, payload, cli: Callable) -> None:
    said = cli("inspect", house.base, "--payload", payload[0])
    assert "personalizers" in cli("inspect", house.base).out
    assert " UTC" in said.out
    assert "sequence" in said.out


def test_reranking_orders_the_candidates_and_reports_unknown_ones(house, payload, cli: Callable) -> None:
    trust = ("--trust", payload[0].parent / "keys" / "keys.json")
    words = ("--payload", payload[0], *trust, "--history", house.history, "--candidates", house.candidates, "--json")
    said = cli("rerank", house.base, *words)
    ranking = said.result["ranking"]
    assert sorted(each["id"] for each in ranking) == ["i20", "i33", "i40", "i5", "i6", "nobody"]
    scores = [each["score"] for each in ranking[:-1]]
    assert scores == sorted(scores, reverse=True)
    assert ranking[-1] == {"id": "nobody", "score": None, "title": None}
    assert said.result["unknown_candidates"] == ["nobody"]
    assert "nobody" in said.err
    assert ranking[0]["title"].startswith("Item ")


def test_without_candidates_everything_is_offered_that_was_not_met(house, payload, cli: Callable) -> None:
    words = ("rerank", house.base, "--history", house.history, "--top", 100, "--json")
    offered = {each["id"] for each in cli(*words).result["ranking"]}
    assert offered == {f"i{item}" for item in range(50)} - {"i1", "i2", "i3", "i4"}
    assert len(cli(*words, "--keep-seen").result["ranking"]) == 50


def test_an_empty_history_ranks_by_popularity(house, cli: Callable, tmp_path: Path) -> None:
    (tmp_path / "nothing").write_text("[]")
    ranking = cli("rerank", house.base, "--history", tmp_path / "nothing", "--top", 3, "--json").result["ranking"]
    table = Base.load(house.base).table
    assert [each["id"] for each in ranking] == [table.ids[row] for row in table.popularity[:3]]


def test_a_process_without_torch_and_polars_ranks_the_same(house, payload, cli: Callable) -> None:
    trust = ["--trust", str(payload[0].parent / "keys" / "keys.json")]
    words = ["rerank", str(house.base), "--payload", str(payload[0]), *trust, "--history", str(house.history), "--json"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == cli(*words).result


def test_a_process_that_needs_torch_and_has_none_says_what_to_install(house) -> None:
    words = ["train", str(house.data), "--out", str(house.folder / "never")]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "it comes with ossia[train]" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (house.folder / "never").exists()


def test_a_payload_that_is_here_is_held_to_a_lower_budget(house, payload, cli: Callable) -> None:
    words = ("rerank", house.base, "--payload", payload[0], "--allow-unsigned", "--history", house.history, "--json")
    words = (*words, "--trust", payload[0].parent / "keys" / "keys.json")
    floor = cli(*words, "--budget", "weight_bytes=1")
    assert (floor.code, "weight_bytes: expected at least" in floor.err) == (6, True)
    least = floor.err.split("at least ")[1].split(", got")[0].replace(",", "")
    scores = [
        [each["score"] for each in cli(*words, "--budget", limit).result["ranking"]] for limit in ("", f"weight_bytes={least}")
    ]
    assert scores[0] != scores[1]
    said = cli(*words, "--budget", "latency_us=3")
    assert (said.code, "expected weight_bytes or table_bytes" in said.err) == (2, True)


def test_rerank_holds_to_block_and_allow_lists_by_id(house, cli: Callable, tmp_path: Path) -> None:
    words = ("rerank", house.base, "--history", house.history, "--json")
    best = [each["id"] for each in cli(*words, "--top", 8).result["ranking"]]
    (tmp_path / "block").write_text("\n".join([*best[:2], "nobody"]))
    (tmp_path / "allow").write_text(json.dumps([*best[1:5], "stranger"]))
    blocked = cli(*words, "--top", 3, "--block", tmp_path / "block")
    assert [each["id"] for each in blocked.result["ranking"]] == best[2:5]
    assert blocked.result["unknown_block"] == ["nobody"]
    both = cli(*words, "--block", tmp_path / "block", "--allow", tmp_path / "allow").result
    assert [each["id"] for each in both["ranking"]] == best[2:5]
    assert both["unknown_allow"] == ["stranger"]
    named = cli(*words, "--candidates", house.candidates, "--block", tmp_path / "block").result["ranking"]
    assert "nobody" not in {each["id"] for each in named}  # an id that the base does not know is blocked all the same


def test_an_allow_list_of_strangers_is_refused_a_block_list_of_them_is_not(house, cli: Callable, tmp_path: Path) -> None:
    (tmp_path / "list").write_text("nobody\n")
    words = ("rerank", house.base, "--history", house.history)
    assert cli(*words, "--block", tmp_path / "list").code == 0
    refused = cli(*words, "--allow", tmp_path / "list")
    assert refused.code == 3
    assert "a list of items that the base knows" in refused.err


def test_evaluate_puts_every_control_beside_the_personal_rows(house, cli: Callable) -> None:
    words = ("evaluate", house.base, "--data", house.data, "--run", house.run, "--personalizer", "chord")
    said = cli(*words, "--json")
    assert said.code == 0, said.err
    rows = {row["name"]: row for row in said.result["rows"]}
    assert list(rows)[:11] == [
        *BASELINES,
        "base in fp32",
        "uniform 8 bits",
        "uniform 4 bits",
        "uniform 2 bits",
        "personal codes",
        "constant codes",
        "another user's codes",
    ]
    assert rows["personal codes"]["payload_bytes"] == rows["another user's codes"]["payload_bytes"]
    assert all(row["cases"] == 60 for row in rows.values())
    assert said.result["provenance"]["data_hash"] == Dataset.load(house.data).hash
    table = cli(*words, "--cases", 10)
    assert "personal codes" in table.out
    assert "personal codes − another user's codes" in table.out


def test_evaluate_without_a_model_shows_baselines_and_with_a_run_its_backbone_too(house, cli: Callable) -> None:
    alone = cli("evaluate", "--data", house.data, "--json").result["rows"]
    assert [row["name"] for row in alone] == BASELINES
    unpublished = cli("evaluate", house.run, "--data", house.data, "--json").result["rows"]
    assert [row["name"] for row in unpublished] == [*BASELINES, "base in fp32"]
    assert unpublished[:4] == alone
    beside = cli("evaluate", house.base, "--run", house.run, "--data", house.data, "--json").result["rows"]
    assert beside[:5] == unpublished
    refused = cli("evaluate", house.run, "--data", house.data, "--personalizer", "chord")
    assert refused.code == 2
    assert "expected a base for --personalizer" in refused.err


def test_a_refit_by_command_line_and_baselines_that_may_learn_as_much(house, cli: Callable, tmp_path: Path) -> None:
    refit = cli("train", house.data, "--refit", house.run, "--out", tmp_path / "refit", "--json")
    assert refit.code == 0, refit.err
    assert refit.result["recipe"]["refit"] is True
    assert refit.result["recipe"]["dim"] == 16  # the run's own setting
    plain, given_back = (cli("evaluate", run, "--data", house.data, "--json") for run in (house.run, tmp_path / "refit"))
    assert (plain.code, given_back.code) == (0, 0), plain.err + given_back.err
    bigrams = [next(row for row in said.result["rows"] if row["name"] == "Markov bigram") for said in (plain, given_back)]
    assert bigrams[0]["ndcg_at_10"] != bigrams[1]["ndcg_at_10"]
    refused = cli("evaluate", tmp_path / "refit", "--data", house.data, "--validation")
    assert refused.code == 2
    assert "got a refit" in refused.err
    assert cli("train", house.data, "--refit", house.run, "--dim", 8, "--out", tmp_path / "other").code == 2


def test_evaluate_ranks_given_lists_with_their_recall_beside(house, cli: Callable, tmp_path: Path) -> None:
    data = Dataset.load(house.data)
    last = {data.user_ids[user]: data.item_ids[history[-1]] for user, history in enumerate(data.histories)}
    users = data.user_ids[:20]
    lines = [f"{user} i1 i2 {last[user] if number < 5 else 'i3'} i9 nowhere" for number, user in enumerate(users)]
    (tmp_path / "lists").write_text("\n".join([*lines, "nobody i1"]) + "\n")
    held = sum(last[user] in line.split()[1:] for user, line in zip(users, lines, strict=True))
    said = cli("evaluate", house.base, "--data", house.data, "--candidates", tmp_path / "lists", "--json")
    assert said.code == 0, said.err
    rows = {row["name"]: row for row in said.result["rows"]}
    assert {row["cases"] for row in rows.values()} == {20}
    assert {row["candidate_recall"] for row in rows.values()} == {held / 20}
    assert max(row["hr_at_10"]["mean"] for row in rows.values()) == held / 20  # five candidates: everybody shows them all
    assert rows["the order given"]["ndcg_at_10"]["mean"] > 0
    for part in ("1 user without a held-out event: nobody", "20 entries that name items", "40 users without a list"):
        assert part in said.err
    shown = cli("evaluate", "--data", house.data, "--candidates", tmp_path / "lists", "--cases", 10)
    assert "candidate recall: " in shown.out
    assert "NDCG@10 (given lists)" in " ".join(shown.out.split())


def test_sampled_negatives_say_their_name_and_stand_alone(house, cli: Callable) -> None:
    shown = cli("evaluate", "--data", house.data, "--sampled-negatives", 20)
    assert shown.out.startswith("60 test events")
    assert "NDCG@10 (20" in shown.out  # the heading is folded
    assert "not to be compared with a full ranking" in shown.out
    row = cli("evaluate", "--data", house.data, "--sampled-negatives", 20, "--json").result["rows"][0]
    assert row["sampled_ndcg_at_10"]["mean"] > 0
    assert "ndcg_at_10" not in row
    assert cli("evaluate", "--data", house.data, "--sampled-negatives", 20, "--keep-seen").code == 2


@pytest.mark.parametrize(
    ("text", "fault"),
    [("u0 i1\nu0 i2\n", "'u0' again in line 2"), ('{"u0": "i1"}', "a JSON object of lists"), ("i1\ni2\n", "got none")],
)
def test_files_that_are_no_candidates_are_refused_by_name(text: str, fault: str, house, cli: Callable, tmp_path: Path) -> None:
    (tmp_path / "lists").write_text(text)
    said = cli("evaluate", "--data", house.data, "--candidates", tmp_path / "lists")
    assert said.code == 3
    assert fault in said.err
    assert "lists" in said.err


def test_evaluate_on_fewer_cases_keeps_to_them_and_validation_is_another_question(house, cli: Callable) -> None:
    few = cli("evaluate", house.base, "--data", house.data, "--cases", 7, "--json").result["rows"]
    other = cli("evaluate", house.base, "--data", house.data, "--cases", 7, "--validation", "--json").result["rows"]
    assert {row["cases"] for row in few} == {7}
    assert [row["ndcg_at_10"]["mean"] for row in few] != [row["ndcg_at_10"]["mean"] for row in other]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str, cli: Callable) -> None:
    said = cli(command, "--help")
    assert said.code == 0
    assert "Example:" in said.out
    assert f"ossia {command} " in said.out
    assert "--json" in said.out


def test_the_version_is_the_librarys(cli: Callable) -> None:
    import ossia

    assert cli("--version").out.strip() == ossia.__version__
