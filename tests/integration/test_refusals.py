"""Bad input: a message that names file and place, an exit code that says whose fault it is, and nothing half-written."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ossia.adaptation import Base

HEAD = "user_id,item_id,timestamp\n"
GOOD = "".join(f"u{user},i{item},{user + 10 * item}\n" for user in range(8) for item in range(8))
USAGE, DATA, ARTIFACT, PAYLOAD, BUDGET = 2, 3, 4, 5, 6

LOGS: dict[str, tuple[bytes, str]] = {
    "an empty file": (b"", "log.csv"),
    "a header alone": (HEAD.encode(), "log.csv"),
    "one user": ((HEAD + "".join(f"u,i{n},{n}\n" for n in range(20))).encode(), "log.csv"),
    "no item column": (b"user_id,what,timestamp\nu,i,1\n", "item"),
    "a time that is none": ((HEAD + GOOD + "u1,i1,yesterday\n").encode(), "log.csv:66"),
    "bytes that are not UTF-8": (HEAD.encode() + b"u\xff\xfe,i1,1\n" * 9, "log.csv"),
    "nobody with enough events": ((HEAD + "u1,i1,1\nu2,i2,2\n").encode(), "log.csv"),
}


@pytest.mark.parametrize("name", LOGS)
def test_a_log_that_cannot_be_used_is_refused_by_name_and_place(name: str, cli: Callable, tmp_path: Path) -> None:
    content, place = LOGS[name]
    (tmp_path / "log.csv").write_bytes(content)
    said = cli("prepare", tmp_path / "log.csv", "--out", tmp_path / "data")
    assert said.code == DATA, said.err
    assert "log.csv" in said.err
    assert place in said.err
    assert said.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


def test_a_truncated_parquet_file_is_refused(cli: Callable, tmp_path: Path) -> None:
    import polars

    polars.DataFrame({"user_id": ["u"] * 99, "item_id": ["i"] * 99}).write_parquet(tmp_path / "log.parquet")
    whole = (tmp_path / "log.parquet").read_bytes()
    (tmp_path / "log.parquet").write_bytes(whole[: len(whole) // 2])
    said = cli("prepare", tmp_path / "log.parquet", "--out", tmp_path / "data")
    assert said.code == DATA
    assert "log.parquet" in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["log.parquet"]


def test_duplicate_rows_are_dropped_and_counted(cli: Callable, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(HEAD + GOOD + GOOD)
    said = cli("prepare", tmp_path / "log.csv", "--out", tmp_path / "data", "--json")
    assert said.result["info"]["duplicates"] == 64
    assert said.result["info"]["after"]["events"] == 64


def test_a_file_that_is_not_there_and_a_name_that_is_unknown(cli: Callable, tmp_path: Path) -> None:
    said = cli("prepare", "ml-100m", "--out", tmp_path / "data")
    assert said.code == DATA
    assert "ml-100k" in said.err


def test_a_folder_that_is_there_is_not_overwritten_unless_asked(cli: Callable, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(HEAD + GOOD)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "diary").write_text("dear")
    words = ("prepare", tmp_path / "log.csv", "--out", tmp_path / "data")
    assert cli(*words).code == USAGE
    assert (tmp_path / "data" / "diary").read_text() == "dear"
    assert cli(*words, "--replace").code == 0


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--set", "dims=8"), "dims"),
        (("--set", "dim"), "name=value"),
        (("--set", 'dim="wide"'), "dim"),
        (("--epochs", "-1"), "epochs"),
        (("--base", "b"), "--personalizer"),
        (("--device", "abacus"), "device"),
        (("--backbone", "oracle"), "backbone"),
    ],
)
def test_settings_that_make_no_sense_are_refused_before_a_folder_is_made(
    house, options: tuple[str, ...], named: str, cli: Callable, tmp_path: Path
) -> None:
    said = cli("train", house.data, "--out", tmp_path / "run", *options)
    assert said.code == USAGE
    assert named in said.err
    assert not (tmp_path / "run").exists()


def test_a_run_with_other_settings_is_not_gone_on_with(house, cli: Callable) -> None:
    before = (house.run / "history.jsonl").read_bytes()
    said = cli("train", house.data, "--out", house.run, "--epochs", 3, "--set", "dim=32")
    assert said.code == USAGE
    assert "recipe.json" in said.err
    assert (house.run / "history.jsonl").read_bytes() == before


def test_restart_throws_away_a_run_and_nothing_else(house, cli: Callable, tmp_path: Path) -> None:
    (tmp_path / "diary").mkdir()
    (tmp_path / "diary" / "page").write_text("dear")
    said = cli("train", house.data, "--out", tmp_path / "diary", "--restart")
    assert said.code == USAGE
    assert (tmp_path / "diary" / "page").exists()
    shutil.copytree(house.run, tmp_path / "run")
    small = ("--set", "dim=8", "--set", "length=4", "--set", "hidden=8", "--set", "blocks=1")
    said = cli("train", house.data, "--out", tmp_path / "run", "--restart", "--epochs", 1, *small, "--json")
    assert said.code == 0, said.err
    assert said.result["recipe"]["dim"] == 8


def test_a_changed_byte_anywhere_in_a_base_is_found_and_its_file_named(house, cli: Callable, tmp_path: Path) -> None:
    for name in ("manifest.json", "base/plane4.safetensors", "base/floats.safetensors", "table/items.json"):
        shutil.rmtree(tmp_path / "base", ignore_errors=True)
        shutil.copytree(house.base, tmp_path / "base")
        content = bytearray((tmp_path / "base" / name).read_bytes())
        content[len(content) // 2] ^= 1
        (tmp_path / "base" / name).write_bytes(content)
        said = cli("profile", tmp_path / "base", "--history", house.history, "--out", tmp_path / "profile")
        assert said.code == ARTIFACT, f"{name}: {said.err}"
        assert str(tmp_path / "base") in said.err
        assert not (tmp_path / "profile").exists()


def test_a_changed_manifest_that_still_reads_makes_another_base_for_which_no_payload_fits(
    house, cli: Callable, tmp_path: Path
) -> None:
    words = ("--personalizer", "chord", "--out", tmp_path / "payload", "--profile", tmp_path / "profile")
    cli("profile", house.base, "--history", house.history, "--out", tmp_path / "profile")
    assert cli("personalize", house.base, *words).code == 0
    shutil.copytree(house.base, tmp_path / "base")
    manifest = tmp_path / "base" / "manifest.json"
    manifest.write_bytes(manifest.read_bytes() + b"\n")
    words = ("--payload", tmp_path / "payload", "--allow-unsigned", "--history", house.history)
    said = cli("rerank", tmp_path / "base", *words)
    assert said.code == PAYLOAD
    assert "payload: base: expected" in said.err


def test_a_history_of_unknown_items_is_refused(house, cli: Callable, tmp_path: Path) -> None:
    (tmp_path / "history.json").write_text(json.dumps(["x", "y"]))
    said = cli("profile", house.base, "--history", tmp_path / "history.json", "--out", tmp_path / "profile")
    assert said.code == DATA
    assert "history.json" in said.err
    assert not (tmp_path / "profile").exists()


def test_a_payload_that_ran_out_or_is_damaged_or_anothers_is_refused(house, cli: Callable, tmp_path: Path) -> None:
    cli("profile", house.base, "--history", house.history, "--out", tmp_path / "profile")
    words = ("--personalizer", "chord", "--profile", tmp_path / "profile", "--out", tmp_path / "payload")
    rank = ("rerank", house.base, "--payload", tmp_path / "payload", "--history", house.history, "--allow-unsigned")

    assert cli("personalize", house.base, *words, "--days", 0).code == 0
    assert "expiry" in cli(*rank).err
    assert cli(*rank).code == PAYLOAD

    assert cli("personalize", house.base, *words, "--device-id", "ab" * 16).code == 0
    assert cli(*rank, "--device-id", "cd" * 16).code == PAYLOAD
    assert cli(*rank, "--device-id", "ab" * 16).code == 0

    (tmp_path / "payload").write_bytes((tmp_path / "payload").read_bytes()[:-1])
    assert cli(*rank).code == PAYLOAD
    assert cli("inspect", house.base, "--payload", tmp_path / "payload").code == PAYLOAD
    assert cli(*rank[:3], tmp_path / "no such file", *rank[4:]).code == ARTIFACT


def test_a_payload_is_ranked_with_only_if_somebody_trusted_signed_it(house, cli: Callable, tmp_path: Path) -> None:
    cli("profile", house.base, "--history", house.history, "--out", tmp_path / "profile")
    words = ("--personalizer", "chord", "--profile", tmp_path / "profile", "--out", tmp_path / "payload")
    rank = ("rerank", house.base, "--payload", tmp_path / "payload", "--history", house.history)
    mine, trust = ("--keys", tmp_path / "mine"), ("--trust", tmp_path / "mine" / "keys.json")
    made = cli("keys", "make", tmp_path / "mine", "--json").result

    assert cli("personalize", house.base, *words).code == 0
    assert "expected a signed payload" in cli(*rank, *trust).err

    assert cli("personalize", house.base, *words, *mine).code == 0
    assert cli(*rank, *trust).code == 0
    assert "no key is trusted here" in cli(*rank, "--allow-unsigned").err
    assert cli("keys", "make", tmp_path / "theirs").code == 0
    assert cli(*rank, "--trust", tmp_path / "theirs" / "keys.json").code == PAYLOAD

    assert cli("keys", "rotate", tmp_path / "mine").code == 0
    assert cli(*rank, *trust).code == 0
    listed = cli("keys", "revoke", tmp_path / "mine", made["keys"][0]["id"], "--json").result["keys"]
    assert [key["state"] for key in listed] == ["revoked", "signs"]
    assert "revoked" in cli(*rank, *trust).err
    assert cli("personalize", house.base, *words, *mine).code == 0
    assert cli(*rank, *trust).code == 0


def test_a_profile_of_another_length_is_refused(house, cli: Callable, tmp_path: Path) -> None:
    (tmp_path / "profile").write_bytes(bytes(68))
    said = cli("personalize", house.base, "--profile", tmp_path / "profile", "--out", tmp_path / "payload")
    assert said.code == PAYLOAD
    assert "expected 20 bytes" in said.err
    assert not (tmp_path / "payload").exists()


def test_a_budget_below_the_floor_names_the_floor(house, cli: Callable, tmp_path: Path) -> None:
    cli("profile", house.base, "--history", house.history, "--out", tmp_path / "profile")
    words = ("personalize", house.base, "--profile", tmp_path / "profile", "--out", tmp_path / "payload", "--budget")
    said = cli(*words, "weight_bytes=10")
    assert said.code == BUDGET
    assert "weight_bytes: expected at least" in said.err
    assert cli(*words, "feathers=10").code == USAGE
    assert cli(*words, "latency_us=10").code == USAGE
    assert not (tmp_path / "payload").exists()


def test_names_that_do_not_exist_are_usage_errors(house, cli: Callable, tmp_path: Path) -> None:
    cli("profile", house.base, "--history", house.history, "--out", tmp_path / "profile")
    words = ("--profile", tmp_path / "profile", "--out", tmp_path / "payload")
    said = cli("personalize", house.base, *words, "--personalizer", "oracle")
    assert said.code == USAGE
    assert "chord" in said.err
    said = cli("rerank", house.base, "--history", house.history, "--runtime", "abacus")
    assert said.code == USAGE
    assert "numpy" in said.err


def test_evaluate_refuses_data_and_runs_that_are_not_the_bases(house, cli: Callable, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(HEAD + GOOD)
    assert cli("prepare", tmp_path / "log.csv", "--out", tmp_path / "data").code == 0
    assert cli("evaluate", house.base, "--data", tmp_path / "data").code == ARTIFACT
    assert cli("evaluate", house.base, "--data", tmp_path / "nothing").code == ARTIFACT
    assert cli("publish", tmp_path / "nothing", "--out", tmp_path / "base").code == ARTIFACT
    assert cli("publish", house.run, "--data", tmp_path / "data", "--out", tmp_path / "base").code == ARTIFACT
    assert not (tmp_path / "base").exists()


def test_publishing_twice_into_one_folder_is_refused_and_changes_nothing(house, cli: Callable) -> None:
    before = Base.load(house.base).id
    assert cli("publish", house.run, "--out", house.base).code == USAGE
    assert Base.load(house.base).id == before
