"""From a folder to a running service: `ossia serve BASE --data DIR` in a function.

    DIR/service.db     devices, sequences, feedback, the secret of tokens
    DIR/keys/          signing keys, made with the first start

One process, one base, and those that some devices still hold. It listens when everything is loaded and warm, and stops within
five seconds of SIGTERM: no new requests, those in flight are answered, the store is closed.
"""

import asyncio
import gc
import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import cast

from ossia.adaptation.base import Base
from ossia.service.app import Service
from ossia.service.batching import Batcher
from ossia.service.generator import load_personalizer
from ossia.service.guard import Guard
from ossia.service.issue import Issuer
from ossia.service.issuers import Issuers
from ossia.service.keychain import LIST, load_signer, make_keys
from ossia.service.release_keys import load_keyring
from ossia.service.stateless import Stateless
from ossia.service.store import Store
from ossia.service.tokens import SECRET_BYTES, Tokens

KEY_LIFE_S = 90 * 86_400
STOP_S = 4  # for requests in flight; a second is left for the store
SWITCH_S = 0.0005  # how long a batch may keep the loop from the interpreter: fast refusals need it sooner than Python's 5 ms


def open_service(
    base: Path,
    data: Path,
    *,
    personalizer: str = "chord",
    also: Sequence[Path] = (),
    releases: Path | None = None,
    online: Path | None = None,
    stateless: bool = False,
    batch: int = 32,
    waiting: int = 128,
    deadline_s: float = 1.0,
) -> Service:
    """Load everything that a service needs.

    Args:
        base: a published base with a personalizer.
        data: the service's own folder; made if it is missing.
        personalizer: one of the base's.
        also: bases, or the base with older tables, that some devices still hold.
        releases: a repository to hand out, and to halt releases in.
        online: the folder of its online key.
        stateless: remember no device (`ossia.service.stateless`).
        batch: asks that are worked on together, at most.
        waiting: asks that may wait; more are refused.
        deadline_s: from an ask to its answer.

    Returns:
        the app; its store is open.

    Raises:
        ArtifactError: a file of the base, the store or the keys is missing or damaged.
        UsageError: the base has no such personalizer.
    """
    loaded = [load_personalizer(Base.load(each), personalizer) for each in (base, *also)]
    guard = None if releases is None else Guard(releases, load_keyring([] if online is None else [online]))
    keys, now = data / "keys", int(time.time())
    if not (keys / LIST).exists():
        make_keys(keys, now + KEY_LIFE_S)
    signer = load_signer(keys, now)
    store = Stateless(data) if stateless else Store(data)
    secret = store.get("token_secret")
    if secret is None:
        secret = os.urandom(SECRET_BYTES)
        store.set("token_secret", secret).result()
    issuers = Issuers(tuple(Issuer(each, signer, store) for each in loaded))
    batcher = Batcher(issuers.begin, batch=batch, waiting=waiting, deadline_s=deadline_s)
    return Service(issuers, Tokens(secret), (keys / LIST).read_bytes(), personalizer, batcher, guard=guard)


def run_service(service: Service, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        service: the app.
        host: the address to listen on.
        port: the port; 0 takes any that is free.
    """
    import uvicorn

    from ossia.service.gate import Gate

    sys.setswitchinterval(SWITCH_S)
    gc.collect()
    gc.freeze()  # what was loaded stays: the collector need not look at it again while devices wait
    config = uvicorn.Config(
        service, host=host, port=port, access_log=False, log_level="warning", server_header=False, date_header=False,
        proxy_headers=False, ws="none",  # nobody asks for a caller's address, nor for a socket
        http=cast("type[asyncio.Protocol]", partial(Gate, service=service)), loop="uvloop",
        timeout_graceful_shutdown=STOP_S, timeout_keep_alive=30, backlog=1024,
    )  # fmt: skip
    uvicorn.Server(config).run()
