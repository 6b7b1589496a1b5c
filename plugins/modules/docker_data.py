#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0

DOCUMENTATION = r"""
module: docker_data
short_description: Deletes the images, volumes and containers of a Docker engine that was removed
version_added: "0.1.0"
author: The Forja authors (@forja)
description:
  - Empties O(data_root), and O(containerd_root) where no containerd is left on the host that could use it, for a Kubernetes node may.
  - Deletes only what the engine and containerd write there. Other files, the folders themselves (which may be mount points), and
    entries with a mounted file system in them are kept, and named in RV(kept).
  - Refuses to work while an engine runs.
attributes:
  check_mode:
    description: Predicts what would be deleted, also while the engine still runs.
    support: full
  diff_mode:
    description: Shows the entries before and after.
    support: full
options:
  data_root:
    description: The folder of the engine, as RV(forja.gpu.docker_daemon#module:data_root) names it.
    type: path
    default: /var/lib/docker
  containerd_root:
    description: The folder of containerd, as RV(forja.gpu.docker_daemon#module:containerd_root) names it.
    type: path
    default: /var/lib/containerd
"""

EXAMPLES = r"""
- name: Delete images, volumes and containers
  forja.gpu.docker_data:
    data_root: /data/docker
"""

RETURN = r"""
deleted:
  description: The entries that were deleted, or would be deleted in check mode.
  returned: success
  type: list
  elements: str
kept:
  description: What is left in the folders, with the reason.
  returned: success
  type: dict
"""

import shutil
from typing import Any, Dict, List, NamedTuple

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.forja.docker.engine import UNIT, inspect
from ..module_utils.forja.host import purge
from ..module_utils.forja.host.converge import converge
from ..module_utils.forja.host.errors import ForjaError
from ..module_utils.forja.host.run import module_run

# The names that engines from 1.10 to 29 create in data-root; 1000.1000 is that of user namespaces.
ENGINE = (
    r"aufs|btrfs|builder|buildkit|containerd|containers|devicemapper|engine-id|fuse-overlayfs|image|network|overlay|overlay2|plugins|"
    r"rootfs|runtimes|swarm|tmp|tmp-old|trust|vfs|volumes|zfs|linkgraph\.db|repositories-\w+|\d+\.\d+"
)
CONTAINERD = r"io\.containerd\..*|tmpmounts"


class Folders(NamedTuple):
    engine: purge.Plan
    containerd: purge.Plan

    @property
    def delete(self) -> List[str]:
        return self.engine.delete + self.containerd.delete


def argument_spec() -> Dict[str, Any]:
    return {
        "data_root": {"type": "path", "default": "/var/lib/docker"},
        "containerd_root": {"type": "path", "default": "/var/lib/containerd"},
    }


def gather(data_root: str, containerd_root: str, check: bool) -> Folders:
    containerd = purge.gather(containerd_root, CONTAINERD)
    if shutil.which("containerd") and not check:
        containerd = purge.Plan([], dict.fromkeys(containerd.delete, "containerd is installed"))
    return Folders(purge.gather(data_root, ENGINE), containerd)


def listing(folders: Folders) -> str:
    return "".join(f"{path}\n" for path in sorted([*folders.delete, *folders.engine.keep, *folders.containerd.keep]))


def main() -> None:
    module = AnsibleModule(argument_spec(), supports_check_mode=True)
    data_root, containerd_root, check = module.params["data_root"], module.params["containerd_root"], module.check_mode
    try:
        if not check and inspect(module_run(module)).active:
            raise ForjaError(f"{UNIT} runs; its data cannot be deleted under it. Stop it or remove the engine, then run again.")
        outcome = converge(
            lambda: gather(data_root, containerd_root, check), lambda folders: folders.delete,
            lambda _, paths: purge.apply(paths), check,
        )
    except (ForjaError, OSError) as error:
        module.fail_json(msg=str(error))
        return
    kept = {**outcome.after.engine.keep, **outcome.after.containerd.keep}
    after = "".join(f"{path}\n" for path in sorted(kept)) if check else listing(outcome.after)
    module.exit_json(changed=outcome.changed, deleted=outcome.steps, kept=kept, diff={"before": listing(outcome.before), "after": after})


if __name__ == "__main__":
    main()
