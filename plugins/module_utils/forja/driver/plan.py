# SPDX-License-Identifier: Apache-2.0
"""Which NVIDIA driver packages a host gets, or why none. Pure: facts, host and wish in, a decision with its reason out."""

from fnmatch import fnmatchcase
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from ..facts.kernels import newest
from ..host.errors import ForjaError
from . import package_names as names
from .rules import SUPPORTED, Host, Wish, flavour_of, key_is_needed, newest_branch, refuse_branch, refuse_mixing


class Decision(NamedTuple):
    action: str  # none, keep, install, stage_mok, remove
    reason: str
    source: Optional[str] = None
    flavour: Optional[str] = None
    branch: Optional[str] = None
    version: Optional[str] = None
    before: List[str] = []
    packages: List[str] = []
    absent: List[str] = []
    absent_before: List[str] = []
    kernels: List[str] = []  # those that must have a module before nouveau goes
    dkms: bool = False
    fabric_manager: bool = False
    unknown: List[str] = []  # packages that apt does not know yet
    notes: List[str] = []


def decide(facts: Dict[str, Any], host: Host, wish: Wish) -> Decision:
    """Raises ForjaError for what cannot be; returns what to do otherwise."""
    recommended, driver = facts["recommended"], facts["driver"]
    kind = recommended["driver"]
    if kind in ("none", "rocm"):
        return Decision("none", recommended["reasons"]["driver"])
    asked = bool(wish.source != "auto" or wish.version or wish.flavour != "auto" or wish.upgrade)
    if works(facts) and not asked:
        keep = Decision("keep", f"NVIDIA {driver['loaded_version']} works and nothing else was asked for.",
                        source=driver["source"], flavour=driver["flavour"], version=driver["loaded_version"])
        if not host.ours:
            return keep
        try:  # What we set up stays complete: a new kernel gets its module, too.
            return _choose(facts, host, wish._replace(flavour=driver["flavour"] or "auto"))
        except ForjaError as error:
            return keep._replace(notes=[str(error)])
    try:
        return _choose(facts, host, wish)
    except ForjaError as error:
        if not asked and reboot_mends(facts):
            raise ForjaError(f"Reboot this host first: NVIDIA {driver['loaded_version']} is loaded, its libraries are of "
                             f"{driver['library_version']}, and the newest kernel has a module. If that does not help: {error}") from error
        raise


def reboot_mends(facts: Dict[str, Any]) -> bool:
    """Whether only an older module is still loaded, and a newer one waits for the next boot."""
    driver = facts["driver"]
    last = newest(driver["kernels"])
    return bool(driver["mismatch"] and last and last["module"])


def _choose(facts: Dict[str, Any], host: Host, wish: Wish) -> Decision:
    recommended, driver = facts["recommended"], facts["driver"]
    if host.version not in SUPPORTED.get(host.distribution, ()):
        raise ForjaError(f"{host.distribution} {host.version} is not among "
                          f"{', '.join(f'{n} {v}' for n, vs in sorted(SUPPORTED.items()) for v in vs)}, for which this role knows the "
                          "driver's packages.")
    flavour = flavour_of(facts, wish)
    source, branch = _source_and_branch(facts, host, wish, flavour)
    refuse_mixing(driver, source)
    refuse_branch(facts, wish, source, flavour, branch)
    if source == "grid":
        return _grid(facts, host, wish, branch)
    prebuilt = source == "distribution" and host.distribution == "Ubuntu"
    stage = key_is_needed(facts, host, wish, prebuilt)
    fabric = names.fabric_manager("debian" if host.distribution == "Debian" and source == "distribution" else source, branch)
    if recommended["fabric_manager"] and not fabric:
        why = recommended["reasons"]["fabric_manager"]
        raise ForjaError(f"Debian has no fabric manager. {why} Choose nvidia_driver_source: nvidia.")
    choice = _packages(host, wish, source, flavour, branch)
    set_ = choice.set + (fabric if recommended["fabric_manager"] else [])
    pattern, version = _version(host, wish, choice.set, branch)
    # What else is installed of the driver changes its version with it: apt alone would leave the rest of a downgrade behind.
    rest = sorted(name for name in host.installed if name not in set_ + choice.others + choice.wrong
                  and not names.OWN_VERSION.match(name) and any(fnmatchcase(v, pattern) for v in host.offered.get(name, [])))
    going = [name for name in choice.wrong if name in host.installed]
    if host.distribution == "Ubuntu":
        going += sorted(name for name in host.installed if name not in set_ + rest + choice.others + choice.wrong
                        and names.of_other_series(name, source, wish.graphics, branch))
    pin = [f"nvidia-driver-pinning-{wish.version if '.' in wish.version else branch}"] if source == "nvidia" else []
    headers, notes = ([], []) if prebuilt else _headers(host)
    packages = [f"{name}={pattern}" for name in set_ + rest] + choice.others
    plain = [item.partition("=")[0] for item in headers + pin + packages]
    return Decision(
        "stage_mok" if stage else "install", _why(facts, wish, source, flavour, branch, host), source, flavour, branch, version,
        before=headers + pin, packages=packages, absent=going,
        absent_before=[name for name in sorted(host.installed) if name.startswith("nvidia-driver-pinning-") and name not in pin],
        kernels=[release for release, _headers_there in host.kernels if prebuilt or _can_build(host, release)],
        dkms=not prebuilt, fabric_manager=recommended["fabric_manager"],
        unknown=[name for name in plain if name not in host.offered and name not in host.installed], notes=notes,
    )


