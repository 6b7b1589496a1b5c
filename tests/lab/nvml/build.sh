#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds the simulator's library, with a C compiler that it installs where it may.  build.sh [FOLDER]
set -eu
cd "$(dirname "$0")"

if ! command -v "${CC:-cc}" >/dev/null || ! command -v make >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "Installing a C compiler for the NVML simulator" >&2
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends gcc libc6-dev make >/dev/null
    else
        echo "The NVML simulator needs a C compiler and make; install them first: apt-get install gcc libc6-dev make" >&2; exit 1
    fi
fi
exec make --no-print-directory ${1:+BUILD="$1"}
