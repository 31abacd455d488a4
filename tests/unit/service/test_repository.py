"""Publishing releases: in stages, forward only, with the keys that it takes; and what another TUF client makes of it."""

import shutil
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("tuf")
from tuf.api.exceptions import DownloadHTTPError, RepositoryError
from tuf.ngclient import FetcherInterface, Updater

from ossia.adaptation import Base
from ossia.adaptation.table import write_table
from ossia.device.mirrors import open_mirror
from ossia.device.update import Updated, begin, release_folder, update
from ossia.errors import ArtifactError, UsageError
from ossia.service import repository
from ossia.service.edition import publish_edition, read_edition
from ossia.service.keychain import make_keys, revoke_key
from ossia.service.release_keys import Keyring, load_keyring, make_release_key

NOW, DAY = 1_800_000_000, 86_400


class Scene:
    """A repository, its keys, and devices."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.repo = folder, folder / "repo"
        for role, where in (("root", "off"), ("targets", "off"), ("online", "on")):
            make_release_key(folder / where, role)
        repository.create(self.repo, self.keys, NOW)

    @property
    def keys(self) -> Keyring:
        return load_keyring([self.folder / "off", self.folder / "on"])

    @property
    def online(self) -> Keyring:
        return load_keyring([self.folder / "on"])

    def device(self, name: str = "device") -> Path:
        folder = self.folder / name
        if not folder.exists():
            begin(folder, (self.repo / "metadata" / "1.root.json").read_bytes())
        return folder

    def update(self, name: str = "device", now: int = NOW, **more: bool) -> Updated:
        return update(self.device(name), [open_mirror(str(self.repo))], now, **more)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_stages_grow_are_settled_and_need_no_offline_key(scene: Scene, base: Base, make_base) -> None:
    repository.publish_release(scene.repo, scene.keys, base.path, NOW, percent=100)
    assert scene.update() == Updated(1, True)
    repository.publish_release(scene.repo, scene.keys, make_base(seed=1).path, NOW, percent=0)
    assert scene.update() == Updated(1, False)
    assert [repository.advance(scene.repo, scene.online, NOW).rollout.percent for _ in range(3)] == [1, 10, 100]
    assert read_edition(scene.repo).rollout.settled == 2
    assert scene.update() == Updated(2, True)
    with pytest.raises(UsageError, match="expected a release on its way"):
        repository.advance(scene.repo, scene.online, NOW)
    with pytest.raises(UsageError, match="targets: expected 1 more of the keys"):
        repository.publish_release(scene.repo, scene.online, base.path, NOW)


def test_the_way_on_from_a_halted_release_is_the_next_which_may_hold_the_old_files(scene: Scene, base: Base, make_base) -> None:
    repository.publish_release(scene.repo, scene.keys, base.path, NOW, percent=100)
    repository.publish_release(scene.repo, scene.keys, make_base(seed=1).path, NOW, percent=99)
    early = next(name for name in map(str, range(50)) if scene.update(name).release == 2)
    repository.halt(scene.repo, scene.online, NOW)
    assert scene.update(early) == Updated(2, False)
    assert scene.update("late") == Updated(1, True)
    with pytest.raises(UsageError, match="2 is halted"):
        repository.advance(scene.repo, scene.online, NOW)
    repository.publish_release(scene.repo, scene.keys, base.path, NOW, percent=0)
    assert scene.update(early) == Updated(3, True)
    assert Base.load(release_folder(scene.device(early), 3)).id == base.id
    assert scene.update("late") == Updated(1, False)


def test_a_second_release_waits_for_the_first_to_be_settled_or_halted(scene: Scene, base: Base) -> None:
    repository.publish_release(scene.repo, scene.keys, base.path, NOW)
    with pytest.raises(UsageError, match="expected release 1 at 100 % or halted"):
        repository.publish_release(scene.repo, scene.keys, base.path, NOW)


def test_new_items_cost_a_table_and_payloads_for_the_old_one_go_on(scene: Scene, base: Base, tmp_path: Path) -> None:
    import numpy as np

    repository.publish_release(scene.repo, scene.keys, base.path, NOW, percent=100)
    scene.update()
    shutil.copytree(base.path, tmp_path / "longer")
    shutil.rmtree(tmp_path / "longer" / "table")
    vectors = np.vstack([base.table.whole.dequantize(), np.ones((2, 8), np.float32)])
    counts = np.concatenate([base.table.counts, np.zeros(2, np.float32)])
    titles = [*base.table.titles, "New", "Newer"]
    write_table(tmp_path / "longer" / "table", vectors, [*base.table.ids, "a", "b"], counts, titles=titles, extends=base.table)
    repository.publish_release(scene.repo, scene.keys, tmp_path / "longer", NOW, percent=100)
    asked: list[str] = []

    def mirror(path: str, start: int = 0):
        asked.append(path)
        return open_mirror(str(scene.repo))(path, start)

    assert update(scene.device(), [mirror], NOW) == Updated(2, True)
    fetched = [path for path in asked if path.startswith("targets")]
    assert fetched
    assert all("/table/" in path for path in fetched)
    longer = Base.load(release_folder(scene.device(), 2))
    assert (longer.id, len(longer.table), longer.table.rows_at(base.table.id[:16])) == (
        base.id,
        len(base.table) + 2,
        len(base.table),
    )


def test_a_broken_download_goes_on_where_it_was(scene: Scene, base: Base) -> None:
    repository.publish_release(scene.repo, scene.keys, base.path, NOW, percent=100)
    asked: list[str] = []

    def mirror(path: str, start: int = 0):
        asked.append(path)
        if path.startswith("targets") and len([each for each in asked if each.startswith("targets")]) % 4 == 0:
            raise ConnectionResetError("connection reset")
        return open_mirror(str(scene.repo))(path, start)

    done = [update(scene.device(), [mirror], NOW) for _ in range(6)]
    assert done[0].refused[0].refusal == "missing"
    assert done[-1].release == 1
    fetched = [path for path in asked if path.startswith("targets")]
    assert len(fetched) <= len(set(fetched)) + 5  # each file once, and again only those that broke off


def test_a_line_that_breaks_costs_no_byte_twice_and_a_part_that_is_wrong_is_fetched_once_more(scene: Scene, base: Base) -> None:
    repository.publish_release(scene.repo, scene.keys, base.path, NOW, percent=100)
    honest, came = open_mirror(str(scene.repo)), Counter[str]()

    def breaking(path: str, start: int = 0):
        for chunk in honest(path, start):
            for place in range(0, len(chunk), 50):
                came[path] += len(chunk[place : place + 50])
                yield chunk[place : place + 50]
                if path.startswith("targets"):
                    raise ConnectionResetError("connection reset")

    def lying(path: str, start: int = 0):
        return iter([b"x" * 60]) if path.endswith("plane8.safetensors") else honest(path, start)

    while (done := update(scene.device(), [breaking], NOW)).refused:
        assert {each.refusal for each in done.refused} == {"missing"}
    sizes = {path: (scene.repo / path).stat().st_size for path in came if path.startswith("targets")}
    assert sizes == {path: came[path] for path in sizes}
    assert max(sizes.values()) > 500

    assert update(scene.device("second"), [lying, honest], NOW).refused[0].refusal == "other_bytes"
    assert Base.load(release_folder(scene.device("second"), 1)).id == base.id


def test_a_revocation_reaches_devices_that_can_not_get_the_release(scene: Scene, base: Base, tmp_path: Path) -> None:
    listed = make_keys(tmp_path / "payload", NOW + DAY)
    repository.publish_keys(scene.repo, scene.keys, tmp_path / "payload" / "keys.json", NOW)
    scene.update()
    revoke_key(tmp_path / "payload", listed.keys[0].id)
    repository.publish_keys(scene.repo, scene.keys, tmp_path / "payload" / "keys.json", NOW)
    repository.publish_release(scene.repo, scene.keys, base.path, NOW, percent=100)
    shutil.rmtree(scene.repo / "targets" / "releases")
    assert scene.update().refused[0].refusal == "missing"
    assert b'"revoked": true' in (scene.device() / "keys.json").read_bytes()


@pytest.mark.parametrize("role", ["root", "targets", "online"])
def test_replaced_keys_count_no_more_and_devices_go_on(scene: Scene, base: Base, role: str) -> None:
    repository.publish_release(scene.repo, scene.keys, base.path, NOW, percent=100)
    scene.update()
    stolen = scene.keys
    folder = scene.folder / ("on" if role == "online" else "off")
    repository.replace_keys(scene.repo, scene.keys, folder, role, NOW)
    assert len(list(folder.glob(f"{role}-*.pem"))) == 1
    repository.publish_release(scene.repo, scene.keys, base.path, NOW, percent=100)
    assert scene.update() == Updated(2, True)
    with pytest.raises(UsageError, match="expected 1 more of the keys"):
        repository.replace_keys(scene.repo, stolen, scene.folder / "none", "root", NOW) if role == "root" else (
            repository.publish_release(scene.repo, stolen, base.path, NOW)
        )


def test_a_thief_who_fast_forwards_is_forgotten_with_his_key(scene: Scene, base: Base) -> None:
    repository.publish_release(scene.repo, scene.keys, base.path, NOW, percent=100)
    scene.update()
    shutil.copytree(scene.repo, scene.folder / "thief")
    edition = read_edition(scene.folder / "thief")
    edition.timestamp.version = edition.snapshot.version = 2**31
    publish_edition(scene.folder / "thief", edition, set(), scene.online, NOW)
    device = scene.device()
    assert update(device, [open_mirror(str(scene.folder / "thief"))], NOW).refused == ()
    assert scene.update().refused[0].refusal == "rollback"
    repository.replace_keys(scene.repo, scene.keys, scene.folder / "on", "online", NOW)
    repository.publish_release(scene.repo, scene.keys, base.path, NOW, percent=100)
    shutil.copytree(device, scene.folder / "without")
    assert scene.update() == Updated(2, True)
    from ossia.device import trust
    from ossia.device import update as module

    with pytest.MonkeyPatch.context() as patch:  # a device that holds on to what the thief's key signed is lost
        patch.setattr(module, "still_signed", lambda root, role, data: trust._parse(role, data)[0])
        assert scene.update("without").refused[0].refusal == "rollback"


def test_a_repository_lives_on_by_its_online_key_alone(scene: Scene, base: Base) -> None:
    repository.publish_release(scene.repo, scene.keys, base.path, NOW, percent=100)
    for day in range(0, 170, 2):
        repository.refresh(scene.repo, scene.online, NOW + day * DAY)
    assert scene.update(now=NOW + 170 * DAY) == Updated(1, True)
    assert scene.update(now=NOW + 172 * DAY).refused[0].refusal == "frozen"


def test_what_does_not_belong_together_is_not_published(scene: Scene, published: Base, base: Base, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError):
        repository.publish_release(scene.repo, scene.keys, tmp_path / "nothing", NOW)
    shutil.copytree(base.path, tmp_path / "mixed")
    shutil.copytree(published.path / "personalizers", tmp_path / "mixed" / "personalizers")
    with pytest.raises(ArtifactError, match="expected a personalizer of base"):
        repository.publish_release(scene.repo, scene.keys, tmp_path / "mixed", NOW)
    assert read_edition(scene.repo).releases == ()


def test_a_server_takes_the_personalizers_too(scene: Scene, published: Base) -> None:
    from ossia.service.personalizer import Personalizer

    repository.publish_release(scene.repo, scene.keys, published.path, NOW, percent=100)
    scene.update("device")
    scene.update("server", personalizers=True)
    assert not (release_folder(scene.device("device"), 1) / "personalizers").exists()
    Personalizer.load(Base.load(release_folder(scene.device("server"), 1)), "chord")


class _Folder(FetcherInterface):
    """python-tuf's idea of a network, over a folder."""

    def _fetch(self, url: str):
        path = Path(url.removeprefix("folder:"))
        if not path.exists():
            raise DownloadHTTPError(url, 404)
        return iter([path.read_bytes()])