def remove(facts: Dict[str, Any], host: Host) -> Decision:
    """The packages that go for nvidia_driver_state: absent."""
    kind = facts["platform"]["kind"]
    if kind in ("jetson", "container"):
        return Decision("none", facts["recommended"]["reasons"]["driver"])
    going = [name for name in sorted({*host.installed, *host.halves}) if not names.LEFT_TO_APT.match(name)]
    source = "grid" if facts["driver"]["source"] == "run" else facts["driver"]["source"]
    return Decision("remove", "It was asked for.", source, absent=going)


def works(facts: Dict[str, Any]) -> bool:
    """Whether a module is loaded and the libraries fit it. What NVML says beyond that, no other driver would mend."""
    driver = facts["driver"]
    return bool(driver["loaded_version"] and driver["library_version"] and not driver["mismatch"])


def there(facts: Dict[str, Any], host: Host, kernels: List[str]) -> Dict[str, Any]:
    """Whether there is a driver, and for which of `kernels` it must have a module again after a change that failed.

    One that drives the GPUs now stays on the kernels that it is for, also where it does not fit a newer one: it is no better without.
    """
    has = {kernel["release"] for kernel in facts["driver"]["kernels"] if kernel["module"]}
    present = any(not names.LEFT_TO_APT.match(name) for name in host.installed)
    return {"installed": present, "kernels": [release for release in kernels if release in has or not works(facts)]}


def _source_and_branch(facts: Dict[str, Any], host: Host, wish: Wish, flavour: str) -> Tuple[str, str]:
    recommended, driver = facts["recommended"], facts["driver"]
    wanted = wish.version.split(".")[0]
    if recommended["driver"] == "grid" and wish.source not in ("auto", "grid"):
        raise ForjaError(f"{recommended['reasons']['driver']} Leave nvidia_driver_source at auto.")
    if recommended["driver"] == "grid" or wish.source == "grid":
        # What is installed stays, too.
        kept = driver["installed_version"] if driver["source"] == "run" and not wish.upgrade else None
        return "grid", wanted or str(kept or recommended["branch"]).split(".")[0]
    # What is installed stays as it is unless something else is asked for, so that a repair is no upgrade.
    present = {"distribution": "distribution", "nvidia_repository": "nvidia", "run": "run"}.get(driver["source"] or "")
    source = wish.source if wish.source != "auto" else present
    kept = str(driver["installed_version"]).split(".")[0] if present and source == present and not wish.upgrade else ""
    if kept in names.ENDED and not wish.allow_ended and not works(facts) and not _offers(host, kept):
        kept = ""  # there is nothing left to repair it with
    branch = wanted or kept or str(recommended["branch"])
    if source == "run":
        return source, branch
    if source == "nvidia":
        return source, branch
    if host.distribution == "Ubuntu":
        signed = [b for b in dict.fromkeys([branch] + ([] if wanted or kept else list(names.MAINTAINED)))
                  if _prebuilt(host, wish, flavour, b) and (flavour == "open" or int(b) <= newest_branch(facts))]
        if signed:
            return "distribution", signed[0]
        if source == "distribution":
            raise ForjaError(f"Ubuntu's archive has no signed module of R{branch} ({flavour}) for "
                              f"{', '.join(release for release, _h in host.kernels) or 'this kernel'}. Choose nvidia_driver_source: "
                              "nvidia.")
        return "nvidia", branch
    if source == "distribution":
        has = names.DEBIAN_BRANCH[host.version]
        if wanted and wanted != has:
            raise ForjaError(f"Debian {host.version} has R{has} and not R{wanted}. Choose nvidia_driver_source: nvidia.")
        return source, has
    return "nvidia", branch


def _offers(host: Host, branch: str) -> bool:
    """Whether apt has any package of the branch."""
    return any(version.startswith(branch + ".") for versions in host.offered.values() for version in versions)


def _can_build(host: Host, release: str) -> bool:
    there = dict(host.kernels).get(release)
    return bool(there) or bool(host.offered.get("linux-headers-" + release))


