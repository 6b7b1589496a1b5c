#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0

DOCUMENTATION = r"""
module: apt_signed_repository
short_description: Adds an apt repository whose key was checked
version_added: "0.1.0"
author: The Forja authors (@forja)
description:
  - Fetches the key, compares its checksum and the fingerprint of the key in it, and only then writes the key to
    C(/etc/apt/keyrings/NAME.asc) and a deb822 source for it to C(/etc/apt/sources.list.d/NAME.sources), for the architecture of
    the host. Neither gpg nor python3-debian nor python3-apt is needed on the host.
  - An entry that another role or a person wrote is accepted as it is where it is equivalent, which is, for the same address, suites
    and components and signed by an accepted key, in whatever file and form.
  - Other entries of the same repository are removed, because apt refuses two entries with different keys. They are found by what they
    point to, in one-line and deb822 form.
  - Then refreshes apt's list of this one repository. If apt cannot read it, or does not accept its signature, everything is rolled
    back, so that a broken repository never blocks other work with apt.
  - A key that is on the host and passes the checks is not fetched again.
attributes:
  check_mode:
    description: Fetches the key into memory and checks it, then predicts which files change.
    support: full
  diff_mode:
    description: Shows the files of sources before and after.
    support: full
options:
  name:
    description: Name of the two files, without their endings.
    type: str
    required: true
  state:
    description: V(absent) removes the two files.
    type: str
    choices: [present, absent]
    default: present
  uri:
    description: Address of the repository.
    type: str
  suites:
    description: Suites, such as the release's code name; V(/) for a flat repository.
    type: list
    elements: str
  components:
    description: Components, none for a flat repository.
    type: list
    elements: str
    default: []
  key_url:
    description: Address of the armored key.
    type: str
  key_fingerprint:
    description:
      - The accepted keys, each as 40 hexadecimal digits, spaces allowed. Every key in the file must be one of them. List the old and the
        new one while a repository rotates its key.
    type: list
    elements: str
  key_sha256:
    description: SHA-256 of the key's file; empty for any file with the right key.
    type: str
    default: ""
  replaces:
    description: Equivalent addresses of the repository, such as the one upstream of a mirror; existing entries for them are removed.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Add Docker's repository
  forja.gpu.apt_signed_repository:
    name: docker
    uri: https://download.docker.com/linux/debian
    suites: [trixie]
    components: [stable]
    key_url: https://download.docker.com/linux/debian/gpg
    key_fingerprint: 9DC8 5822 9FC7 DD38 854A  E2D8 8D81 803C 0EBF CD88
    key_sha256: 1500c1f56fa9e26b9b8f42452a553675796ade0807cdce11975eb98170b3a570

- name: Remove it
  forja.gpu.apt_signed_repository:
    name: docker
    state: absent
"""

RETURN = r"""
steps:
  description: What was done, or would be done in check mode. Empty when nothing changed.
  returned: success
  type: list
  elements: str
source:
  description: The file with the entry, which may be somebody else's.
  returned: success
  type: str
key:
  description: The file of the key, empty where the entry holds the key itself.
  returned: success
  type: str
"""

import hashlib
import time
from typing import Any, Dict, List, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import fetch_url

from ..module_utils.forja.apt.apt_get import architecture, refresh
from ..module_utils.forja.apt.repository import Files, Repository, changes, check_key, desired, equivalent, gather, plan
from ..module_utils.forja.host import atomic as atomic_file
from ..module_utils.forja.host.converge import converge
from ..module_utils.forja.host.errors import ForjaError
from ..module_utils.forja.host.run import module_run


def argument_spec() -> Dict[str, Any]:
    return {
        "name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "uri": {"type": "str"},
        "suites": {"type": "list", "elements": "str"},
        "components": {"type": "list", "elements": "str", "default": []},
        "key_url": {"type": "str"},
        "key_fingerprint": {"type": "list", "elements": "str"},
        "key_sha256": {"type": "str", "default": ""},
        "replaces": {"type": "list", "elements": "str", "default": []},
    }


def fetch(module: AnsibleModule, url: str) -> bytes:
    response, info = fetch_url(module, url, timeout=30)
    if response is None or info["status"] not in (200, None):
        raise ForjaError(f"The key {url} cannot be fetched: {info['msg']}. Nothing was changed.")
    content: bytes = response.read(1 << 20)
    return content


def key_of(module: AnsibleModule, present: Optional[bytes], path: str) -> bytes:
    """Return the key to install: the one on the host where it passes the checks, else the one from its address."""
    accepted, sha256 = module.params["key_fingerprint"], module.params["key_sha256"]
    if present is not None:
        try:
            check_key(present, accepted, sha256, path)
            return present
        except ForjaError:
            pass
    content = fetch(module, module.params["key_url"])
    check_key(content, accepted, sha256, module.params["key_url"])
    return content


def show(path: str, content: Optional[bytes]) -> str:
    """A file for the diff; a key is a page of letters that tells nobody anything."""
    if content is None:
        return ""
    if path.endswith(".asc"):
        return f"(a key, SHA-256 {hashlib.sha256(content).hexdigest()})\n"
    return content.decode(errors="replace")


def write(files: Files, paths: List[str]) -> None:
    for path in paths:
        atomic_file.replace(path, files[path])


def targets(module: AnsibleModule, current: Files, repository: Repository) -> Files:
    if module.params["state"] == "absent":
        return {**current, repository.key: None, repository.source: None}
    needed = equivalent(current, repository) is None
    return desired(current, repository, key_of(module, current[repository.key], repository.key) if needed else None)


def main() -> None:
    module = AnsibleModule(
        argument_spec(),
        supports_check_mode=True,
        required_if=[("state", "present", ["uri", "suites", "key_url", "key_fingerprint"])],
    )
    run, values = module_run(module), module.params
    present = values["state"] == "present"

    def steps_of(found: Files) -> List[str]:
        steps = plan(found, wanted)
        return steps + (["refresh apt's list of this repository"] if steps and present else [])

    def apply(found: Files, _: List[str]) -> None:
        touched = changes(found, wanted)
        write(wanted, touched)
        if present:
            try:
                refresh(run, time.sleep, entry.path if entry else repository.source)
            except ForjaError as error:
                write(found, touched)
                raise ForjaError(f"apt does not accept {repository.uri}; everything is as before. {error}") from error

    try:
        repository = Repository(values["name"], values["uri"] or "", values["suites"] or [], values["components"], architecture(run),
                                values["replaces"], values["key_fingerprint"] or [])
        wanted = targets(module, gather(repository), repository)
        entry = equivalent(wanted, repository)
        outcome = converge(lambda: {path: atomic_file.read(path) for path in wanted}, steps_of, apply, module.check_mode)
    except (ForjaError, OSError) as error:
        module.fail_json(msg=str(error))
        return
    diff = [
        {"before_header": path, "after_header": path, "before": show(path, outcome.before[path]), "after": show(path, wanted[path])}
        for path in changes(outcome.before, wanted)
    ]
    signed_by = entry.signed_by if entry else repository.key
    module.exit_json(changed=outcome.changed, steps=outcome.steps, diff=diff, source=entry.path if entry else repository.source,
                     key=signed_by if signed_by.startswith("/") else "")


if __name__ == "__main__":
    main()