def test_python_tufs_own_client_reads_the_same_repository(scene: Scene, base: Base, tmp_path: Path) -> None:
    repository.publish_release(scene.repo, scene.keys, base.path, NOW, percent=100)
    repository.refresh(scene.repo, scene.online, int(__import__("time").time()))
    repository.publish_release(scene.repo, scene.keys, base.path, int(__import__("time").time()), percent=10)
    root = (scene.repo / "metadata" / "1.root.json").read_bytes()

    def client(folder: str, repo: Path) -> Updater:
        for each in (tmp_path / folder, tmp_path / f"{folder}-files"):
            each.mkdir()
        return Updater(str(tmp_path / folder), f"folder:{repo}/metadata/", str(tmp_path / f"{folder}-files"),
                       f"folder:{repo}/targets/", _Folder(), bootstrap=root)  # fmt: skip

    honest = client("a", scene.repo)
    for path in ("releases/2/manifest.json", "releases/2/base/plane2.safetensors", "rollout.json"):
        info = honest.get_targetinfo(path)
        assert info is not None
        data = Path(honest.download_target(info)).read_bytes()
        if path != "rollout.json":
            assert data == (base.path / path.removeprefix("releases/2/")).read_bytes()
    assert info.custom == {"settled": 1, "next": 2, "percent": 10, "halted": [], "kind": "ossia-rollout", "version": 1}
    shutil.copytree(scene.repo, tmp_path / "torn")
    name = "timestamp.json"
    data = (tmp_path / "torn" / "metadata" / name).read_bytes()
    (tmp_path / "torn" / "metadata" / name).write_bytes(data.replace(b'"version":', b'"version":1'))
    with pytest.raises(RepositoryError):
        client("b", tmp_path / "torn").refresh()
