# SPDX-License-Identifier: Apache-2.0
"""role_arguments: types and names as tables, and the way through Ansible for a role of a checkout and of a collection."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from plugins.action.role_arguments import arguments, misspelt, one_error, overridden

REPO = Path(__file__).resolve().parents[3]
MODEL = {"name": {"type": "str", "required": True}, "digest": {"type": "str"},
         "state": {"type": "str", "choices": ["present", "absent"], "default": "present"}}
SPEC: dict[str, dict[str, Any]] = {
    "docker_source": {"type": "str", "choices": ["distribution", "docker"], "default": "distribution"},
    "docker_graphics": {"type": "str", "choices": ["auto", "yes", "no"], "default": "auto"},
    "docker_version": {"type": "str", "default": ""},
    "docker_users": {"type": "list", "elements": "str", "default": []},
    "docker_models": {"type": "list", "elements": "raw", "options": MODEL, "default": []},
    "docker_clients": {"type": "list", "elements": "dict", "options": MODEL, "default": []},
    "docker_settings": {"type": "dict", "default": {}},
    "docker_purge_data": {"type": "bool", "default": False},
    "docker_port": {"type": "int", "default": 1},
    "docker_timeout": {"type": "float", "default": 1.5},
    "docker_dir": {"type": "path", "default": "/data"},
    "docker_password": {"type": "str", "default": "", "no_log": True},
    "docker_anything": {"type": "raw", "default": None},
}


def read(name: str, value: Any) -> Any:
    found, faults = arguments({f"docker_{name}": value}, SPEC, "docker", {"docker_models": "name"})
    assert faults == []
    return found[name]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        *(("purge_data", value, True) for value in (True, "true", "True", "yes", "on", "1", 1)),
        *(("purge_data", value, False) for value in (False, "false", "no", "off", "0", 0)),
        ("port", "8080", 8080),
        ("port", 8080, 8080),
        ("timeout", "2.5", 2.5),
        ("version", 580, "580"),
        ("version", None, ""),
        ("graphics", True, "yes"),
        ("graphics", False, "no"),
        ("users", "admin", ["admin"]),
        ("users", "admin, ops", ["admin", "ops"]),
        ("users", '["admin", "ops"]', ["admin", "ops"]),
        ("users", "[admin, ops]", ["admin", "ops"]),
        ("users", 1000, ["1000"]),
        ("users", "", []),
        ("users", None, []),
        ("models", "llama3.2:1b", [{"name": "llama3.2:1b", "state": "present"}]),
        ("models", ["a", {"name": "b", "state": "absent"}], [{"name": "a", "state": "present"}, {"name": "b", "state": "absent"}]),
        ("models", {"name": "a", "digest": "x"}, [{"name": "a", "digest": "x", "state": "present"}]),
        ("clients", '[{"name": "a"}]', [{"name": "a", "state": "present"}]),
        ("settings", '{"debug": true}', {"debug": True}),
        ("settings", None, {}),
        ("dir", "/srv", "/srv"),
        ("anything", {"x": [1]}, {"x": [1]}),
    ],
)
def test_values_are_read_in_their_types(name: str, value: Any, expected: Any) -> None:
    found = read(name, value)
    assert found == expected
    assert type(found) is type(expected)


def test_what_is_not_given_has_its_default() -> None:
    found, faults = arguments({}, SPEC, "docker", {})
    assert faults == []
    assert found == {name.removeprefix("docker_"): option["default"] for name, option in SPEC.items()}


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("purge_data", "maybe", 'docker_purge_data is "maybe"; it must be true or false.'),
        ("purge_data", None, "docker_purge_data is empty; it must be true or false."),
        ("source", "dokcer", 'docker_source is "dokcer"; it must be distribution or docker.'),
        ("graphics", "perhaps", 'docker_graphics is "perhaps"; it must be auto, yes or no.'),
        ("port", "ssh", 'docker_port is "ssh"; it must be a whole number.'),
        ("port", True, "docker_port is true; it must be a whole number."),
        ("version", 580.1, "docker_version is the number 580.1; write it in quotes, a number loses its last zeros."),
        ("version", ["1"], "docker_version is a list; it must be a string."),
        ("users", [["a"]], "docker_users[0] is a list; it must be a string."),
        ("settings", "debug", 'docker_settings is "debug"; it must be a dictionary.'),
        ("settings", "x" * 200, f'docker_settings is "{"x" * 55}..."; it must be a dictionary.'),
        ("models", [1], "docker_models[0] is the number 1; it must be a dictionary."),
        ("models", [{"nmae": "a"}], "docker_models[0].nmae is not known; did you mean name? docker_models[0].name is missing."),
        ("models", [{"name": "a", "zzz": 1}], "docker_models[0].zzz is not known; known: name, digest, state."),
        ("models", ["a", {"name": "b", "state": "x"}], 'docker_models[1].state is "x"; it must be present or absent.'),
        ("dir", "data", 'docker_dir is "data"; it must be an absolute path.'),
        ("password", ["secret"], "docker_password has a value that is hidden; it must be a string."),
    ],
)
def test_a_fault_is_one_short_sentence(name: str, value: Any, sentence: str) -> None:
    _, faults = arguments({f"docker_{name}": value}, SPEC, "docker", {"docker_models": "name"})
    assert " ".join(faults) == sentence


def test_a_required_variable_is_missed() -> None:
    assert arguments({}, {"docker_x": {"required": True}}, "docker", {}) == ({}, ["docker_x is missing."])


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("docker_user", "docker_user is not a variable of the role docker; did you mean docker_users?"),
        ("docker_moedls", "docker_moedls is not a variable of the role docker; did you mean docker_models?"),
        ("docker_zzz", "docker_zzz is not a variable of the role docker."),
        ("dokcer_users", "dokcer_users is not a variable; did you mean docker_users?"),
        ("doker_users", "doker_users is not a variable; did you mean docker_users?"),
        ("dockerr_users", "dockerr_users is not a variable; did you mean docker_users?"),
        ("docher_users", "docher_users is not a variable; did you mean docker_users?"),
        ("Docker_users", "Docker_users is not a variable; did you mean docker_users?"),
        ("docker-users", "docker-users is not a variable; did you mean docker_users?"),
        ("forja_miror", "forja_miror is not a variable of the project; did you mean forja_mirror?"),
    ],
)
def test_misspelt_names_are_refused_with_the_nearest(name: str, sentence: str) -> None:
    assert misspelt({name: "x"}, "docker", SPEC) == [sentence]


@pytest.mark.parametrize(
    "name",
    ["docker", "users", "podman_users", "dokcer_edition", "docket", "locker_room", "docker_images_list", "nocker_source",
     "forja_reports", "forja_mirror", "__docker", "__docker_x", "ansible_docker_users", "my_docker_users", "docker_result"],
)
def test_other_peoples_variables_are_left_alone(name: str) -> None:
    registered = {"docker_result": {"changed": False, "failed": False, "stdout": ""}}
    assert misspelt({name: registered.get(name, "x")}, "docker", SPEC, ["docker", "docker_images", "nocker"]) == []


def test_short_names_have_no_neighbours() -> None:
    """img is mig with two letters exchanged."""
    assert misspelt({"img_state": "x"}, "mig", {"mig_state": {}}) == []


@pytest.mark.parametrize("word", ["dokcer", "docke", "ocker", "dockerd", "xdocker", "doccker", "dicker", "dockre"])
def test_one_typing_error(word: str) -> None:
    assert one_error(word, "docker")


@pytest.mark.parametrize("word", ["docker", "dokecr", "dock", "dockerds", "rekcod", "", "podman"])
def test_no_or_more_typing_errors(word: str) -> None:
    assert not one_error(word, "docker")


@pytest.mark.parametrize(
    ("variables", "sentences"),
    [
        ({"desk_host": "0.0.0.0"}, []),
        ({"desk_host": "0.0.0.0", "ollama_host": "127.0.0.1"}, []),
        ({"desk_host": "0.0.0.0", "ollama_host": "0.0.0.0"}, []),
        ({"desk_host": "0.0.0.0", "ollama_host": "::"},
         ['ollama_host is set to "::". Set desk_host instead (now "0.0.0.0"), which decides here.']),
    ],
)
def test_a_persona_has_a_name_of_its_own_for_what_it_overrides(variables: dict[str, str], sentences: list[str]) -> None:
    assert overridden(variables, {"ollama_host": "desk_host"}, {"ollama_host": "127.0.0.1"}) == sentences


# Through Ansible: a role of a checkout, and of the collection.

TASKS = [
    {"name": "Check the variables", "role_arguments": {"shorthand": {"probe_models": "name"}}, "register": "__probe"},
    {"name": "Show", "ansible.builtin.debug": {"msg": "FOUND {{ [__probe.purge_data, __probe.port, __probe.users, __probe.version, "
                                                      "__probe.models] | to_json(sort_keys=true) }}"}},
]
PROBE: dict[str, Any] = {name.replace("docker_", "probe_"): option for name, option in SPEC.items()}
PROBE["probe_source"]["description"] = "text with {{ braces }} stays text"


class Site:
    """A folder with a role `probe` that begins with role_arguments."""

    def __init__(self, folder: Path, collection: bool) -> None:
        self.folder, self.collection = folder, collection
        if collection:
            home = folder / "ansible_collections/forja/gpu"
            home.mkdir(parents=True)
            (home / "plugins").symlink_to(REPO / "plugins")
        else:
            home = folder
        self.roles = home / "roles"
        defaults = {name: option["default"] for name, option in PROBE.items()} | {"probe_version": "{{ probe_dir }}/x"}
        for name, content in {"defaults": defaults, "meta": {"argument_specs": {"main": {"options": PROBE}}}, "tasks": TASKS}.items():
            file = self.roles / "probe" / name / ("argument_specs.yml" if name == "meta" else "main.yml")
            file.parent.mkdir(parents=True)
            file.write_text(yaml.safe_dump(content))

    def run(self, *arguments: str, **variables: Any) -> str:
        """What a run prints, on one line; the role's own validation by Ansible is off, as in a persona."""
        task = {"name": "Probe", "ansible.builtin.import_role": {"name": "forja.gpu.probe" if self.collection else "probe",
                                                                 "rolespec_validate": False}}
        play = {"hosts": "localhost", "gather_facts": False, "vars": variables, "tasks": [task]}
        (self.folder / "play.yml").write_text(yaml.safe_dump([play]))
        environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_COLLECTIONS_PATH": str(self.folder),
                       "ANSIBLE_LOCALHOST_WARNING": "false", "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml"}
        if self.collection:
            environment.pop("ANSIBLE_CONFIG", None)
        else:
            environment |= {"ANSIBLE_CONFIG": str(REPO / "ansible.cfg"), "ANSIBLE_ROLES_PATH": str(self.roles)}
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "play.yml", *arguments]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        self.rc = done.returncode
        return " ".join((done.stdout + done.stderr).split())


