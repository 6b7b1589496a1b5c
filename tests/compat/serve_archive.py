#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Serve an archive with one program for tests/compat/release_archive.yml. The argument is a folder; it holds server.json then."""

import functools
import hashlib
import io
import json
import os
import sys
import tarfile
from http.server import HTTPServer, SimpleHTTPRequestHandler

folder = sys.argv[1]
with tarfile.open(f"{folder}/demo.tar.gz", "w:gz") as file:
    entry = tarfile.TarInfo("bin/demo")
    entry.size, entry.mode = 5, 0o755
    file.addfile(entry, io.BytesIO(b"demo\n"))
with open(f"{folder}/demo.tar.gz", "rb") as archive:
    sha256 = hashlib.sha256(archive.read()).hexdigest()
server = HTTPServer(("127.0.0.1", 0), functools.partial(SimpleHTTPRequestHandler, directory=folder))
with open(f"{folder}/server.new", "w") as told:
    json.dump({"url": f"http://127.0.0.1:{server.server_port}/demo.tar.gz", "sha256": sha256}, told)
os.rename(f"{folder}/server.new", f"{folder}/server.json")
while os.path.isdir(folder):
    server.timeout = 1
    server.handle_request()
