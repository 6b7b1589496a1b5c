# SPDX-License-Identifier: Apache-2.0
"""Plan daemon.json: what was asked for, what is only a default, and what a person or a flag has decided already. Pure."""

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from ..host.errors import ForjaError
from .config import Config, drain, fill, merge, prune, same
from .flags import Flags

LOG_DRIVER = "json-file"  # what the engine takes where nothing is set
ROTATED = ("json-file", "local")
# Drivers of the engine that name their options after themselves (daemon/logger/*/ of moby, ValidateLogOpt).
PREFIXED = ("awslogs", "fluentd", "gelf", "splunk", "syslog")
BUILT_IN = (*ROTATED, *PREFIXED, "etwlogs", "gcplogs", "journald", "none")
ROTATION = ("max-size", "max-file", "compress")


class Request(NamedTuple):
    """`settings` win over the file; `defaults` count where neither the file nor a flag of dockerd sets a key."""

    settings: Config
    defaults: Config = {}
    state: str = "present"


class Plan(NamedTuple):
    """What daemon.json says, what it will say, the steps between the two (none: they mean the same), and notes for a person."""

    before: Config
    after: Config
    steps: List[str]
    notes: List[str] = []


def plan(before: Config, request: Request, flags: Flags, path: str, swarm: bool = False) -> Plan:
    """Plan the file. `swarm`: the engine is a node of a swarm, which refuses live-restore."""
    notes: List[str] = []
    if request.state == "absent":
        after = drain(prune(before, request.settings), request.defaults)
    else:
        after = merge(before, request.settings)
        if "log-driver" in request.settings and not same(before.get("log-driver"), after.get("log-driver")):
            after = _without_foreign_options(after, request.settings)
        defaults, notes = _applicable(request, flags, after, swarm)
        after = fill(_without_own(after, request, flags), defaults, request.settings)
    if same(before, after):
        return Plan(before, before, [], notes)
    touched = [key for key in sorted(set(before) | set(after)) if not same(before.get(key), after.get(key))]
    emptied = request.state == "absent" and not after
    step = f"remove {path}, nothing is left in it" if emptied else f"write {path}: {', '.join(touched)}"
    return Plan(before, after, [step], notes)


def _without_own(config: Config, request: Request, flags: Flags) -> Config:
    """Take defaults back out of the file which the engine refuses by now: keys that are flags, options of another log driver."""
    own = {key: value for key, value in request.defaults.items() if key in flags and key not in request.settings}
    options = request.defaults.get("log-opts")
    if isinstance(options, dict) and "log-opts" not in own:
        kept = drain(config, own)
        strange = foreign(list(options), log_driver(kept, flags))
        named = request.settings.get("log-opts")
        own["log-opts"] = {name: options[name] for name in strange if not (isinstance(named, dict) and name in named)}
    return drain(config, own)


def _applicable(request: Request, flags: Flags, config: Config, swarm: bool) -> Tuple[Config, List[str]]:
    """Return the defaults that may be added, and a note for each that something else has decided."""
    driver = log_driver({**config, **({} if "log-driver" in config else {"log-driver": request.defaults.get("log-driver")})}, flags)
    defaults, notes = {}, []  # type: Config, List[str]
    for key, value in request.defaults.items():
        if key in flags:
            notes.append(f"{key} is set by the flag {' '.join((flags[key].name, *flags[key].values))} of docker.service, which is kept")
        elif key == "live-restore" and swarm:
            notes.append("this engine is a node of a swarm, which works without live-restore only")
        elif key == "log-opts" and isinstance(value, dict):
            defaults[key] = {name: text for name, text in value.items() if not foreign([name], driver)}
        else:
            defaults[key] = value
            if key in config and key not in request.settings and not isinstance(value, (dict, list)) and not same(config[key], value):
                notes.append(f"{key} is {config[key]!r} in the file, which is kept")
    return {key: value for key, value in defaults.items() if value != {}}, notes


def log_driver(config: Config, flags: Flags) -> str:
    """Return the log driver that the engine takes for new containers."""
    flag = flags.get("log-driver")
    return str(flag.values[-1] if flag and flag.values else config.get("log-driver") or LOG_DRIVER)


def foreign(options: List[str], driver: str) -> List[str]:
    """Return the options that belong to other log drivers than this one; what a plugin knows is not known."""
    others = tuple(f"{name}-" for name in PREFIXED if name != driver)
    return [name for name in options if name.startswith(others) or name in ROTATION and driver not in ROTATED]


def _without_foreign_options(config: Config, settings: Config) -> Config:
    """Drop the options of the log driver before, but none that `settings` names."""
    options, named = config.get("log-opts"), settings.get("log-opts")
    if not isinstance(options, dict):
        return config
    leftover = set(foreign(list(options), log_driver(config, {}))) - set(named if isinstance(named, dict) else ())
    kept = {name: value for name, value in options.items() if name not in leftover}
    return {key: kept if key == "log-opts" else value for key, value in config.items() if key != "log-opts" or kept}


def refuse_log_options(config: Config, flags: Flags, path: str) -> None:
    """Raise for log options that the driver does not know: dockerd --validate accepts them, and the engine does not start."""
    options = config.get("log-opts")
    driver = log_driver(config, flags)
    strange = foreign(list(options), driver) if isinstance(options, dict) and driver in BUILT_IN else []
    if strange:
        raise ForjaError(
            f"{path} would have log-opts {', '.join(sorted(strange))}, which the log driver {driver} does not know; the engine would not "
            "start. Set log-driver as well, or remove these options. Nothing was changed."
        )


def data_root(config: Config, request: Request, flags: Flags) -> str:
    """Return the folder of images, volumes and containers: what is set, whether the engine is there or not."""
    flag = flags.get("data-root")
    places: List[Optional[Any]] = [flag.values[-1] if flag and flag.values else None, config.get("data-root"), config.get("graph")]
    places.append(request.settings.get("data-root"))
    return next((str(place) for place in places if place), "/var/lib/docker")


def refuse_moved_data(todo: Plan, request: Request, flags: Flags, info: Dict[str, Any]) -> None:
    """Raise where data-root changes under containers that outlive the restart: neither engine would manage them any more."""
    unnamed = Request({}, {}, request.state)
    old, new = data_root(todo.before, unnamed, flags), data_root(todo.after, unnamed, flags)
    running = info.get("ContainersRunning", 0)
    if old != new and running and info.get("LiveRestoreEnabled"):
        raise ForjaError(
            f"data-root changes from {old} to {new} while {running} containers run. They would keep running with no engine to manage "
            "them. Stop them (docker stop $(docker ps --quiet)), then run again. Nothing was changed."
        )


def effective(info: Dict[str, Any]) -> Dict[str, Any]:
    """Return what a running engine says of itself (GET /info); empty where it does not answer."""
    if not info:
        return {}
    driver = dict(pair[:2] for pair in info.get("DriverStatus") or [] if len(pair) >= 2)
    return {
        "version": str(info.get("ServerVersion", "")),
        "data_root": info.get("DockerRootDir", ""),
        "live_restore": bool(info.get("LiveRestoreEnabled")),
        "log_driver": info.get("LoggingDriver", ""),
        # Of moby's daemon/containerd/service.go, which the engine uses by default from 29 on.
        "image_store": "containerd" if "io.containerd.snapshotter" in str(driver.get("driver-type", "")) else "engine",
        "swarm": in_swarm(info),
    }


def in_swarm(info: Dict[str, Any]) -> bool:
    return str((info.get("Swarm") or {}).get("LocalNodeState", "inactive")) not in ("", "inactive")
