# SPDX-License-Identifier: Apache-2.0
"""The module docker_daemon: merging and comparing as tables and properties, the restart against a made-up engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from hypothesis import given
from hypothesis import strategies as st

from plugins.module_utils.forja.docker import daemon as docker_daemon_helper
from plugins.module_utils.forja.docker import engine as docker_engine
from plugins.module_utils.forja.docker.config import Config, drain, fill, mask, merge, parse, prune, render, same
from plugins.module_utils.forja.docker.engine import PREVIOUS, Engine, Unit, inspect, validate, write_and_restart
from plugins.module_utils.forja.docker.flags import endpoints, environment, expand, parse_flags, refuse_conflicts, socket_of
from plugins.module_utils.forja.docker.settings import Request, data_root, effective, plan, refuse_log_options, refuse_moved_data
from plugins.module_utils.forja.host import atomic as atomic_file
from plugins.module_utils.forja.host.errors import ForjaError
from plugins.module_utils.forja.host.run import Result
from plugins.modules import docker_daemon

PATH = "/etc/docker/daemon.json"

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
values = st.recursive(
    scalars, lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=3), below, max_size=3), max_leaves=8
)
# Few names, so that settings and files meet.
configs = st.dictionaries(st.sampled_from("abcde"), values | st.dictionaries(st.sampled_from("abc"), values, max_size=3), max_size=5)


# Merging

@pytest.mark.parametrize(("current", "settings", "result"), [
    ({}, {"debug": True}, {"debug": True}),
    ({"bip": "10.0.0.1/24"}, {"debug": True}, {"bip": "10.0.0.1/24", "debug": True}),
    ({"log-opts": {"tag": "x"}}, {"log-opts": {"max-size": "10m"}}, {"log-opts": {"tag": "x", "max-size": "10m"}}),
    ({"dns": ["10.0.0.1", "10.0.0.2"]}, {"dns": ["10.0.0.2"]}, {"dns": ["10.0.0.2"]}),
    ({"debug": True, "bip": "x"}, {"debug": None}, {"bip": "x"}),
    ({"log-opts": {"tag": "x", "max-size": "1m"}}, {"log-opts": {"max-size": None}}, {"log-opts": {"tag": "x"}}),
    ({"runtimes": "broken"}, {"runtimes": {"nvidia": {"path": "x"}}}, {"runtimes": {"nvidia": {"path": "x"}}}),
    ({"live-restore": 1}, {"live-restore": True}, {"live-restore": True}),
])
def test_merge(current: Config, settings: Config, result: Config) -> None:
    assert same(merge(current, settings), result)


@pytest.mark.parametrize(("current", "settings", "result"), [
    ({"debug": True, "bip": "x"}, {"debug": False}, {"bip": "x"}),
    ({"log-opts": {"tag": "x", "max-size": "1m"}}, {"log-opts": {"max-size": "9m"}}, {"log-opts": {"tag": "x"}}),
    ({"log-opts": {"max-size": "1m"}}, {"log-opts": {"max-size": "9m"}}, {}),
    ({"dns": ["10.0.0.1", "10.0.0.2"]}, {"dns": ["10.0.0.9"]}, {}),
    ({"runtimes": {"mine": {"path": "x"}}}, {"runtimes": {}}, {"runtimes": {"mine": {"path": "x"}}}),
    ({"runtimes": "broken"}, {"runtimes": {"nvidia": {}}}, {"runtimes": "broken"}),
    ({"bip": "x"}, {"debug": None}, {"bip": "x"}),
])
def test_prune(current: Config, settings: Config, result: Config) -> None:
    assert same(prune(current, settings), result)


@given(configs, configs)
def test_merging_and_pruning_twice_is_once(current: Config, settings: Config) -> None:
    for change in (merge, prune):
        once = change(current, settings)
        assert same(change(once, settings), once)


@given(configs, configs, configs, st.sampled_from(["present", "absent"]))
def test_nothing_is_left_to_do_after_a_plan(current: Config, settings: Config, defaults: Config, state: str) -> None:
    request = Request(settings, defaults, state)
    todo = plan(current, request, {}, PATH)
    read_again = parse(render(todo.after), PATH)
    assert plan(read_again, request, {}, PATH).steps == []
    assert bool(todo.steps) == (not same(todo.before, todo.after))


@given(configs, configs)
def test_what_is_not_named_is_kept(current: Config, settings: Config) -> None:
    for change in (merge, prune):
        result = change(current, settings)
        assert all(same(result[key], value) for key, value in current.items() if key not in settings)


@pytest.mark.parametrize(("current", "defaults", "decided", "result"), [
    ({}, {"a": 1}, {}, {"a": 1}),
    ({"a": 2}, {"a": 1}, {}, {"a": 2}),
    ({}, {"a": 1}, {"a": None}, {}),
    ({"o": {"x": 1}}, {"o": {"x": 2, "y": 3}}, {}, {"o": {"x": 1, "y": 3}}),
    ({"o": {"x": 1}}, {"o": {"y": 3}}, {"o": {"y": None}}, {"o": {"x": 1}}),
    ({"l": ["own"]}, {"l": ["ours", "own"]}, {}, {"l": ["own", "ours"]}),
    ({"l": "odd"}, {"l": ["ours"]}, {}, {"l": "odd"}),
])
def test_fill_adds_only_what_is_missing(current: Config, defaults: Config, decided: Config, result: Config) -> None:
    assert same(fill(current, defaults, decided), result)


@pytest.mark.parametrize(("current", "defaults", "result"), [
    ({"a": 1, "b": 2}, {"a": 1}, {"b": 2}),
    ({"a": 2}, {"a": 1}, {"a": 2}),
    ({"o": {"x": 1, "y": 9}}, {"o": {"x": 1, "y": 3}}, {"o": {"y": 9}}),
    ({"o": {"x": 1}}, {"o": {"x": 1}}, {}),
    ({"l": ["own", "ours"]}, {"l": ["ours"]}, {"l": ["own"]}),
    ({"l": ["ours"]}, {"l": ["ours"]}, {}),
    ({"o": {}, "l": []}, {"o": {"x": 1}, "l": ["ours"]}, {"o": {}, "l": []}),
])
def test_drain_removes_only_what_has_the_value_of_the_default(current: Config, defaults: Config, result: Config) -> None:
    assert same(drain(current, defaults), result)


@given(configs)
def test_a_rendered_file_means_the_same(config: Config) -> None:
    assert same(parse(render(config), PATH), config)


def test_a_plan_keeps_the_order_of_the_file() -> None:
    assert list(plan({"z": 1, "a": 2}, Request({"m": 3}), {}, PATH).after) == ["z", "a", "m"]


# Reading

@pytest.mark.parametrize("content", [None, b"", b"  \n", b"{}", b"\xef\xbb\xbf{}"])
def test_no_settings(content: bytes | None) -> None:
    assert parse(content, PATH) == {}


@pytest.mark.parametrize(("content", "told"), [
    (b'{\n  "a": 1\n  "b": 2\n}', r"line 3, column 3"),
    (b"[1]", r"holds a JSON list, not an object"),
    (b'"x"', r"holds a JSON str"),
    (b'{"a": NaN}', r"NaN is not a number"),
    (b'{"x": 1e400}', r"1e400 is not a number"),
    (b'{"a": [-1e999]}', r"-1e999 is not a number"),
    (b'{"log-opts": {"max-size": "1m"}, "log-opts": {"tag": "x"}}', r"the key log-opts occurs twice"),
    (b'{"o": {"k": 1, "k": 1}}', r"the key k occurs twice"),
    (b'{\n  // ours\n  "a": 1\n}', r"line 2, column 3: .*JSON has no comments"),
    (b'{\n  # ours\n  "a": 1\n}', r"JSON has no comments"),
    (b"\xff\xfe{}", r"not text in UTF-8"),
    (b"\x7fELF\x00\x01", r"line 1, column 1"),
    (b"[" * 100_000, r"not valid JSON"),
    (b'{"a": "\\ud800"}', r"not text in UTF-8"),
])
def test_a_broken_file_is_told_with_its_place(content: bytes, told: str) -> None:
    with pytest.raises(ForjaError, match=rf"(?s){told}.*kept as it is: repair it"):
        parse(content, PATH)


@pytest.mark.parametrize(("text", "shown"), [
    ("http://u:s3cret@proxy:3128", "http://***@proxy:3128"),
    ("http://token@proxy:3128/x", "http://***@proxy:3128/x"),
    ("http://u:s3c@ret@proxy", "http://***@proxy"),
    ("https://mirror.test:5000/v2", "https://mirror.test:5000/v2"),
    ("a@b", "a@b"),
])
def test_passwords_are_not_shown(text: str, shown: str) -> None:
    assert mask({"proxies": {"http-proxy": text}, "list": [text], "n": 1}) == {"proxies": {"http-proxy": shown}, "list": [shown], "n": 1}


# Flags of the unit

@pytest.mark.parametrize(("words", "keys"), [
    (["/usr/sbin/dockerd", "-H", "fd://", "--containerd=/run/containerd/containerd.sock"],
     {"hosts": ("-H", "fd://"), "containerd": ("--containerd", "/run/containerd/containerd.sock")}),
    (["dockerd", "-D", "-l=info", "-sbtrfs"], {"debug": ("-D",), "log-level": ("-l", "info"), "storage-driver": ("-s", "btrfs")}),
    (["dockerd", "--label", "a=b", "--label=c", "--registry-mirror=https://x"],
     {"labels": ("--label", "a=b", "c"), "registry-mirrors": ("--registry-mirror", "https://x")}),
    (["dockerd", "--live-restore", "--dns=1.1.1.1", "--dns-search", "x", "--dns-opt=y"],
     {"live-restore": ("--live-restore",), "dns": ("--dns", "1.1.1.1"), "dns-search": ("--dns-search", "x"),
      "dns-opts": ("--dns-opt", "y")}),
    (["dockerd", "--", "-"], {}),
])
def test_flags_have_their_keys(words: list[str], keys: dict[str, tuple[str, ...]]) -> None:
    assert {key: (flag.name, *flag.values) for key, flag in parse_flags(words).items()} == keys


@pytest.mark.parametrize(("config", "words", "named"), [
    ({"log-driver": "local"}, ["--log-driver=journald"], "log-driver is set both"),
    ({"labels": ["a=b"]}, ["--label", "a=b"], "labels is set both"),
    ({"proxies": {"http-proxy": "x"}}, ["--http-proxy=x"], "http-proxy is set both"),
    ({"hosts": []}, ["-H", "fd://"], "flag -H of docker.service"),
    ({"runtimes": {}}, ["--add-runtime=x=y"], None),
    ({"log-opts": {"debug": "x"}}, ["--debug"], None),
])
def test_a_key_that_is_a_flag_is_refused(config: Config, words: list[str], named: str | None) -> None:
    if named is None:
        refuse_conflicts(config, parse_flags(words), PATH)
        return
    with pytest.raises(ForjaError, match=named):
        refuse_conflicts(config, parse_flags(words), PATH)


# What a person or a flag has decided

DEFAULTS = {"live-restore": True, "log-driver": "json-file", "log-opts": {"max-size": "10m", "max-file": "3"},
            "registry-mirrors": ["https://ours"]}
LOGS = {"log-driver": "json-file", "log-opts": {"max-size": "10m", "max-file": "3"}}


@pytest.mark.parametrize(("before", "settings", "words", "after"), [
    ({}, {}, [], DEFAULTS),
    # A person's log driver and its options are kept, ours are not added to it.
    ({"log-driver": "gelf", "log-opts": {"gelf-address": "udp://x"}}, {}, [],
     {**DEFAULTS, "log-driver": "gelf", "log-opts": {"gelf-address": "udp://x"}}),
    ({"log-driver": "journald"}, {}, [], {"live-restore": True, "log-driver": "journald", "registry-mirrors": ["https://ours"]}),
    ({"log-driver": "loki", "log-opts": {"loki-url": "x"}}, {}, [], {**DEFAULTS, "log-driver": "loki", "log-opts": {"loki-url": "x"}}),
    ({"log-driver": "local"}, {}, [], {**DEFAULTS, "log-driver": "local"}),
    ({"log-opts": {"max-size": "1g", "tag": "x"}}, {}, [], {**DEFAULTS, "log-opts": {"max-size": "1g", "tag": "x", "max-file": "3"}}),
    ({"registry-mirrors": ["https://own"]}, {}, [], {**DEFAULTS, "registry-mirrors": ["https://own", "https://ours"]}),
    ({"live-restore": False}, {}, [], {**DEFAULTS, "live-restore": False}),
    # What is asked for wins, and a new driver does not keep the options of the old one.
    (DEFAULTS, {"log-driver": "journald"}, [], {"live-restore": True, "log-driver": "journald", "registry-mirrors": ["https://ours"]}),
    (DEFAULTS, {"log-driver": "loki", "log-opts": {"max-size": "5m"}}, [],
     {**DEFAULTS, "log-driver": "loki", "log-opts": {"max-size": "5m"}}),
    ({"log-driver": "gelf", "log-opts": {"gelf-address": "x", "tag": "t"}}, {"log-driver": "json-file"}, [],
     {**DEFAULTS, "log-opts": {"tag": "t", "max-size": "10m", "max-file": "3"}}),
    (DEFAULTS, {"log-opts": {"max-size": "50m"}}, [], {**DEFAULTS, "log-opts": {"max-size": "50m", "max-file": "3"}}),
    (DEFAULTS, {"live-restore": None}, [], {key: value for key, value in DEFAULTS.items() if key != "live-restore"}),
    # Flags of a person's drop-in are respected: ours goes where it would collide.
    ({}, {}, ["--log-driver=journald"], {"live-restore": True, "registry-mirrors": ["https://ours"]}),
    (DEFAULTS, {}, ["--log-driver=local"], {key: value for key, value in DEFAULTS.items() if key != "log-driver"}),
    (DEFAULTS, {}, ["--live-restore", "--registry-mirror=x"], LOGS),
    (DEFAULTS, {}, ["--log-driver=journald"], {"live-restore": True, "registry-mirrors": ["https://ours"]}),
    ({**DEFAULTS, "log-driver": "journald"}, {}, [], {"live-restore": True, "log-driver": "journald", "registry-mirrors": ["https://ours"]}),
])
def test_what_others_decided_is_kept(before: Config, settings: Config, words: list[str], after: Config) -> None:
    flags = parse_flags(words)
    todo = plan(before, Request(settings, DEFAULTS), flags, PATH)
    assert same(todo.after, after)
    assert not plan(todo.after, Request(settings, DEFAULTS), flags, PATH).steps
    refuse_log_options(todo.after, flags, PATH)


def test_a_default_that_does_not_count_is_named() -> None:
    todo = plan({"live-restore": False}, Request({}, DEFAULTS), parse_flags(["--log-driver", "journald"]), PATH)
    assert [note.split(",")[0] for note in todo.notes] == [
        "live-restore is False in the file", "log-driver is set by the flag --log-driver journald of docker.service",
    ]
    swarm = plan({}, Request({}, DEFAULTS), {}, PATH, swarm=True)
    assert "live-restore" not in swarm.after
    assert "swarm" in swarm.notes[0]


def test_absent_leaves_a_persons_values() -> None:
    own = {"log-driver": "gelf", "log-opts": {"gelf-address": "x"}, "registry-mirrors": ["https://own", "https://ours"], "bip": "y"}
    todo = plan({**own, "live-restore": True, "debug": False}, Request({"debug": True}, DEFAULTS, "absent"), {}, PATH)
    assert todo.after == {**own, "registry-mirrors": ["https://own"]}
    assert plan(DEFAULTS, Request({}, DEFAULTS, "absent"), {}, PATH).steps == [f"remove {PATH}, nothing is left in it"]


@pytest.mark.parametrize(("config", "words", "named"), [
    ({"log-driver": "json-file", "log-opts": {"gelf-address": "x"}}, [], "gelf-address, which the log driver json-file does not know"),
    ({"log-opts": {"syslog-address": "x"}}, [], "syslog-address, which the log driver json-file"),
    ({"log-opts": {"max-size": "1m", "max-file": "3"}}, ["--log-driver=journald"], "max-file, max-size, which the log driver journald"),
])
def test_log_options_of_another_driver_are_refused(config: Config, words: list[str], named: str) -> None:
    with pytest.raises(ForjaError, match=named):
        refuse_log_options(config, parse_flags(words), PATH)


@pytest.mark.parametrize(("config", "settings", "words", "folder"), [
    ({}, {}, [], "/var/lib/docker"),
    ({}, {"data-root": "/data/d"}, [], "/data/d"),
    ({"data-root": "/own"}, {"data-root": "/data/d"}, [], "/own"),
    ({"data-root": "/own"}, {}, ["--data-root=/flag"], "/flag"),
    ({"graph": "/old"}, {}, [], "/old"),
])
def test_the_folder_of_the_data(config: Config, settings: Config, words: list[str], folder: str) -> None:
    assert data_root(config, Request(settings), parse_flags(words)) == folder


@pytest.mark.parametrize(("running", "live_restore", "settings", "refused"), [
    (2, True, {"data-root": "/data"}, True), (0, True, {"data-root": "/data"}, False), (2, False, {"data-root": "/data"}, False),
    (2, True, {"data-root": "/var/lib/docker"}, False), (2, True, {"debug": True}, False),
])
def test_data_is_not_moved_away_from_running_containers(running: int, live_restore: bool, settings: Config, refused: bool) -> None:
    request, info = Request(settings), {"ContainersRunning": running, "LiveRestoreEnabled": live_restore}
    todo = plan({}, request, {}, PATH)
    if not refused:
        refuse_moved_data(todo, request, {}, info)
        return
    with pytest.raises(ForjaError, match="from /var/lib/docker to /data while 2 containers run"):
        refuse_moved_data(todo, request, {}, info)


def test_a_running_engine_says_what_is_effective() -> None:
    info = {"ServerVersion": "29.1.0", "DockerRootDir": "/data", "LiveRestoreEnabled": True, "LoggingDriver": "journald",
            "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]], "Swarm": {"LocalNodeState": "active"}}
    assert effective(info) == {"version": "29.1.0", "data_root": "/data", "live_restore": True, "log_driver": "journald",
                               "image_store": "containerd", "swarm": True}
    assert effective({"ServerVersion": "26", "DriverStatus": [["Backing Filesystem", "extfs"]]})["image_store"] == "engine"
    assert effective({}) == {}


def test_variables_of_the_unit_are_filled_in(tmp_path: Path) -> None:
    defaults = tmp_path / "docker"
    defaults.write_text("# a comment\nDOCKER_OPTS=\"--log-driver=journald --label a=b\"\nBROKEN='x\nEMPTY=\n")
    shown = (
        "LoadState=loaded\nActiveState=active\nUnitFileState=enabled\nEnvironment=LEVEL=debug\n"
        f"EnvironmentFiles={defaults} (ignore_errors=yes)\nEnvironmentFiles=/nowhere/at all (ignore_errors=yes)\n"
        "ExecStart={ path=/usr/sbin/dockerd ; argv[]=/usr/sbin/dockerd -H fd:// --log-level=${LEVEL} $DOCKER_OPTS $EMPTY"
        " ; ignore_errors=no ; start_time=[n/a] }\n"
    )
    unit = inspect(lambda _argv: Result(0, shown, ""))
    argv = ["/usr/sbin/dockerd", "-H", "fd://", "--log-level=debug", "--log-driver=journald", "--label", "a=b"]
    assert unit == Unit(True, parse_flags(argv), "", at_boot=True)
    assert environment(defaults.read_text())["BROKEN"] == "'x"
    assert expand(["$NO", "${NO}x"], {}) == ["x"]


@pytest.mark.parametrize(("rc", "out", "note"), [
    (1, "", "does not run systemd"),
    (127, "", "does not run systemd"),
    (0, "LoadState=not-found\nActiveState=inactive\n", "no docker.service"),
    (0, "LoadState=loaded\nActiveState=failed\n", "does not run, so it is not restarted"),
])
def test_an_engine_that_does_not_run_is_data(rc: int, out: str, note: str) -> None:
    unit = inspect(lambda _argv: Result(rc, out, ""))
    assert not unit.active
    assert note in unit.note


@pytest.mark.parametrize(("config", "argv", "socket"), [
    ({}, ["dockerd", "-H", "fd://"], "/run/docker.sock"),
    ({}, [], "/run/docker.sock"),
    ({"hosts": ["tcp://0.0.0.0:2376", "unix:///run/other.sock"]}, [], "/run/other.sock"),
    ({"hosts": ["tcp://0.0.0.0:2376"]}, ["dockerd"], ""),
    ({"hosts": "broken"}, ["dockerd", "-H=unix:///x.sock"], "/x.sock"),
])
def test_the_socket(config: Config, argv: list[str], socket: str) -> None:
    flags = parse_flags(argv)
    assert socket_of(config, flags) == socket
    assert endpoints(config, flags)


@pytest.mark.parametrize(("rc", "told", "note"), [
    (0, "configuration OK", ""),
    (125, "Status: unknown flag: --validate\nSee 'dockerd --help'., Code: 125", "older than 23.0"),
    (127, "No such file or directory: 'dockerd'", "not installed"),
])
def test_dockerd_validates_where_it_can(rc: int, told: str, note: str) -> None:
    answer = validate(lambda _argv: Result(rc, "", told), "/tmp/draft.json", PATH)
    assert note in answer
    assert bool(answer) == bool(note)


def test_dockerd_is_quoted_when_it_refuses() -> None:
    refusal = Result(1, "", "file /tmp/d.json: the following directives don't match: http://u:s3cret@x")
    with pytest.raises(ForjaError, match=rf"file {PATH}: the following directives don't match") as raised:
        validate(lambda _argv: refusal, "/tmp/d.json", PATH)
    assert "s3cret" not in str(raised.value)


# The restart

class Machine:
    """A host whose engine starts with a file that does not say `bad`, and answers at its socket."""

    def __init__(self, path: Path, slow: float = 0, never: bool = False) -> None:
        self.path, self.slow, self.never = path, slow, never
        self.time, self.starts_at, self.live_restore, self.commands = 0.0, 0.0, False, list[str]()

    def config(self) -> Config:
        return parse(atomic_file.read(str(self.path)), str(self.path))

    def run(self, argv: list[str]) -> Result:
        self.commands.append(" ".join(argv))
        if "restart" in argv:
            if self.never or "bad" in self.config():
                self.starts_at = float("inf")
                return Result(1, "", "Job for docker.service failed")
            self.starts_at, self.live_restore = self.time + self.slow, bool(self.config().get("live-restore"))
        if "reload" in argv:
            self.live_restore = bool(self.config().get("live-restore", self.live_restore))
        return Result(0, "level=error msg=nonsense proxy=http://u:s3cret@x" if argv[0] == "journalctl" else "", "")

    def ask(self, _socket: str, request: str) -> dict[str, Any] | None:
        if self.time < self.starts_at:
            return None
        return {"Version": "26.1.5"} if request == "/version" else {"ServerVersion": "26.1.5", "LiveRestoreEnabled": self.live_restore}

    def sleep(self, seconds: float) -> None:
        self.time += seconds

    @property
    def engine(self) -> Engine:
        return Engine(self.run, self.ask, self.sleep, lambda: self.time)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "daemon.json"


def test_a_restart_waits_for_the_answer(path: Path) -> None:
    machine = Machine(path, slow=5)
    assert write_and_restart(machine.engine, str(path), b'{"new": 1}\n', 60, None) == ("26.1.5", "")
    assert path.read_bytes() == b'{"new": 1}\n'
    assert [child.name for child in path.parent.iterdir()] == ["daemon.json"]
    assert machine.time == 5


@pytest.mark.parametrize("before", [b'{"old":1}', None])
@pytest.mark.parametrize("cut_off", [False, True])
def test_an_engine_that_does_not_come_back_gets_its_file_back(path: Path, before: bytes | None, cut_off: bool) -> None:
    if before:
        path.write_bytes(before)
    if cut_off:  # the last run wrote the new file and was killed
        Path(str(path) + PREVIOUS).write_bytes(before or b"")
        path.write_bytes(b'{"bad": 1}')
    with pytest.raises(ForjaError, match=r"(?s)did not come back.*previous file is back and the engine 26.1.5 runs.*nonsense") as raised:
        write_and_restart(Machine(path).engine, str(path), b'{"bad": 1}', 60, None)
    assert atomic_file.read(str(path)) == before
    assert not Path(str(path) + PREVIOUS).exists()
    assert "s3cret" not in str(raised.value)


def test_an_engine_that_is_too_slow_gets_its_file_back(path: Path) -> None:
    path.write_bytes(b"{}")
    with pytest.raises(ForjaError, match=r"(?s)no answer on /run/docker.sock within 10 seconds.*does not start with it either"):
        write_and_restart(Machine(path, slow=100).engine, str(path), b'{"new": 1}', 10, None)
    assert path.read_bytes() == b"{}"


def test_an_engine_that_is_down_anyway_is_told(path: Path) -> None:
    path.write_bytes(b"{}")
    with pytest.raises(ForjaError, match="does not start with it either"):
        write_and_restart(Machine(path, never=True).engine, str(path), b'{"new": 1}', 60, None)
    assert path.read_bytes() == b"{}"


@pytest.mark.parametrize(("old", "new", "reloaded"), [
    (False, True, True), (True, False, True), (True, True, False), (False, None, False), (True, None, True),
])
def test_the_running_engine_adopts_live_restore_first(path: Path, old: bool, new: bool | None, reloaded: bool) -> None:
    machine = Machine(path)
    machine.live_restore = old
    content = render({} if new is None else {"live-restore": new})
    assert write_and_restart(machine.engine, str(path), content, 60, new) == ("26.1.5", "")
    order = [command for command in machine.commands if "reload" in command or "systemctl restart" in command]
    assert [("reload" in command) for command in order] == ([True, False] if reloaded else [False])
    assert path.read_bytes() == content


def test_an_engine_that_hangs_is_not_asked_to_adopt_anything(path: Path) -> None:
    """A reload would wait for a start that never ends."""
    machine = Machine(path)
    machine.starts_at = float("inf")
    assert write_and_restart(machine.engine, str(path), b'{"live-restore": true}', 60, True) == ("26.1.5", "")
    assert not any("reload" in command for command in machine.commands)


def test_an_engine_without_a_socket_is_taken_at_systemds_word(path: Path) -> None:
    machine = Machine(path)
    assert Engine(machine.run, lambda *_: None, machine.sleep, lambda: machine.time, "").restart(60) == ""


def test_a_real_socket_is_asked_and_its_absence_is_data(tmp_path: Path) -> None:
    assert docker_engine.ask(str(tmp_path / "nothing.sock"), "/version") is None


# The module

class ExitError(Exception):
    pass


def run_module(monkeypatch: pytest.MonkeyPatch, unit: Unit, **arguments: Any) -> dict[str, Any]:
    told: dict[str, Any] = {}

    def leave(_module: Any, **result: Any) -> None:
        told.update(result)
        raise ExitError

    monkeypatch.setattr(docker_daemon_helper, "inspect", lambda _run: unit)
    monkeypatch.setattr(docker_daemon_helper, "validate", lambda *_: "")
    monkeypatch.setattr("plugins.modules.docker_daemon.AnsibleModule.exit_json", leave)
    monkeypatch.setattr("plugins.modules.docker_daemon.AnsibleModule.fail_json", lambda self, msg: leave(self, failed=True, msg=msg))
    with patch_module_args(arguments), pytest.raises(ExitError):
        docker_daemon.main()
    return told


STOPPED = Unit(False, {}, "docker.service does not run, so it is not restarted")


def test_module_predicts_does_and_is_done(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    arguments = {"path": str(path), "settings": {"debug": True, "proxies": {"http-proxy": "http://u:s3cret@x"}}}
    predicted = run_module(monkeypatch, STOPPED, **arguments, _ansible_check_mode=True)
    assert not path.exists()
    done = run_module(monkeypatch, STOPPED, **arguments)
    assert json.loads(path.read_text())["proxies"] == {"http-proxy": "http://u:s3cret@x"}
    assert path.stat().st_mode & 0o777 == 0o644
    again = run_module(monkeypatch, STOPPED, **arguments)
    assert (predicted["changed"], done["changed"], again["changed"]) == (True, True, False)
    assert predicted["steps"] == done["steps"] == [f"write {path}: debug, proxies"]
    assert predicted["diff"] == done["diff"]
    assert done["notes"] == [STOPPED.note]
    assert again["notes"] == []
    assert "s3cret" not in json.dumps([predicted, done, again])
    gone = run_module(monkeypatch, STOPPED, **arguments, state="absent")
    assert gone["steps"] == [f"remove {path}, nothing is left in it"]
    assert not path.exists()


def test_module_leaves_a_file_that_means_the_same(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    path.write_bytes(b'{"b":2,\n\n"a":{"x": 1, "y":2}}')
    told = run_module(monkeypatch, STOPPED, path=str(path), settings={"a": {"y": 2}})
    assert not told["changed"]
    assert path.read_bytes() == b'{"b":2,\n\n"a":{"x": 1, "y":2}}'


def test_module_restarts_an_engine_that_runs(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    machine = Machine(path)
    monkeypatch.setattr(docker_daemon_helper, "Engine", lambda *_: machine.engine)
    running = Unit(True, parse_flags(["dockerd", "-H", "fd://"]), "")
    told = run_module(monkeypatch, running, path=str(path), settings={"live-restore": True})
    assert (told["restarted"], told["engine"]["version"]) == (True, "26.1.5")
    assert told["steps"][-1] == "restart docker.service"
    told = run_module(monkeypatch, running, path=str(path), settings={"live-restore": True})
    assert (told["changed"], told["restarted"], told["engine"]["version"]) == (False, False, "26.1.5")
    Path(str(path) + PREVIOUS).write_bytes(b"")
    told = run_module(monkeypatch, running, path=str(path), settings={"live-restore": True})
    assert told["steps"] == ["restart docker.service, pending from an interrupted run"]
    told = run_module(monkeypatch, running, path=str(path), settings={"hosts": ["tcp://x"]})
    assert "hosts is set both" in told["msg"]
    assert json.loads(path.read_text()) == {"live-restore": True}


@pytest.mark.parametrize("content", [b'{"a": 1,}', b"\x00\x01", b"[]"])
def test_module_keeps_a_broken_file(monkeypatch: pytest.MonkeyPatch, path: Path, content: bytes) -> None:
    path.write_bytes(content)
    told = run_module(monkeypatch, STOPPED, path=str(path), settings={"debug": True})
    assert told["failed"]
    assert "kept as it is" in told["msg"]
    assert path.read_bytes() == content


# The file

def test_a_file_keeps_its_mode_and_its_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_bytes(b"old")
    real.chmod(0o600)
    link.symlink_to(real)
    atomic_file.replace(str(link), b"new")
    assert link.is_symlink()
    assert (real.read_bytes(), real.stat().st_mode & 0o777) == (b"new", 0o600)


def test_a_file_that_cannot_be_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        atomic_file.replace(str(path), b"new")
    assert [(child.name, child.read_bytes()) for child in tmp_path.iterdir()] == [("file", b"old")]
