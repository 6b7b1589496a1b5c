#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Serves the lab's stand-in for Ollama, with a registry of one made-up model, for the playbook ollama_model.yml.

    serve_ollama.py FOLDER

The address and the model's digest stand in FOLDER/server.json once the stand-in answers. It ends when that file is removed.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.unit.lab.ollama_server import Registry, standin  # noqa: E402  (what the unit tests use)

MODEL = "tiny:1b"


def main(folder: Path) -> None:
    with Registry.run() as registry, standin(folder, registry) as ollama:
        facts = {"host": f"http://{ollama.host}", "model": MODEL, "digest": registry.publish(MODEL)}
        draft, known = folder / "server.json.draft", folder / "server.json"
        draft.write_text(json.dumps(facts))
        draft.rename(known)
        while known.exists():
            time.sleep(0.1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
