"""Builds the page: a folder of static files that any web server can lend, with a base, the engine and four starting points.

    python examples/browser/make.py BASE --out DIR

BASE is a published base whose table has titles and that has a personalizer, such as `runs/walkthrough/base` after
`make walkthrough`. The engine's modules come from `make engine-wasm`. What is built holds titles of MovieLens, so it stays
out of the repository.
"""

import argparse
import base64
import json
import shutil
import sys
from pathlib import Path

import numpy as np
from payloads import Payloads

from ossia.device import open_session
from ossia.errors import ArtifactError, OssiaError
from ossia.files import write_whole

HERE = Path(__file__).parent
PACKAGE = HERE.parents[1] / "packages" / "browser"
MODULES = ("engine-relaxed.wasm", "engine-simd128.wasm")
SCRIPTS = ("index.js", "error.js", "files.js", "machine.js", "memory.js", "values.js")

PERSONAS = {
    "space": ["Star Wars (1977)", "Empire Strikes Back, The (1980)", "Return of the Jedi (1983)", "Alien (1979)"],
    "drawn": ["Toy Story (1995)", "Aladdin (1992)", "Lion King, The (1994)", "Beauty and the Beast (1991)", "Fantasia (1940)"],
    "crime": ["Godfather, The (1972)", "GoodFellas (1990)", "Pulp Fiction (1994)", "Fargo (1996)", "Heat (1995)"],
    "hearts": ["Sense and Sensibility (1995)", "Emma (1996)", "Titanic (1997)", "Jerry Maguire (1996)", "Casablanca (1942)"],
}
"""Where a visitor may start: a few titles each, oldest first."""


def main() -> None:
    """Build the page's folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path, metavar="BASE", help="a published base with titles and a personalizer")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the page goes")
    arguments = parser.parse_args()
    try:
        build(arguments.base, arguments.out)
    except OssiaError as error:
        sys.exit(f"make.py: {error}")
    print(f"{arguments.out}: now `python examples/browser/serve.py {arguments.base} {arguments.out}`")


def build(base: Path, out: Path) -> None:
    """Put page, package, base and starting points into one folder."""
    payloads = Payloads(base)
    if missing := [name for name in MODULES if not (PACKAGE / name).exists()]:
        raise ArtifactError(f"{PACKAGE / missing[0]}: expected the compiled engine; run `make engine-wasm`")
    shutil.copytree(HERE / "page", out, dirs_exist_ok=True)
    (out / "ossia").mkdir(exist_ok=True)
    for name in (*MODULES, *SCRIPTS):
        shutil.copyfile(PACKAGE / name, out / "ossia" / name)
    for part in ("base", "table"):
        shutil.copytree(base / part, out / "base" / part, dirs_exist_ok=True)
    shutil.copyfile(base / "manifest.json", out / "base" / "manifest.json")
    write_whole(out / "personas.json", json.dumps(personas(payloads)).encode())


def personas(payloads: Payloads) -> list[dict[str, object]]:
    """Give each starting point its history, and the payload that the cloud would send for it, for days without a server."""
    titles = payloads.base.table.titles
    if titles is None:
        raise ArtifactError("table: expected titles; a base of ML-100K or ML-1M has them")
    row_of = {title: row for row, title in enumerate(titles)}
    found = []
    for name, wanted in PERSONAS.items():
        history = [row_of[title] for title in wanted if title in row_of]
        profile = open_session(payloads.base, history=np.array(history, np.int32)).profile()
        payload = base64.b64encode(payloads.answer(profile)).decode()
        found.append({"name": name, "history": history, "payload": payload})
    return found


if __name__ == "__main__":
    main()
