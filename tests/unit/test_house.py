# SPDX-License-Identifier: Apache-2.0
"""What holds the house together: one test per rule of CONTRIBUTING.md, each failing with a sentence that says what to do.

The tests find roles, modules, personas and files by themselves: whoever adds one has nothing to register here.
"""

from __future__ import annotations

import ast
import importlib
import json
import os
import pkgutil
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ansible.module_utils
import jinja2
import jinja2.meta
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

REPO = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in REPO.glob("roles/*") if path.is_dir())
MODULES = sorted(path.stem for path in REPO.glob("library/*.py"))
HELPERS = sorted(str(path.relative_to(REPO)) for path in REPO.glob("module_utils/**/*.py"))
PLATFORMS = "platforms"  # the one playbook that is no persona: it refuses those that cannot be
PERSONAS = sorted(path.stem for path in REPO.glob("playbooks/*.yml") if path.stem != PLATFORMS)
SCENARIOS = sorted(path.parent.name for path in REPO.glob("molecule/*/molecule.yml") if path.parent.name != "default")
TESTS = sorted(str(path.relative_to(REPO)) for path in REPO.glob("tests/**/test_*.py"))
LOCKS = sorted(str(path.relative_to(REPO)) for path in (REPO / "requirements.lock", *REPO.glob("tests/**/requirements.lock")))
# The only variables that belong to no role: design of the whole project, not of one part.
PROJECT_WIDE = {"forja_mirror", "forja_registry", "forja_reboot"}

each_role = pytest.mark.parametrize("role", ROLES)
each_module = pytest.mark.parametrize("module", MODULES)
each_helper = pytest.mark.parametrize("helper", HELPERS)
each_persona = pytest.mark.parametrize("persona", PERSONAS)
each_lock = pytest.mark.parametrize("lock", LOCKS)


@pytest.mark.parametrize("what", ["ROLES", "MODULES", "HELPERS", "PERSONAS", "SCENARIOS", "TESTS"])
def test_there_is_something_to_hold(what: str) -> None:
    assert globals()[what], f"{what} is empty, so every rule about it would pass unseen: repair the search in test_house.py."


# --- reading -----------------------------------------------------------------------------------------------------------


class Loader(yaml.SafeLoader):
    """Reads Ansible's YAML: !unsafe and !vault are ordinary scalars here."""


Loader.add_multi_constructor("!", lambda loader, _tag, node: loader.construct_scalar(node))


def load(path: Path) -> Any:
    """The YAML of a file, None where there is no such file."""
    return yaml.load(path.read_text(), Loader) if path.exists() else None


def flatten(tasks: Any) -> Iterator[dict[str, Any]]:
    """The tasks of a task list, blocks first and then what stands in them."""
    for task in tasks or []:
        yield task
        for key in ("block", "rescue", "always"):
            yield from flatten(task.get(key))


def task_files(role: str) -> list[Path]:
    return sorted([*REPO.glob(f"roles/{role}/tasks/**/*.yml"), *REPO.glob(f"roles/{role}/handlers/**/*.yml")])


def tasks_of(role: str) -> list[dict[str, Any]]:
    return [task for path in task_files(role) for task in flatten(load(path))]


def argument(task: dict[str, Any], action: str) -> Any:
    """The argument of a task's action, given by any of its names; None where the task does something else."""
    return next((task[name] for name in (action, f"ansible.builtin.{action}", f"ansible.legacy.{action}") if name in task), None)


def spec_of(role: str) -> dict[str, Any]:
    spec = load(REPO / f"roles/{role}/meta/argument_specs.yml") or {}
    options: dict[str, Any] = spec.get("argument_specs", {}).get("main", {}).get("options") or {}
    return options


def defaults_of(role: str) -> dict[str, Any]:
    return load(REPO / f"roles/{role}/defaults/main.yml") or {}


def public(role: str) -> set[str]:
    return set(spec_of(role)) | set(defaults_of(role))


def functions(path: Path) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and name of every import, relative ones with their dots."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or "")


