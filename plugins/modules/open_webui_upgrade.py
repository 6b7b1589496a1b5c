#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0

DOCUMENTATION = r"""
module: open_webui_upgrade
short_description: Replace, back up and restore Open WebUI with a way back
version_added: "0.1.0"
author: The Forja authors (@forja)
description:
  - With V(begun) the container is stopped, its SQLite database is backed up, and it is kept as C(<name>-previous). Create the new container
    then. V(finished) removes the previous container; V(rolled_back) removes the new one, puts the database back as it was and starts the
    previous container with all of its settings.
  - An upgrade that was interrupted is remembered; the backup from before it is never replaced by a later one.
  - With V(backup) the database, the secrets and the uploads are written to an archive while Open WebUI runs; with V(restored) they are put
    back from O(archive), after a backup of what is there; the container stays stopped.
attributes:
  check_mode:
    description: Predicts the steps.
    support: full
  diff_mode:
    description: The steps are in RV(steps).
    support: none
options:
  name:
    description: The container.
    type: str
    required: true
  folder:
    description: The folder of the data on the host.
    type: path
    required: true
  secrets:
    description: The env file with the secrets, which a backup holds too.
    type: path
    required: true
  backups:
    description: The folder of the backups, which only root can read.
    type: path
    required: true
  keep:
    description: How many backups are kept; 0 for all.
    type: int
    default: 5
  database:
    description: Whether V(begun) backs up the database. The same image with other settings does not need it.
    type: bool
    default: true
  archive:
    description: The backup to restore. Required with V(restored).
    type: path
  state:
    description: See the description.
    type: str
    choices: [begun, finished, rolled_back, backup, restored]
    required: true
"""

EXAMPLES = r"""
- name: Stop the container, back up its database, and keep both
  forja.gpu.open_webui_upgrade:
    name: open-webui
    folder: /var/lib/docker/volumes/open-webui/_data
    secrets: /etc/forja/open-webui/secrets.env
    backups: /var/backups/forja/open-webui
    state: begun
"""

RETURN = r"""
steps:
  description: What was done, or would be done in check mode; empty if nothing changed.
  returned: success
  type: list
  elements: str
archive:
  description: The backup that was made, empty if none was.
  returned: success
  type: str
"""

from typing import Any, Dict, List

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.forja.host.converge import converge
from ..module_utils.forja.host.errors import ForjaError
from ..module_utils.forja.host.run import module_run
from ..module_utils.forja.open_webui import upgrade
from ..module_utils.forja.open_webui.container import Docker


def argument_spec() -> Dict[str, Any]:
    return {
        "name": {"type": "str", "required": True},
        "folder": {"type": "path", "required": True},
        "secrets": {"type": "path", "required": True, "no_log": False},
        "backups": {"type": "path", "required": True},
        "keep": {"type": "int", "default": 5},
        "database": {"type": "bool", "default": True},
        "archive": {"type": "path"},
        "state": {"type": "str", "choices": ["begun", "finished", "rolled_back", "backup", "restored"], "required": True},
    }


def copy(module: AnsibleModule, docker: Docker, place: upgrade.Place) -> Dict[str, Any]:
    """Make or restore a backup; each call is a change."""
    params = module.params
    state = upgrade.gather(docker, place)
    if params["state"] == "backup":
        if not state.has_database:
            raise ForjaError(f"There is no database {place.database} to back up.")
        steps, archive = [f"back up {place.folder} to {place.backups}"], ""
        if not module.check_mode:
            archive = upgrade.backup(place, {"image": state.container.image}, files=True)
            upgrade.prune(place.backups, params["keep"])
        return {"steps": steps, "archive": archive}
    steps = [f"stop {place.name}"] if state.container.running else []
    steps.append(f"restore {place.folder} from {params['archive']}")
    if not module.check_mode:
        if state.container.running:
            docker.do("stop", "--time", str(upgrade.STOP_SECONDS), place.name)
        if state.has_database:
            upgrade.backup(place, {"image": state.container.image}, files=True)
        upgrade.restore(place, params["archive"], files=True)
    return {"steps": steps, "archive": params["archive"]}


def main() -> None:
    module = AnsibleModule(argument_spec(), supports_check_mode=True, required_if=[("state", "restored", ["archive"])])
    params, docker = module.params, Docker(module_run(module))
    place = upgrade.Place(params["name"], params["folder"], params["secrets"], params["backups"])
    wanted = params["state"]
    work = upgrade.Upgrade(docker, place, params["keep"])
    begun: List[bool] = []

    def plan(state: upgrade.State) -> List[upgrade.Step]:
        # What `begun` leaves is a container that is no longer there under its name.
        return [] if begun else upgrade.plan(state, place, wanted, params["database"])

    def apply(state: upgrade.State, steps: List[upgrade.Step]) -> None:
        work.apply(state, steps)
        if wanted == "begun":
            begun.append(True)

    try:
        if wanted in ("backup", "restored"):
            module.exit_json(changed=True, **copy(module, docker, place))
            return
        outcome = converge(lambda: upgrade.gather(docker, place), plan, apply, module.check_mode, lambda step: step.text)
    except (ForjaError, OSError) as error:
        module.fail_json(msg=str(error))
        return
    module.exit_json(changed=outcome.changed, steps=[step.text for step in outcome.steps], archive=work.path)


if __name__ == "__main__":
    main()
