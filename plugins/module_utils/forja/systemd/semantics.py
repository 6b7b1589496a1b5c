# SPDX-License-Identifier: Apache-2.0
"""What the settings of unit files mean: whether two files say the same, and which settings add up and which replace each other."""

import re
from typing import Any, Dict, FrozenSet, List, Tuple

from ..host.errors import ForjaError
from .unit_file import Entry, assignments, words

# systemd accepts more words than these two, see parse_boolean(); we write yes and no because `Restart=no` knows no other spelling.
BOOLEANS = {"1": "yes", "yes": "yes", "y": "yes", "true": "yes", "t": "yes", "on": "yes",
            "0": "no", "no": "no", "n": "no", "false": "no", "f": "no", "off": "no"}

# Keys that collect values over several lines and files, until an empty assignment resets them. In WORD_KEYS a value is a list of
# words that may be quoted; in LINE_KEYS it is the line as it stands.
WORD_KEYS = frozenset(re.findall(r"\w+", """
    Alias WantedBy RequiredBy UpheldBy Also Symlinks PassEnvironment UnsetEnvironment SupplementaryGroups
    ReadWritePaths ReadOnlyPaths InaccessiblePaths ExecPaths NoExecPaths ExecSearchPath
    BindPaths BindReadOnlyPaths TemporaryFileSystem RuntimeDirectory StateDirectory CacheDirectory LogsDirectory ConfigurationDirectory
"""))
LINE_KEYS = frozenset(re.findall(r"\w+", """
    Documentation EnvironmentFile LoadCredential LoadCredentialEncrypted SetCredential SetCredentialEncrypted ImportCredential
    MountImages ExtensionImages ExtensionDirectories OpenFile BPFProgram LogExtraFields LogFilterPatterns
    StandardInputText StandardInputData DeviceAllow
    IODeviceWeight IOReadBandwidthMax IOWriteBandwidthMax IOReadIOPSMax IOWriteIOPSMax IODeviceLatencyTargetSec
    IPAddressAllow IPAddressDeny IPIngressFilterPath IPEgressFilterPath SocketBindAllow SocketBindDeny NFTSet RestrictNetworkInterfaces
    SystemCallFilter SystemCallArchitectures SystemCallLog RestrictAddressFamilies RestrictNamespaces RestrictFileSystems
    CapabilityBoundingSet AmbientCapabilities SecureBits CPUAffinity NUMAMask AllowedCPUs AllowedMemoryNodes DisableControllers
    SuccessExitStatus RestartPreventExitStatus RestartForceExitStatus
"""))
# Word lists that only grow: an empty assignment does nothing to them, systemd.unit(5), "Overriding vendor settings".
DEPENDENCIES = frozenset(re.findall(r"\w+", """
    After Before Wants Requires Requisite BindsTo PartOf Upholds Conflicts OnFailure OnSuccess PropagatesReloadTo ReloadPropagatedFrom
    PropagatesStopTo StopPropagatedFrom JoinsNamespaceOf RequiresMountsFor WantsMountsFor Sockets
"""))
# Different keys that share one list: an empty assignment to any of them resets all, so their order among each other matters.
SHARED_LISTS = (
    ("Unit", re.compile("Condition"), "Condition*"),
    ("Unit", re.compile("Assert"), "Assert*"),
    ("Socket", re.compile("Listen"), "Listen*"),
    ("Timer", re.compile("On(Calendar|.*Sec)$"), "On*"),
    ("Path", re.compile("Path|DirectoryNotEmpty"), "Path*"),
)


def list_of(section: str, key: str) -> str:
    """The name of the list a key writes to: its own, except where several keys share one."""
    for where, pattern, name in SHARED_LISTS:
        if where == section and pattern.match(key):
            return name
    return key


def accumulates(section: str, key: str) -> bool:
    """Whether a further assignment adds to the earlier ones instead of replacing them."""
    return key.startswith("Exec") or key == "Environment" or key in WORD_KEYS | LINE_KEYS | DEPENDENCIES or list_of(section, key) != key


def same_value(key: str, value: str, boolean: bool = False) -> Any:
    """A form of the value in which two spellings of one meaning are equal."""
    if boolean:
        return BOOLEANS.get(value.lower(), value)
    # In commands a lone ; separates two commands and a quoted one does not: leave such lines as they are.
    if key in WORD_KEYS | DEPENDENCIES or (key.startswith("Exec") and ";" not in value):
        try:
            return tuple(words(value))
        except ForjaError:
            return value
    return value


def meaning(entries: List[Entry], booleans: FrozenSet[Tuple[str, str]] = frozenset()) -> Dict[Tuple[str, str], Any]:
    """What the entries say, so that == compares meanings: comments, layout, quoting and the order of unrelated keys are gone.

    `booleans` are the (section, key) pairs for which yes, true, 1 and on are one value.
    """
    result: Dict[Tuple[str, str], Any] = {}
    for section, key, value in entries:
        name = (section, list_of(section, key))
        if key == "Environment" and (value == "" or assignments(value)):
            # The value is {variable: text}, and "" -> "" in it says that a reset came first.
            result[name] = {"": ""} if value == "" else dict(result.get(name, {}), **assignments(value))
        elif value == "" and key in DEPENDENCIES:
            pass
        elif value == "":
            result[name] = [(name[1], "")]
        else:
            # Environment= with words that systemd ignores lands beside the variables: such a file is not the same.
            slot = name if key != "Environment" else (section, "Environment, ignored by systemd")
            result.setdefault(slot, []).append((key, same_value(key, value, (section, key) in booleans)))
    return result
