"""Fleets: one seed is one world, laws hold whatever goes wrong, and what is planted on purpose is noticed."""

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from ossia.device.following import News
from ossia.simulation.disk import PowerCut, VirtualDisk
from ossia.simulation.outage import run_outage
from ossia.simulation.planted import PLANTED
from ossia.simulation.stand_in import LEAST_ITEMS, make_base
from ossia.simulation.world import World

PROGRAM = "from ossia.cli import main; main()"


def simulate(*words: object, hash_seed: int = 0) -> dict:
    """Run `ossia simulate` as a process: without the tests' checks of every shape, and with its own order of sets."""
    command = [sys.executable, "-c", PROGRAM, "simulate", *map(str, words), "--json"]
    environment = os.environ | {"PYTHONHASHSEED": str(hash_seed)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def told() -> dict:
    return simulate("--seeds", 3, "--devices", 40)


def test_every_law_holds_though_everything_goes_wrong(told: dict) -> None:
    assert (told["worlds"], told["broken"]) == (3, [])
    expected = ("reboot", "cut off", "skew", "death", "recovery", "spoil", "release", "damage", "news", "answer")
    assert [what for what in expected if not told["counts"].get(what)] == []


def test_a_seed_replays_byte_for_byte_and_seeds_differ(told: dict, tmp_path: Path) -> None:
    again = simulate("--first", 2, "--seeds", 1, "--devices", 40, "--out", tmp_path / "f", hash_seed=7)
    assert again["digests"] == {"2": told["digests"]["2"]}
    assert len(set(told["digests"].values())) == 3
    assert simulate("--first", 2, "--seeds", 1, "--devices", 40, "--out", tmp_path / "f")["worlds"] == 0  # it was done


def test_nothing_that_a_stolen_key_signed_is_taken_once_the_new_list_is_in_force() -> None:
    """Seed 4: a disk refused the news that brought the list, which is told once."""
    told = simulate("--theft", "--first", 3, "--seeds", 2, "--devices", 60)
    assert told["broken"] == []
    assert (told["counts"]["theft"], told["counts"]["rotation"]) == (2, 2)


def test_thirty_days_without_a_cloud(tmp_path: Path) -> None:
    """The laws say that every rank call is answered, and that nothing is sent while it is."""
    told = simulate("--cloudless", "--devices", 4, "--days", 30, "--seeds", 1)
    assert told["broken"] == []
    assert told["counts"]["click"] > 4 * 30


def test_what_is_planted_is_noticed() -> None:
    told = simulate("--planted", "--devices", 48)
    assert {name: how for name, how in told["planted"].items() if not how} == {}
    assert len(told["planted"]) == len(PLANTED) >= 10


def test_a_world_with_every_shape_checked(tmp_path: Path) -> None:
    bases = [make_base(tmp_path / str(items), items) for items in (LEAST_ITEMS, LEAST_ITEMS + 4)]
    assert World(bases, 0, devices=1, days=3.0).run().broken == ""


def test_an_answer_counts_for_the_base_in_force_where_the_disk_refused_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ossia.simulation.peril.FAULTS", 0)
    bases = [make_base(tmp_path / str(items), items) for items in (LEAST_ITEMS, LEAST_ITEMS + 4)]
    world = World(bases, 0, devices=1, days=3.0)
    [phone], sent = world.phones, []
    monkeypatch.setattr(world, "send", lambda _, request: sent.append(request))
    phone.start()
    for _ in range(3):
        phone.click()
    while sent[-1].kind != "ask":  # it enrolls first
        phone.hear(sent[-1], world.cloud.serve(sent[-1], world.now))
        world.now += 60
        phone.wake()
    phone._disk.fail_at = phone._disk.steps + 1
    assert "the disk refused" in phone.come(News(True, 3, bases[1], received=2))
    assert phone.hear(sent[-1], world.cloud.serve(sent[-1], world.now)).startswith("taken")


def test_after_six_hours_without_a_cloud_a_fleet_comes_back_within_an_hour_at_three_times_the_load_at_most() -> None:
    outage = run_outage(4_000)
    assert outage.ratio <= 3
    assert outage.peak_minute <= 3 * outage.steady
    assert outage.last_back_s <= 3_600


def test_without_jitter_the_crowd_comes_back_as_one() -> None:
    outage = run_outage(4_000, jitter=False)
    assert outage.peak_minute > 8 * outage.steady


def test_a_disk_keeps_what_was_flushed_and_some_of_what_was_not() -> None:
    found = set()
    for seed in range(40):
        disk = VirtualDisk(Random(seed))
        folder = Path("/x")
        descriptor, path = disk.open_new(folder, "a")
        disk.write(descriptor, b"flushed")
        disk.flush(descriptor)
        disk.flush_folder(folder)
        disk.write(descriptor, b" and not")
        assert disk.certain(path) == b"flushed"
        disk.cut_at = disk.steps + 1
        with pytest.raises(PowerCut):
            disk.flush(descriptor)
        with pytest.raises(PowerCut):
            disk.names(folder)
        disk.crash()
        found.add(disk.read(path))
    assert all(each.startswith(b"flushed") for each in found)
    assert len(found) > 4
