"""Lends the page and answers its profiles, for visitors on this machine.

Run it as

    python examples/browser/serve.py BASE DIR --port 8000
"""

import argparse
import sys
from functools import partial
from http import HTTPStatus
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

from payloads import Payloads

from ossia.adaptation import decode_profile
from ossia.errors import OssiaError


class Handler(SimpleHTTPRequestHandler):
    """Files by GET; POST /payload takes a profile and answers a payload."""

    def __init__(self, *arguments: Any, payloads: Payloads, **named: Any) -> None:
        self._payloads = payloads
        super().__init__(*arguments, **named)

    def do_POST(self) -> None:
        """Answer a profile."""
        dim = self._payloads.base.manifest.shape["dim"]
        if self.path != "/payload" or int(self.headers.get("Content-Length", -1)) != dim + 4:
            self.send_error(HTTPStatus.BAD_REQUEST, f"expected a profile of {dim + 4} bytes at /payload")
            return
        try:
            payload = self._payloads.answer(decode_profile(self.rfile.read(dim + 4), dim))
        except OssiaError as error:
            self.send_error(HTTPStatus.BAD_REQUEST, str(error))
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "application/vnd.ossia.payload")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def end_headers(self) -> None:
        """Ask for nothing to be kept, so that a page built anew is the page shown."""
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def log_request(self, *_: Any) -> None:
        """Say nothing about what went well."""


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path, metavar="BASE", help="the base that the page was made of")
    parser.add_argument("folder", type=Path, metavar="DIR", help="what make.py built")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (default: 8000)")
    arguments = parser.parse_args()
    try:
        handler = partial(Handler, payloads=Payloads(arguments.base), directory=str(arguments.folder))
    except OssiaError as error:
        sys.exit(f"serve.py: {error}")
    with HTTPServer(("127.0.0.1", arguments.port), handler) as server:
        print(f"http://127.0.0.1:{server.server_port}/", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    main()