def _headers(host: Host) -> Tuple[List[str], List[str]]:
    """Packages with the headers that DKMS needs, and notes; raises where the newest kernel could have no module."""
    if not host.kernels:
        # A machine that is managed always has one. Headers would bring a kernel on Debian 13, on which they depend.
        return [], ["This host has no kernel of its own, so no module is built or verified."]
    missing = [release for release, _there in host.kernels if not _can_build(host, release)]
    newest = host.kernels[-1][0]
    if newest in missing:
        raise ForjaError(f"apt has no linux-headers-{newest}, so the driver's module cannot be built for the newest kernel of this host. "
                          "Install the archive's current kernel, reboot into it, then run again. Nothing was changed.")
    wanted = ["linux-headers-" + release for release, there in host.kernels if not there and release not in missing]
    # New kernels then come with their headers.
    wanted += [name.replace("linux-image-", "linux-headers-") for name in host.image_packages]
    notes = [f"apt has no headers for {old}, which runs now: the driver is there after a reboot into {newest}." for old in missing]
    return wanted, notes


def _prebuilt(host: Host, wish: Wish, flavour: str, branch: str) -> List[str]:
    """The kernels of this host for which the archive has a signed module; none unless the newest one is among them."""
    name = f"linux-modules-nvidia-{names.series(flavour, wish.graphics, branch)}-"
    have = [release for release, _there in host.kernels if host.offered.get(name + release) or name + release in host.installed]
    return have if have and host.kernels[-1][0] in have else []


def _packages(host: Host, wish: Wish, source: str, flavour: str, branch: str) -> names.Names:
    if source == "nvidia":
        if host.distribution == "Debian":
            return names.of_nvidia_for_debian(flavour, wish.graphics)
        return names.of_nvidia_for_ubuntu(flavour, wish.graphics, branch)
    if host.distribution == "Debian":
        return names.of_debian(flavour, wish.graphics)
    kernels = _prebuilt(host, wish, flavour, branch)
    name = f"linux-modules-nvidia-{names.series(flavour, wish.graphics, branch)}-"
    lines = [line for line in names.kernel_lines(kernels, host.image_packages, host.architecture)
             if host.offered.get(name + line) or name + line in host.installed]
    return names.of_ubuntu(flavour, wish.graphics, branch, kernels, lines)


def _version(host: Host, wish: Wish, set_: List[str], branch: str) -> Tuple[str, Optional[str]]:
    """The pattern that every package of the set must match, and NVIDIA's version where it is known already."""
    loose = (wish.version or branch) + ("-*" if wish.version.count(".") > 1 else ".*")
    for name in set_:
        present = host.installed.get(name, "")
        if fnmatchcase(present, loose) and not wish.upgrade:
            return _exact(present)
    for name in set_:
        fitting = [version for version in host.offered.get(name, []) if fnmatchcase(version, loose)]
        if fitting:
            return _exact(fitting[0])
    return loose, None


def _exact(version: str) -> Tuple[str, str]:
    upstream = version.split("-")[0]
    return upstream + "-*", upstream


def _grid(facts: Dict[str, Any], host: Host, wish: Wish, branch: str) -> Decision:
    if facts["secure_boot"] is not False and wish.secure_boot != "known_off":
        raise ForjaError("Microsoft's GRID driver for Linux needs Secure Boot off. Nothing was changed. Deallocate the VM and set "
                          "`secureBootEnabled` of its security profile to false, then run again.")
    fitting = [release for release in wish.grid_releases if release == wish.version or release.split(".")[0] == branch]
    if not fitting:
        raise ForjaError(f"nvidia_driver_grid_releases has no release of R{branch}, only {', '.join(wish.grid_releases) or 'none'}. "
                          f"{facts['recommended']['reasons']['branch'] or ''} Add its version with address and SHA-256.")
    headers, notes = _headers(host)
    driver = facts["driver"]
    kept = driver["source"] == "run" and driver["installed_version"] in fitting and not wish.upgrade
    version = driver["installed_version"] if kept else fitting[0]
    kernels = [release for release, _there in host.kernels if _can_build(host, release)]
    return Decision("install", facts["recommended"]["reasons"]["driver"], "grid", flavour_of(facts, wish), branch, version,
                    before=headers + ["dkms"], kernels=kernels, dkms=True, notes=notes)


def _why(facts: Dict[str, Any], wish: Wish, source: str, flavour: str, branch: str, host: Host) -> str:
    recommended = facts["recommended"]
    parts = [recommended["reasons"]["driver"] if wish.flavour == "auto" else f"The {flavour} module was asked for."]
    if wish.version:
        parts.append(f"{wish.version} was asked for.")
    elif branch == str(recommended["branch"]):
        parts.append(recommended["reasons"]["branch"])
    if source == "distribution":
        parts.append("Ubuntu's modules are signed." if host.distribution == "Ubuntu" else "Debian's packages were asked for.")
    return " ".join(parts)
