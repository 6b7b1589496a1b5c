#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write the skeleton of a block: a role that installs a package, configures its service, reports and uninstalls, with its host test.

    python3 -m tests.tools.make_role NAME

The skeleton follows tests/house from its first line. Replace what it says in capitals, and run `make docs` after each change of the specs.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tests.tools import make_docs

REPO = Path(__file__).resolve().parents[2]

DEFAULTS = """---
ROLE_state: present
ROLE_settings: {}
"""

SPECS = """---
argument_specs:
  main:
    short_description: ONE LINE THAT SAYS WHAT THE ROLE DOES
    author: The Forja authors
    options:
      ROLE_state:
        type: str
        choices: [present, absent]
        default: present
        description: Whether ROLE is on the host. V(absent) uninstalls what the role installed and leaves data.
      ROLE_settings:
        type: dict
        default: {}
        description: Settings of ROLE, written to its configuration file.
"""

META = """---
galaxy_info:
  role_name: ROLE
  author: Forja
  description: ONE LINE THAT SAYS WHAT THE ROLE DOES
  license: Apache-2.0
  min_ansible_version: "2.16"
  platforms:
    - name: Debian
      versions: [bookworm, trixie]
    - name: Ubuntu
      versions: [jammy, noble]
dependencies: []
"""

VARS = """---
__ROLE_packages: [ROLE]
__ROLE_config: /etc/ROLE.json
"""

MAIN = """---
- name: Validate
  ansible.builtin.import_tasks: validate.yml

- name: Apply
  ansible.builtin.import_tasks: apply.yml
"""

VALIDATE = """---
- name: Check the variables
  role_arguments:
  register: __ROLE

# Everything that can be refused is refused here, before the first change, in check mode as in a run.
- name: Require systemd
  when: ansible_facts['service_mgr'] != "systemd"
  ansible.builtin.fail:
    msg: "{{ inventory_hostname }} runs {{ ansible_facts['service_mgr'] }}; ROLE needs systemd. Nothing was changed."
"""

APPLY = """---
- name: Install and start ROLE
  when: __ROLE.state == "present"
  block:
    - name: Install
      ansible.builtin.import_tasks: install.yml
    - name: Configure
      ansible.builtin.import_tasks: configure.yml
    - name: Service
      ansible.builtin.import_tasks: service.yml

- name: Uninstall ROLE
  when: __ROLE.state == "absent"
  block:
    - name: Remove
      ansible.builtin.import_tasks: remove.yml

- name: Report
  ansible.builtin.import_tasks: report.yml
"""

INSTALL = """---
- name: Install the packages
  apt_packages:
    present: "{{ __ROLE_packages }}"
"""

CONFIGURE = """---
- name: Configure ROLE
  ansible.builtin.copy:
    content: "{{ __ROLE.settings | to_nice_json(sort_keys=true) }}\\n"
    dest: "{{ __ROLE_config }}"
    mode: "0644"
"""

SERVICE = """---
- name: Start ROLE and wait until it is up
  systemd_service_up:
    unit: ROLE.service
    # It is restarted if it started before this file changed, in this run or in one that was interrupted.
    config_files: ["{{ __ROLE_config }}"]
"""

REPORT = """---
- name: Report
  report:
    summary: "{{ 'ROLE from ' ~ ansible_facts['distribution'] if __ROLE.state == 'present' else 'uninstalled' }}"
  register: forja_reports
"""

REMOVE = """---
- name: Stop ROLE
  systemd_service_up:
    unit: ROLE.service
    state: stopped

- name: Uninstall the packages
  apt_packages:
    absent: "{{ __ROLE_packages }}"

- name: Remove the configuration
  ansible.builtin.file:
    path: "{{ __ROLE_config }}"
    state: absent
"""

README = """# ROLE

WHAT IT DOES, IN TWO SENTENCES.

<!-- make docs: variables -->
<!-- end: variables -->

```yaml
- hosts: gpu_hosts
  become: true
  roles:
    - role: forja.gpu.ROLE
```

## What it never does

- WHAT A CAREFUL READER WANTS TO KNOW.

## Uninstall

`ROLE_state: absent` uninstalls the packages and removes the role's configuration. Data stays.
"""

HOST_TEST = '''# SPDX-License-Identifier: Apache-2.0
"""A host with the role ROLE, asked without Ansible."""

from typing import Any

import pytest

pytestmark = [pytest.mark.role("ROLE"), pytest.mark.journal("ROLE.service")]


def test_service_runs_and_starts_at_boot(host: Any) -> None:
    service = host.service("ROLE")
    assert service.is_running
    assert service.is_enabled
'''

FILES = {
    "roles/ROLE/defaults/main.yml": DEFAULTS,
    "roles/ROLE/meta/argument_specs.yml": SPECS,
    "roles/ROLE/meta/main.yml": META,
    "roles/ROLE/vars/main.yml": VARS,
    "roles/ROLE/tasks/main.yml": MAIN,
    "roles/ROLE/tasks/validate.yml": VALIDATE,
    "roles/ROLE/tasks/apply.yml": APPLY,
    "roles/ROLE/tasks/install.yml": INSTALL,
    "roles/ROLE/tasks/configure.yml": CONFIGURE,
    "roles/ROLE/tasks/service.yml": SERVICE,
    "roles/ROLE/tasks/report.yml": REPORT,
    "roles/ROLE/tasks/remove.yml": REMOVE,
    "roles/ROLE/README.md": README,
    "tests/hosts/test_ROLE.py": HOST_TEST,
}


def objection(name: str, repo: Path) -> str:
    """Say why there can be no role of this name; empty if there can."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*[a-z0-9]", name):
        return f"'{name}' is not valid as a role's name; use lower-case letters, digits and underscores, such as open_webui."
    return f"roles/{name} exists already." if (repo / f"roles/{name}").exists() else ""


def main(arguments: list[str]) -> int:
    name = arguments[0] if arguments else ""
    if problem := objection(name, REPO):
        print(problem, file=sys.stderr)
        return 1
    for place, text in FILES.items():
        path = REPO / place.replace("ROLE", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("ROLE", name))
    make_docs.main()
    print(f"roles/{name} and tests/hosts/test_{name}.py are there. Replace what they say in capitals, then run `make docs lint unit`.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
