# SPDX-License-Identifier: Apache-2.0
"""Forja with other versions of what it runs on. Arguments name the parts; without any, all run.

floors: the managed side on the oldest Pythons. cores: the installed collection with each ansible-core. bindings: other pynvml.
"""

from __future__ import annotations

import sys

from tests.compat import bindings, cores, floors

PARTS = {"floors": floors.main, "cores": cores.main, "bindings": bindings.main}


def main(names: list[str]) -> int:
    failed = [name for name in names or PARTS if PARTS[name]() != 0]
    for name in failed:
        print(f"compat: {name} failed; `python3 -m tests.compat {name}` runs it alone.", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
