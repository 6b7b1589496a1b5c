#!/bin/sh
# Makes .venv from the hashed lock, with the first Python of 3.11 or newer on PATH.
set -eu
cd "$(dirname "$0")/../.."

usable() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
for python in python3 python3.13 python3.12 python3.11; do
    if usable "$python"; then break; fi
done
usable "$python" || { echo "Forja needs Python 3.11 or newer on PATH; found: $(python3 --version 2>&1)" >&2; exit 1; }

# Debian and Ubuntu ship venv's half of Python in a package of its own.
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends python3-venv openssh-client >/dev/null
    else
        echo "Python's venv is missing; install it first: apt-get install python3-venv" >&2; exit 1
    fi
fi

echo "Installing the tools of requirements.lock into .venv (about a minute, once)"
"$python" -m venv --clear .venv
# A sign of life: a slow index or a slow disk takes minutes.
(while sleep 15; do echo "still installing"; done) &
alive=$!
trap 'kill "$alive"' EXIT
.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
touch .venv/installed
