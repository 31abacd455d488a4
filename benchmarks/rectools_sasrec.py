"""RecTools' SASRec, an epoch at a time, for `ossia bench train`. Runs in an environment of its own, without ossia.

    python rectools_sasrec.py FOLDER        FOLDER/data.npz, FOLDER/settings.json: what `ossia bench train` wrote there

It reads words from stdin, one a line, and answers each with a line of JSON, so that whoever holds the other end decides who
trains when; while nobody asks, it waits and uses no processor. Its first line says what an interrupted run had trained before.

    epoch        train one epoch; {"seconds": …, "loss": …}
    validation   write the states of the validation cases and the items' vectors to FOLDER/validation.npz; {"seconds": …}
    test         the same for the test cases, to FOLDER/test.npz

What is timed is `Trainer.fit` of one epoch and nothing else: neither the making of the dataset before it nor the writing of
vectors. (`fit_partial` would make the dataset anew for each epoch and charge RecTools for it.) Scores are states · vectors, by
which the other end ranks with its own protocol. Items that are in no training sequence have no vector: NaN.

After each epoch FOLDER/checkpoint.pt holds weights, Adam's state and the epochs so far, so that a run goes on where it stopped;
it is read with `weights_only`.
"""

import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytorch_lightning as lightning
import rectools
import torch
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

warnings.filterwarnings("ignore")


class Peer:
    """A model, its data, and how far it is."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.settings = folder, json.loads((folder / "settings.json").read_text())
        torch.set_num_threads(self.settings["threads"])
        lightning.seed_everything(self.settings["seed"])
        with np.load(folder / "data.npz") as stored:
            self.data = dict(stored)
        self.model = SASRecModel(
            n_blocks=self.settings["blocks"],
            n_heads=self.settings["heads"],
            n_factors=self.settings["dim"],
            session_max_len=self.settings["length"],
            dropout_rate=self.settings["dropout"],
            loss=self.settings["loss"],
            n_negatives=self.settings["negatives"],
            lr=self.settings["lr"],
            batch_size=self.settings["batch"],
            epochs=1,
            verbose=0,
        )
        self.model._build_model_from_dataset(self._dataset())
        self.module, self.preparator = self.model.lightning_model, self.model.data_preparator
        self.batches = self.preparator.get_dataloader_train()
        self.laps: list[dict[str, float]] = []
        self._take_up()

    def epoch(self) -> dict[str, float]:
        """Train one epoch; Adam's state is kept in the module from one to the next."""
        lightning.seed_everything(self.settings["seed"] * 100_003 + len(self.laps))
        trainer = lightning.Trainer(
            max_epochs=1,
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=False,
            enable_checkpointing=False,
            accelerator="cpu",
            devices=1,
        )
        self.module.train()
        self.module.torch_model.train()
        started = time.perf_counter()
        trainer.fit(self.module, self.batches)
        seconds = time.perf_counter() - started
        self.laps.append({"seconds": seconds, "loss": float(trainer.callback_metrics[self.module.train_loss_name])})
        self._save()
        return self.laps[-1]

    def states(self, cases: str) -> dict[str, float]:
        """Write what scores are made of."""
        started = time.perf_counter()
        items, offsets = self.data[f"{cases}_items"], self.data[f"{cases}_offsets"]
        rows = self._rows()
        self.module.eval()
        network, states = self.module.torch_model, []
        with torch.no_grad():
            vectors = network.item_model.get_all_embeddings()
            for start in range(0, len(offsets) - 1, 256):
                last = min(start + 256, len(offsets) - 1)
                padded = np.zeros((last - start, self.settings["length"]), np.int64)
                for place, case in enumerate(range(start, last)):
                    history = rows[items[offsets[case] : offsets[case + 1]]]
                    history = history[history > 0][-self.settings["length"] :]  # an item without a vector is skipped
                    padded[place, self.settings["length"] - len(history) :] = history
                states.append(network.encode_sessions({"x": torch.from_numpy(padded)}, vectors)[:, -1].numpy())
            own = vectors.numpy()[rows].copy()
        own[rows == 0] = np.nan
        written = self.folder / f"{cases}.part.npz"
        np.savez(written, states=np.concatenate(states), vectors=own)
        written.replace(self.folder / f"{cases}.npz")
        return {"seconds": time.perf_counter() - started}

    def _dataset(self) -> Dataset:
        """Make RecTools' dataset of the training part; the place in the sequence serves as time."""
        items, offsets = self.data["train_items"], self.data["train_offsets"]
        lengths = np.diff(offsets)
        places = np.arange(len(items)) - np.repeat(offsets[:-1], lengths)
        return Dataset.construct(
            pd.DataFrame(
                {
                    Columns.User: np.repeat(np.arange(len(lengths)), lengths),
                    Columns.Item: items,
                    Columns.Weight: 1.0,
                    Columns.Datetime: pd.Timestamp("2000-01-01") + pd.to_timedelta(places, unit="D"),
                }
            )
        )

    def _rows(self) -> np.ndarray:
        """Find RecTools' number of each of our rows; 0, its padding, where it has none."""
        known = self.preparator.get_known_item_ids().astype(np.int64)
        rows = np.zeros(int(self.settings["items"]), np.int64)
        rows[known] = self.preparator.item_id_map.convert_to_internal(known)
        return rows

    def _save(self) -> None:
        """Keep everything that the next epoch needs."""
        state = {
            "network": self.module.torch_model.state_dict(),
            "adam": self.module.optimizer.state_dict(),
            "laps": self.laps,
        }
        torch.save(state, self.folder / "checkpoint.part")
        (self.folder / "checkpoint.part").replace(self.folder / "checkpoint.pt")

    def _take_up(self) -> None:
        """Go back to the last epoch, if there is one."""
        if not (self.folder / "checkpoint.pt").exists():
            return
        state = torch.load(self.folder / "checkpoint.pt", weights_only=True)
        self.module.torch_model.load_state_dict(state["network"])
        self.module.configure_optimizers().load_state_dict(state["adam"])
        self.module.is_fitted, self.laps = True, state["laps"]  # fitted: weights are not drawn anew


def main() -> None:
    out, sys.stdout = sys.stdout, sys.stderr  # libraries may print; answers go out alone
    peer = Peer(Path(sys.argv[1]))
    versions = {"rectools": rectools.__version__, "torch": torch.__version__, "numpy": np.__version__}
    hello = {"laps": peer.laps, "threads": torch.get_num_threads(), "versions": versions}
    print(json.dumps(hello), file=out, flush=True)
    for line in sys.stdin:
        word = line.strip()
        answer = peer.epoch() if word == "epoch" else peer.states(word)
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main()