@pytest.fixture(scope="module", params=["checkout", "collection"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp(request.param), request.param == "collection")


def test_a_role_gets_its_values_in_their_types(site: Site) -> None:
    output = site.run("--extra-vars", "probe_purge_data=yes probe_port=8080", probe_users="admin", probe_models=["llama3.2:1b"])
    plain = output.replace('\\"', '"')
    assert 'FOUND [true, 8080, ["admin"], "/data/x", [{"name": "llama3.2:1b", "state": "present"}]]' in plain, output


def test_everything_wrong_is_one_error_without_the_spec(site: Site) -> None:
    output = site.run(probe_usres=["x"], porbe_users=["x"], probe_purge_data="maybe", probe_source="{{ nowhere }}")
    assert site.rc == 2, output
    assert "porbe_users is not a variable; did you mean probe_users?" in output
    assert "probe_usres is not a variable of the role probe; did you mean probe_users?" in output
    assert "probe_source cannot be read: 'nowhere' is undefined." in output
    assert 'probe_purge_data is "maybe"; it must be true or false.' in output
    assert "probe_source is" not in output, "what cannot be read is not of a wrong type as well"
    assert len(output.partition("TASK [")[2]) < 1200, "the error is long"


def test_a_secret_is_not_printed(site: Site) -> None:
    output = site.run("-vvv", probe_password="s3cret", probe_users="admin")
    assert "FOUND" in output, output
    assert "s3cret" not in output