def length(node: ast.FunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def files() -> list[Path]:
    """The files that git tracks or would add."""
    listed = subprocess.run(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=REPO, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("this is not a git checkout, so there is no list of tracked files")
    paths = [REPO / os.fsdecode(name) for name in listed.stdout.split(b"\0") if name]
    return [path for path in paths if path.is_file() and not path.is_symlink()]


# --- roles -------------------------------------------------------------------------------------------------------------

TYPES: dict[type, set[str]] = {
    bool: {"bool"},
    int: {"int", "float"},
    float: {"float"},
    str: {"str", "path"},
    list: {"list"},
    dict: {"dict"},
}


@each_role
def test_role_has_the_same_variables_in_specs_and_defaults(role: str) -> None:
    spec, defaults = spec_of(role), defaults_of(role)
    required = {name for name, option in spec.items() if option.get("required")}
    undocumented = set(defaults) - set(spec)
    assert not undocumented, f"{role}: describe {sorted(undocumented)} in meta/argument_specs.yml, or make it private (__{role}_...)."
    without = set(spec) - set(defaults) - required
    assert not without, f"{role}: give {sorted(without)} a default in defaults/main.yml, or mark it `required: true`."
    both = required & set(defaults)
    assert not both, f"{role}: {sorted(both)} cannot be required and have a default; drop one of the two."


@each_role
def test_role_has_the_same_defaults_in_specs_and_defaults(role: str) -> None:
    for name, value in defaults_of(role).items():
        option = spec_of(role).get(name, {})
        stated = option.get("default")
        equal = type(stated) is type(value) and stated == value
        assert equal, f"{role}: {name} is {value!r} in defaults/main.yml but {stated!r} in meta/argument_specs.yml; make them equal."
        if value is None or (isinstance(value, str) and "{{" in value):
            continue
        assert option["type"] in TYPES[type(value)] | {"raw"}, f"{role}: {name} has type {option['type']} but its default is {value!r}."
        choices = option.get("choices")
        outside = [item for item in (value if isinstance(value, list) else [value]) if choices and item not in choices]
        assert not outside, f"{role}: the default of {name} holds {outside}, not among its choices {choices}."


@each_role
def test_role_options_are_described(role: str) -> None:
    def incomplete(options: dict[str, Any], prefix: str = "") -> Iterator[str]:
        for name, option in options.items():
            wanted = ["type", "description", *(["elements"] if option.get("type") == "list" else [])]
            yield from (f"{prefix}{name}.{key}" for key in wanted if not option.get(key))
            yield from incomplete(option.get("options") or {}, f"{prefix}{name}.")

    missing = list(incomplete(spec_of(role)))
    assert not missing, f"{role}: meta/argument_specs.yml lacks {missing}; a reader needs the type and a sentence."


@each_role
def test_role_variables_carry_its_name(role: str) -> None:
    strange = {name for name in public(role) - PROJECT_WIDE if not name.startswith(f"{role}_")}
    assert not strange, f"{role}: rename {sorted(strange)} to {role}_..., a variable's name says whose it is."


def roles_included(task: dict[str, Any]) -> set[str]:
    return {arguments["name"] for action in ("include_role", "import_role") if isinstance(arguments := argument(task, action), dict)}


@each_role
def test_role_keeps_its_inner_variables_private(role: str) -> None:
    inner = {name for path in REPO.glob(f"roles/{role}/vars/**/*.yml") for name in load(path) or {}}
    for task in tasks_of(role):
        handed_over = set().union(*(public(other) for other in roles_included(task)))
        inner |= set(task.get("vars") or {}) - handed_over
        inner |= set(argument(task, "set_fact") or {}) - {"cacheable"}
        inner |= {name for name in (task.get("register"), (task.get("loop_control") or {}).get("loop_var")) if name}
    open_ = {name for name in inner if not name.startswith(f"__{role}_")}
    assert not open_, f"{role}: rename {sorted(open_)} to __{role}_...; public variables stand in defaults/main.yml and nowhere else."


def expressions(value: Any, bare: bool = False) -> Iterator[str]:
    """The Jinja templates in a YAML value; `when` and its like hold expressions without braces."""
    if isinstance(value, str):
        yield f"{{{{ {value} }}}}" if bare else value
    elif isinstance(value, list):
        for item in value:
            yield from expressions(item, bare)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from expressions(item, key in {"when", "failed_when", "changed_when", "until", "that"})


class Everything(dict[str, Any]):
    """The filters and tests of Ansible, none of which needs to be here for finding the variables of a template."""

    def get(self, name: str, default: Any = None) -> Any:
        return len


def variables(template: str) -> set[str]:
    environment = jinja2.Environment()
    environment.filters = environment.tests = Everything()
    found: set[str] = jinja2.meta.find_undeclared_variables(environment.parse(template))
    return found


@each_role
def test_role_reads_no_hidden_variable(role: str) -> None:
    """`x_retries | default(3)` in a task is a public variable that nobody can find."""
    templates = [path.read_text() for path in REPO.glob(f"roles/{role}/templates/**/*") if path.is_file()]
    for path in REPO.glob(f"roles/{role}/**/*.yml"):
        if path.parent.name not in {"meta", "templates"}:
            templates += expressions(load(path))
    used = set().union(*map(variables, templates))
    for name in sorted(used):
        # The longest name wins: docker_context_x belongs to a role docker_context before it belongs to docker.
        owner = max((other for other in ROLES if name.startswith(f"{other}_")), key=len, default=None)
        assert owner is None or name in public(owner), f"{role}: reads {name}, which {owner} does not offer; add it to defaults and specs."
        assert not name.startswith("__") or name.startswith(f"__{role}_"), f"{role}: {name} is private to another role; do not read it."
        assert not name.startswith("forja_") or name in PROJECT_WIDE, f"{role}: {name} is not one of {sorted(PROJECT_WIDE)}."


@each_role
def test_role_is_short(role: str) -> None:
    for path in REPO.glob(f"roles/{role}/tasks/**/*.yml"):
        count, main = len(path.read_text().splitlines()), path == REPO / f"roles/{role}/tasks/main.yml"
        assert count <= 80, f"{path.relative_to(REPO)} has {count} lines: cut it by topic, at most 80 each."
        assert not main or count <= 50, f"{path.relative_to(REPO)} has {count} lines: it is a table of contents; at most 50."


@each_role
def test_role_readme_names_every_variable(role: str) -> None:
    readme = REPO / f"roles/{role}/README.md"
    assert readme.exists(), f"{role}: write README.md: what it does, its variables, an example, what it never does, how to remove it."
    unnamed = {name for name in public(role) if not re.search(rf"\b{name}\b", readme.read_text())}
    assert not unnamed, f"{role}: README.md does not mention {sorted(unnamed)}."


@each_role
def test_role_has_meta(role: str) -> None:
    info = (load(REPO / f"roles/{role}/meta/main.yml") or {}).get("galaxy_info", {})
    missing = {"role_name", "author", "description", "license", "min_ansible_version", "platforms"} - set(info)
    assert not missing, f"{role}: meta/main.yml lacks {sorted(missing)} in galaxy_info."
    assert info["role_name"] == role, f"{role}: role_name in meta/main.yml is {info['role_name']!r}; it must be the folder's name."


@each_role
def test_role_is_checked_on_a_host(role: str) -> None:
    path = REPO / f"tests/hosts/test_{role}.py"
    assert path.exists(), f"{role}: write tests/hosts/test_{role}.py, which looks at a host without Ansible."
    tests = [node for name, node in functions(path).items() if name.startswith("test_")]
    assert any(isinstance(part, ast.Assert) for node in tests for part in ast.walk(node)), f"tests/hosts/test_{role}.py asserts nothing."


@each_role
def test_role_runs_no_shell_and_hides_no_error(role: str) -> None:
    for task in tasks_of(role):
        name = task.get("name", task)
        shells = [action for action in ("shell", "raw", "script") if argument(task, action) is not None]
        assert not shells, f"{role}: `{name}` uses {shells[0]}; use a module, or command with argv. What parses output is a module."
        command = argument(task, "command")
        assert command is None or (isinstance(command, dict) and "argv" in command), f"{role}: `{name}` must give command an argv list."
        assert "ignore_errors" not in task, f"{role}: `{name}` ignores errors; say with failed_when which result is not a failure."


@each_role
def test_role_says_why_a_task_changes_nothing(role: str) -> None:
    for path in task_files(role):
        lines = ["", *path.read_text().splitlines()]
        for number, (before, line) in enumerate(zip(lines, lines[1:], strict=False), 1):
            if re.match(r"\s*(- )?changed_when:\s*(false|no)\b", line, re.IGNORECASE):
                explained = "#" in before or "#" in line
                assert explained, f"{path.relative_to(REPO)}:{number}: say in a comment here why this command changes nothing."


@each_role
def test_role_names_its_handlers(role: str) -> None:
    """Handlers of all roles share one space of names: two called `Restart` are one."""
    for handler in [task for path in REPO.glob(f"roles/{role}/handlers/*.yml") for task in flatten(load(path))]:
        words = re.sub(r"\W+|_", " ", handler["name"].lower())
        assert words.startswith(role.replace("_", " ")), f"{role}: let the name of the handler `{handler['name']}` begin with the role's."


@each_role
def test_role_reports_to_the_summary_under_its_own_name(role: str) -> None:
    for task in tasks_of(role):
        if stats := argument(task, "set_stats"):
            whole = stats.get("per_host") is True and stats.get("aggregate", True) is True and set(stats["data"]) == {"forja"}
            assert whole, f"{role}: `{task['name']}` must give set_stats per_host: true, aggregate: true and data: {{forja: ...}}."


@each_role
def test_role_uses_only_collections_that_galaxy_yml_names(role: str) -> None:
    used = {".".join(key.split(".")[:2]) for task in tasks_of(role) for key in task if re.fullmatch(r"\w+\.\w+\.\w+", key)}
    unknown = used - {"ansible.builtin", "ansible.legacy"} - set(load(REPO / "galaxy.yml")["dependencies"])
    assert not unknown, f"{role}: add {sorted(unknown)} to galaxy.yml and requirements.yml, or do without."


# --- modules -----------------------------------------------------------------------------------------------------------


def comparable(options: dict[str, Any] | None) -> dict[str, Any]:
    """Options in one form, whether they come from DOCUMENTATION or from an argument spec."""
    return {
        name: {
            "type": option.get("type", "str"),
            "default": option.get("default"),
            "required": bool(option.get("required", False)),
            "choices": list(option["choices"]) if option.get("choices") else None,
            "elements": option.get("elements"),
            "aliases": sorted(option.get("aliases") or []),
            "options": comparable(option.get("options") or option.get("suboptions")),
        }
        for name, option in (options or {}).items()
    }


def imported(module: str) -> Any:
    return importlib.import_module(f"plugins.modules.{module}")


@each_module
def test_module_documents_its_arguments(module: str) -> None:
    documented = yaml.safe_load(imported(module).DOCUMENTATION)
    assert documented["module"] == module, f"{module}: DOCUMENTATION is of {documented['module']!r}."
    stated, true = comparable(documented.get("options")), comparable(imported(module).argument_spec())
    assert stated == true, f"{module}: DOCUMENTATION (left) and argument_spec() (right) tell different options; make them equal."


@each_module
def test_module_documents_its_attributes(module: str) -> None:
    attributes = yaml.safe_load(imported(module).DOCUMENTATION).get("attributes", {})
    for name in ("check_mode", "diff_mode"):
        missing = {"description", "support"} - set(attributes.get(name) or {})
        assert not missing, f"{module}: DOCUMENTATION lacks {sorted(missing)} of the attribute {name}."


@each_module
def test_module_documents_what_it_returns(module: str) -> None:
    for name, value in (yaml.safe_load(imported(module).RETURN) or {}).items():
        missing = {"description", "returned", "type"} - set(value)
        assert not missing, f"{module}: RETURN lacks {sorted(missing)} of {name}."


@each_module
def test_module_shows_itself_in_its_examples(module: str) -> None:
    tasks = list(flatten(yaml.load(imported(module).EXAMPLES, Loader)))
    spec = imported(module).argument_spec()
    uses = [task[name] for task in tasks for name in (module, f"forja.gpu.{module}") if name in task]
    assert uses, f"{module}: none of its EXAMPLES uses it."
    unknown = {key for arguments in uses for key in arguments} - set(spec)
    assert not unknown, f"{module}: its EXAMPLES use {sorted(unknown)}, which are not options of it."


@each_module
def test_module_is_short_and_supports_check_mode(module: str) -> None:
    path = REPO / f"library/{module}.py"
    main = functions(path).get("main")
    assert main, f"{module}: has no main()."
    assert length(main) <= 60, f"{module}: main() has {length(main)} lines, at most 60; let a helper decide."
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    makes = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "AnsibleModule"]
    said = [word for call in makes for word in call.keywords if word.arg == "supports_check_mode"]
    true = [word for word in said if isinstance(word.value, ast.Constant) and word.value.value is True]
    assert len(makes) == len(true) == 1, f"{module}: give its one AnsibleModule(...) supports_check_mode=True."


@each_module
def test_module_is_tested(module: str) -> None:
    for path in (f"tests/unit/test_{module}.py", f"tests/compat/{module}.yml"):
        assert (REPO / path).exists(), f"{module}: write {path}; see CONTRIBUTING.md, a module."


@each_module
def test_module_imports_its_helpers_relatively(module: str) -> None:
    """Only this form works both from `library=` and from an installed collection."""
    for line, name in imports(REPO / f"library/{module}.py"):
        ours = "forja" in name or name.startswith((".", "module_utils", "plugins", "ansible_collections"))
        right = f"{name}.".startswith("..module_utils.forja.")
        assert not ours or right, f"library/{module}.py:{line}: write `from ..module_utils.forja.x import y`."


def test_runtime_names_every_module() -> None:
    named = load(REPO / "meta/runtime.yml")["action_groups"]["all"]
    assert sorted(named) == MODULES, "meta/runtime.yml: action_groups.all must name each module of library/."


# --- helpers -----------------------------------------------------------------------------------------------------------


@each_helper
def test_helper_knows_nothing_of_ansible(helper: str) -> None:
    for line, name in imports(REPO / helper):
        theirs = name.split(".")[0] in {"ansible", "ansible_collections"}
        assert not theirs, f"{helper}:{line}: imports {name}; let main() hand in what it needs, and raise an exception of your own."


def test_helpers_are_packages() -> None:
    """Without __init__.py a module finds its helper once installed but not in a checkout."""
    for folder in {(REPO / helper).parent for helper in HELPERS} - {REPO / "module_utils"}:
        assert (folder / "__init__.py").exists(), f"{folder.relative_to(REPO)}: add an empty __init__.py."


def test_helpers_shadow_nothing_of_ansible() -> None:
    """A top-level facts.py in module_utils replaces Ansible's own and breaks `setup` for the whole play."""
    theirs = {module.name for module in pkgutil.iter_modules(ansible.module_utils.__path__)}
    ours = {path.stem for path in REPO.glob("module_utils/*") if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert not ours & theirs, f"module_utils: {sorted(ours & theirs)} would replace Ansible's own; move it into module_utils/forja/."


def test_managed_side_runs_on_python_3_6() -> None:
    vermin = [str(Path(sys.executable).with_name("vermin")), "-t=3.6-", "--no-tips", "--violations", "library", "module_utils"]
    told = subprocess.run(vermin, cwd=REPO, capture_output=True, text=True, check=False)
    assert told.returncode == 0, f"Managed hosts run Python 3.6 (JetPack 4); spell this the old way:\n{told.stdout}{told.stderr}"


# --- one name, five places ---------------------------------------------------------------------------------------------


def plays_role(play: dict[str, Any], role: str) -> bool:
    listed = [entry if isinstance(entry, str) else entry.get("role", entry.get("name")) for entry in play.get("roles", [])]
    return role in listed or any(role in roles_included(task) for task in flatten(play.get("tasks")))


def markers(path: Path) -> set[str]:
    """The personas that a file of tests names: `pytest.mark.persona("x", ...)`."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    marks = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "persona"]
    return {word.value for call in marks for word in call.args if isinstance(word, ast.Constant) and isinstance(word.value, str)}


@each_persona
def test_persona_playbook_plays_its_role_on_its_group(persona: str) -> None:
    plays = load(REPO / f"playbooks/{persona}.yml")
    others = {play.get("hosts") for play in plays} - {persona}
    assert not others, f"playbooks/{persona}.yml: plays on {sorted(map(str, others))}; let every play say `hosts: {persona}`."
    assert (REPO / f"roles/{persona}/tasks/main.yml").exists(), f"{persona}: has a playbook but no role roles/{persona}/."
    assert any(plays_role(play, persona) for play in plays), f"playbooks/{persona}.yml: does not play the role {persona}."


@each_persona
def test_persona_has_a_scenario(persona: str) -> None:
    assert persona in SCENARIOS, f"{persona}: add molecule/{persona}/molecule.yml; see CONTRIBUTING.md, a persona."


@each_persona
def test_persona_is_checked_on_its_hosts(persona: str) -> None:
    found = [path for path in REPO.glob("tests/hosts/test_*.py") if persona in markers(path)]
    assert found, f'{persona}: mark a test in tests/hosts with pytest.mark.persona("{persona}"); verify would look at nothing.'


@each_persona
def test_persona_has_a_group_in_the_example_inventory(persona: str) -> None:
    inventories = [path.read_text() for path in REPO.glob("inventories/example/*") if path.is_file()]
    group = re.compile(rf"^\s*(\[{persona}\]|{persona}:)", re.MULTILINE)
    assert any(group.search(text) for text in inventories), f"{persona}: add the group to inventories/example, so that people can copy it."


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario_has_a_playbook(scenario: str) -> None:
    assert scenario in PERSONAS, f"molecule/{scenario}: has no playbooks/{scenario}.yml; a scenario's name is a persona's."


def test_site_imports_every_persona() -> None:
    plays = load(REPO / "site.yml") or []
    imports = [str(argument(play, "import_playbook")) for play in plays]
    assert imports[0] == f"playbooks/{PLATFORMS}.yml", "site.yml: refuse what cannot be before anything is changed."
    wanted = [f"playbooks/{persona}.yml" for persona in PERSONAS]
    assert sorted(imports[1:]) == wanted, "site.yml: import each playbook of playbooks/ once, and nothing else."


def test_every_persona_has_its_platforms() -> None:
    known = load(REPO / "roles/gpu_detect/vars/main.yml")["__gpu_detect_personas"]
    missing = set(PERSONAS) - set(known)
    assert not missing, f"roles/gpu_detect/vars/main.yml: say in __gpu_detect_personas on which platforms {sorted(missing)} can be."
    early = (REPO / f"playbooks/{PLATFORMS}.yml").read_text()
    for persona in known:
        told = f'"{persona}"' in early
        assert told is (persona not in PERSONAS), f"playbooks/{PLATFORMS}.yml names the personas that have no playbook; see {persona}."


# --- versions ----------------------------------------------------------------------------------------------------------


def pins(lock: str) -> dict[str, str]:
    """Package -> version of a lock file."""
    return {canonicalize_name(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+)", (REPO / lock).read_text(), re.MULTILINE)}


@each_lock
def test_lock_has_hashes_and_no_address(lock: str) -> None:
    text = (REPO / lock).read_text()
    assert "://" not in text, f"{lock}: names an address; make it with --no-emit-index-url, a site has its own index."
    entries = re.split(r"^(?=\w)", text, flags=re.MULTILINE)[1:]
    bare = [entry.split()[0] for entry in entries if not re.match(r"[\w.-]+==", entry) or "--hash=sha256:" not in entry]
    assert entries, f"{lock}: pins nothing."
    assert not bare, f"{lock}: {bare} has no version or no hash; make the file with `uv pip compile --generate-hashes`."


def test_lock_agrees_with_pyproject() -> None:
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    locked = pins("requirements.lock")
    for wanted in map(Requirement, project["dependencies"]):
        version = locked.get(canonicalize_name(wanted.name))
        assert version, f"requirements.lock: {wanted.name} of pyproject.toml is missing; make the file again."
        assert wanted.specifier.contains(version), f"requirements.lock pins {wanted.name} {version}, pyproject.toml asks for {wanted}."


def collections() -> dict[str, str]:
    return {entry["name"]: entry["version"] for entry in load(REPO / "requirements.yml")["collections"]}


@pytest.mark.parametrize("name", sorted(collections()))
def test_collection_is_the_one_that_ansible_carries(name: str) -> None:
    manifest = Path(ansible.module_utils.__path__[0]).parents[1] / "ansible_collections" / name.replace(".", "/") / "MANIFEST.json"
    version = json.loads(manifest.read_text())["collection_info"]["version"]
    assert collections()[name] == version, f"requirements.yml: {name} is {collections()[name]}, the package `ansible` carries {version}."


def test_collections_satisfy_galaxy_yml() -> None:
    for name, wanted in load(REPO / "galaxy.yml")["dependencies"].items():
        version = collections().get(name)
        assert version, f"requirements.yml: add {name}, which galaxy.yml depends on."
        assert SpecifierSet(wanted).contains(version), f"galaxy.yml asks for {name} {wanted}, requirements.yml installs {version}."


def test_one_version_in_three_places() -> None:
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["version"]
    newest = re.search(r"^## (\d+\.\d+\.\d+)", (REPO / "CHANGELOG.md").read_text(), re.MULTILINE)
    changelog = newest.group(1) if newest else None
    galaxy = load(REPO / "galaxy.yml")["version"]
    assert galaxy == project == changelog, f"galaxy.yml says {galaxy}, pyproject.toml {project}, CHANGELOG.md {changelog}; make them equal."


# --- files -------------------------------------------------------------------------------------------------------------

# Cut in two, so that this file does not contain what it looks for.
REGISTRIES = ["pypi" + ".org", "python" + "hosted.org", "deb." + "debian.org", "security." + "debian.org", "registry." + "npmjs.org"]
# admin is the user of the lab's hosts; me, you and user stand for anybody in examples.
HOMES = re.compile(r"/(?:home|Users)/(?!(?:admin|me|you|user)/)[\w.-]+/")
# In these folders /root means the home of root on a managed host; elsewhere it is somebody's machine.
ROOT_IS_A_HOST = (
    "roles/",
    "playbooks/",
    "inventories/",
    "molecule/",
    "docs/",
    "tests/hosts/",
    "tests/faults/",
    "tests/lab/",
    "tests/data/",
)


def test_files_name_no_package_registry() -> None:
    """A site has its own index and its own mirrors: which ones is the machine's business, not the project's."""
    for path in files():
        found = [address for address in REGISTRIES if address.encode() in path.read_bytes()]
        assert not found, f"{path.relative_to(REPO)}: names {found}; use what the machine is configured with, or forja_mirror."


def test_files_name_no_place_on_a_developers_machine() -> None:
    for path in files():
        name, text = str(path.relative_to(REPO)), path.read_text(errors="replace")
        found = HOMES.findall(text) + [place for place in (f"{REPO}/",) if place in text]
        if not name.startswith(ROOT_IS_A_HOST):
            found += re.findall(r"(?<![\w.~-])/root" + r"/\S*", text)
        assert not found, f"{name}: {found} is a place on one machine; write it relative to the project or to the home folder."


@pytest.mark.parametrize(("link", "target"), [("plugins/modules", "../library"), ("plugins/module_utils", "../module_utils")])
def test_links_make_the_checkout_a_collection(link: str, target: str) -> None:
    path = REPO / link
    assert path.is_symlink(), f"{link}: must be a link to {target}; a copy of it would be a second truth."
    assert os.readlink(path) == target, f"{link}: points to {os.readlink(path)}; it must be the relative {target}."
    assert path.is_dir(), f"{link}: points to nothing."


@pytest.mark.parametrize("path", TESTS)
def test_every_test_can_fail(path: str) -> None:
    """A test must assert something itself or call a function of the same file that does."""
    known = functions(REPO / path)

    def asserts(node: ast.AST, seen: frozenset[str] = frozenset()) -> bool:
        parts = list(ast.walk(node))
        called = {part.func.id for part in parts if isinstance(part, ast.Call) and isinstance(part.func, ast.Name)} & known.keys()
        return (
            any(isinstance(part, ast.Assert) for part in parts)
            or any(isinstance(part, ast.Attribute) and part.attr in {"raises", "fail"} for part in parts)
            or any(asserts(known[name], seen | {name}) for name in called - seen)
        )

    idle = [name for name, node in known.items() if name.startswith("test_") and not asserts(node)]
    assert not idle, f"{path}: {idle} cannot fail; assert something or delete it."
