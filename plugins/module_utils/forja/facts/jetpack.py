# SPDX-License-Identifier: Apache-2.0
"""Jetson releases and modules. Data only; jetson.py reads it.

Sources: NVIDIA's JetPack archive (developer.nvidia.com/embedded/jetpack-archive) and release notes, NVIDIA's public
Jetson guides of 2026-08, the module ids in device trees of the boards. To extend: one line for a new L4T release.
"""

# L4T release: (JetPack, CUDA). A newer patch release that is missing here falls back to the nearest older one.
RELEASES = {
    "32.4.4": ("4.4.1", "10.2"),
    "32.5.0": ("4.5", "10.2"),
    "32.5.1": ("4.5.1", "10.2"),
    "32.6.1": ("4.6", "10.2"),
    "32.7.1": ("4.6.1", "10.2"),
    "32.7.2": ("4.6.2", "10.2"),
    "32.7.3": ("4.6.3", "10.2"),
    "32.7.4": ("4.6.4", "10.2"),
    "32.7.5": ("4.6.5", "10.2"),
    "32.7.6": ("4.6.6", "10.2"),
    "35.1.0": ("5.0.2", "11.4"),
    "35.2.1": ("5.1", "11.4"),
    "35.3.1": ("5.1.1", "11.4"),
    "35.4.1": ("5.1.2", "11.4"),
    "35.5.0": ("5.1.3", "11.4"),
    "35.6.0": ("5.1.4", "11.4"),
    "35.6.1": ("5.1.5", "11.4"),
    "35.6.2": ("5.1.5", "11.4"),
    "35.6.3": ("5.1.5", "11.4"),
    "35.6.4": ("5.1.6", "11.4"),
    "35.6.5": ("5.1.7", "11.4"),
    "36.3.0": ("6.0", "12.2"),
    "36.4.0": ("6.1", "12.6"),
    "36.4.2": ("6.1", "12.6"),
    "36.4.3": ("6.2", "12.6"),
    "36.4.4": ("6.2.1", "12.6"),
    "36.4.7": ("6.2.1", "12.6"),
    "36.5.0": ("6.2.2", "12.6"),
    "36.5.2": ("6.2.3", "12.6"),
    "38.2.0": ("7.0", "13.0"),
    "38.2.1": ("7.0", "13.0"),
    "38.2.2": ("7.0", "13.0"),
    "38.4.0": ("7.1", "13.0"),
    "39.2.0": ("7.2", "13.2"),
    "39.2.1": ("7.2.1", "13.2"),
    "39.2.2": ("7.2.2", "13.2"),
}

# JetPack: the tag of Python wheels built for it, in the Jetson AI Lab's index (pypi.jetson-ai-lab.io). From JetPack 7
# on the server (SBSA) builds serve too. The tags of 7.0 and 7.1 are inferred from their CUDA 13.0.
WHEELS = {"6.1": "cu126", "6.2": "cu126", "7.0": "cu130", "7.1": "cu130", "7.2": "cu132"}

# SoC: (family, GPU architecture, compute capability)
SOCS = {
    "tegra210": ("Nano", "Maxwell", "5.3"),
    "tegra186": ("TX2", "Pascal", "6.2"),
    "tegra194": ("Xavier", "Volta", "7.2"),
    "tegra234": ("Orin", "Ampere", "8.7"),
    "tegra264": ("Thor", "Blackwell", "11.0"),
}

# Module part number, as in `nvidia,p3767-0003` of the device tree's compatible list.
MODULES = {
    "p3448-0000": "Jetson Nano 4GB developer kit",
    "p3448-0002": "Jetson Nano 4GB",
    "p3448-0003": "Jetson Nano 2GB developer kit",
    "p3310-1000": "Jetson TX2",
    "p3636-0001": "Jetson TX2 NX",
    "p3668-0000": "Jetson Xavier NX developer kit",
    "p3668-0001": "Jetson Xavier NX 8GB",
    "p3668-0003": "Jetson Xavier NX 16GB",
    "p2888-0001": "Jetson AGX Xavier 16GB",
    "p2888-0003": "Jetson AGX Xavier 32GB",
    "p2888-0004": "Jetson AGX Xavier 32GB",
    "p2888-0005": "Jetson AGX Xavier 64GB",
    "p2888-0006": "Jetson AGX Xavier 8GB",
    "p2888-0008": "Jetson AGX Xavier Industrial",
    "p3701-0000": "Jetson AGX Orin developer kit",
    "p3701-0002": "IGX Orin",
    "p3701-0004": "Jetson AGX Orin 32GB",
    "p3701-0005": "Jetson AGX Orin 64GB",
    "p3767-0000": "Jetson Orin NX 16GB",
    "p3767-0001": "Jetson Orin NX 8GB",
    "p3767-0003": "Jetson Orin Nano 8GB",
    "p3767-0004": "Jetson Orin Nano 4GB",
    "p3767-0005": "Jetson Orin Nano developer kit",
    "p3834-0008": "Jetson T5000",
}
