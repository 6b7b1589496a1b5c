# SPDX-License-Identifier: Apache-2.0
"""Azure's VM sizes with GPUs. Data only; azure.py reads it.

Sources: the size pages under learn.microsoft.com/azure/virtual-machines/sizes/gpu-accelerated, the driver choices of
Azure/azhpc-images and Azure/AKS, read in 2026. To extend: one line; the first pattern that matches the whole size name
(lower case, without `standard_`) wins.
"""

from typing import NamedTuple, Optional, Tuple


class Family(NamedTuple):
    """Sizes that differ in the count of GPUs only.

    gpus is None where one line covers sizes with different counts. memory_gib is what one GPU of the VM offers; share is
    the part of a GPU that the VM gets (1/6 of an A10, for example). driver is open, proprietary, grid, rocm or none
    (Linux is not served). fabric is fabric_manager, imex or none. retired is the day on which Azure ended the size, as
    YYYY-MM-DD, or the year.
    """

    pattern: str
    model: str
    memory_gib: int
    gpus: Optional[int]
    driver: str
    share: str = "1"
    fabric: str = "none"
    retired: Optional[str] = None
    note: Optional[str] = None


_LICENSED = "the size gets a vGPU or is licensed for one: only Microsoft's GRID build drives it"

SIZES: Tuple[Family, ...] = (
    Family(r"nc(4|8|16)as_t4_v3", "NVIDIA T4", 16, 1, "open"),
    Family(r"nc64as_t4_v3", "NVIDIA T4", 16, 4, "open"),
    Family(r"nc24ads_a100_v4", "NVIDIA A100 80GB PCIe", 80, 1, "open"),
    Family(r"nc48ads_a100_v4", "NVIDIA A100 80GB PCIe", 80, 2, "open"),
    Family(r"nc96ads_a100_v4", "NVIDIA A100 80GB PCIe", 80, 4, "open"),
    Family(r"nc40ads_h100_v5", "NVIDIA H100 NVL", 94, 1, "open"),
    Family(r"nc80adis_h100_v5", "NVIDIA H100 NVL", 94, 2, "open"),
    Family(r"ncc40ads_h100_v5", "NVIDIA H100 NVL", 94, 1, "open", note="confidential VM: the driver must be signed"),
    Family(r"nc(24|36)l?ds(_xl)?_rtxpro6000bse_v6", "NVIDIA RTX PRO 6000 Blackwell Server Edition", 24, 1, "grid", "1/4", note=_LICENSED),
    Family(r"nc72l?ds(_xl)?_rtxpro6000bse_v6", "NVIDIA RTX PRO 6000 Blackwell Server Edition", 48, 1, "grid", "1/2", note=_LICENSED),
    Family(r"nc(128|144)l?ds(_xl)?_rtxpro6000bse_v6", "NVIDIA RTX PRO 6000 Blackwell Server Edition", 96, 1, "grid", note=_LICENSED),
    Family(r"nc(256|288|320)l?ds(_xl)?_rtxpro6000bse_v6", "NVIDIA RTX PRO 6000 Blackwell Server Edition", 96, 2, "grid", note=_LICENSED),
    Family(r"nc(8|16|32)ads_a10_v4", "NVIDIA A10", 24, 1, "grid", note=_LICENSED),
    Family(r"nd40rs_v2", "NVIDIA Tesla V100 SXM2 32GB", 32, 8, "proprietary"),
    Family(r"nd96asr_(a100_)?v4", "NVIDIA A100 SXM4 40GB", 40, 8, "open", fabric="fabric_manager"),
    Family(r"nd96amsr_a100_v4", "NVIDIA A100 SXM4 80GB", 80, 8, "open", fabric="fabric_manager"),
    Family(r"nd96isr?_h100_v5", "NVIDIA H100 SXM5 80GB", 80, 8, "open", fabric="fabric_manager"),
    Family(r"nd96isr?_h200_v5", "NVIDIA H200 SXM 141GB", 141, 8, "open", fabric="fabric_manager"),
    Family(r"nd128isr_ndr_gb200_v6", "NVIDIA GB200", 192, 4, "open", fabric="imex"),
    Family(r"nd128isr(g5)?_gb300_v6", "NVIDIA GB300", 288, 4, "open", fabric="imex"),
    Family(r"nd96isr_mi300x_v5", "AMD Instinct MI300X", 192, 8, "rocm"),
    Family(r"nv6ads_a10_v5", "NVIDIA A10", 4, 1, "grid", "1/6", note=_LICENSED),
    Family(r"nv12ads_a10_v5", "NVIDIA A10", 8, 1, "grid", "1/3", note=_LICENSED),
    Family(r"nv18ads_a10_v5", "NVIDIA A10", 12, 1, "grid", "1/2", note=_LICENSED),
    Family(r"nv36adm?s_a10_v5", "NVIDIA A10", 24, 1, "grid", note=_LICENSED),
    Family(r"nv72ads_a10_v5", "NVIDIA A10", 24, 2, "grid", note=_LICENSED),
    Family(r"nv4ads_v710_v5", "AMD Radeon PRO V710", 4, 1, "rocm", "1/6"),
    Family(r"nv8ads_v710_v5", "AMD Radeon PRO V710", 8, 1, "rocm", "1/3"),
    Family(r"nv12ads_v710_v5", "AMD Radeon PRO V710", 12, 1, "rocm", "1/2"),
    Family(r"nv(24ads|28adms)_v710_v5", "AMD Radeon PRO V710", 24, 1, "rocm"),
    Family(r"ng8ads_v620_v1", "AMD Radeon PRO V620", 8, 1, "none", "1/4", note="AMD has no Linux driver for it"),
    Family(r"ng16ads_v620_v1", "AMD Radeon PRO V620", 16, 1, "none", "1/2", note="AMD has no Linux driver for it"),
    Family(r"ng32adm?s_v620_v1", "AMD Radeon PRO V620", 32, 1, "none", note="AMD has no Linux driver for it"),
    Family(r"nv12s_v3", "NVIDIA Tesla M60", 8, 1, "grid", retired="2026-09-30", note=_LICENSED),
    Family(r"nv24s_v3", "NVIDIA Tesla M60", 8, 2, "grid", retired="2026-09-30", note=_LICENSED),
    Family(r"nv48s_v3", "NVIDIA Tesla M60", 8, 4, "grid", retired="2026-09-30", note=_LICENSED),
    Family(r"nv(4|8|16|32)ah?s_v4", "AMD Radeon Instinct MI25", 16, 1, "none", retired="2026-09-30", note="Windows only"),
    Family(r"nc6s_v3", "NVIDIA Tesla V100 PCIe 16GB", 16, 1, "proprietary", retired="2025-09-30"),
    Family(r"nc12s_v3", "NVIDIA Tesla V100 PCIe 16GB", 16, 2, "proprietary", retired="2025-09-30"),
    Family(r"nc24r?s_v3", "NVIDIA Tesla V100 PCIe 16GB", 16, 4, "proprietary", retired="2025-09-30"),
    # The year of these four is from memory of Azure's announcements and was not read again.
    Family(r"nc(6|12|24r?)(_promo)?", "NVIDIA Tesla K80", 12, None, "none", retired="2023", note="no driver branch still supports the K80"),
    Family(r"nc(6|12|24r?)s_v2", "NVIDIA Tesla P100 PCIe 16GB", 16, None, "proprietary", retired="2023"),
    Family(r"nd(6|12|24r?)s", "NVIDIA Tesla P40", 24, None, "proprietary", retired="2023"),
    Family(r"nv(6|12|24)(_promo)?", "NVIDIA Tesla M60", 8, None, "grid", retired="2023", note=_LICENSED),
)
