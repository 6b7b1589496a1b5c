#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0

DOCUMENTATION = r"""
module: open_webui_facts
short_description: Read what there is of Open WebUI, and refuse what cannot work
version_added: "0.1.0"
author: The Forja authors (@forja)
description:
  - Reads the engine, the container, its image and its database, and says what the published port needs of a fence.
  - Fails if the address is not valid, if another program has the port, or if the data would be on a network file system.
attributes:
  check_mode:
    description: It only reads.
    support: full
  diff_mode:
    description: It changes nothing.
    support: none
options:
  name:
    description: The container.
    type: str
    required: true
  volume:
    description: The volume with the data.
    type: str
    required: true
  image:
    description: The image to run, by digest or tag.
    type: str
    default: ""
  listen:
    description: The address to publish the port on, as C(address:port).
    type: str
    required: true
  backups:
    description: The folder of the backups, where an interrupted upgrade is remembered.
    type: path
    required: true
  interfaces:
    description: Interfaces that the fence lets pass, which are only checked here.
    type: list
    elements: str
    default: []
  sources:
    description: Sources that the fence lets pass, which are only checked here.
    type: list
    elements: str
    default: []
  require_engine:
    description: Whether an engine that does not answer is an error. In check mode it never is, because an earlier role may install it.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Read what there is of Open WebUI
  forja.gpu.open_webui_facts:
    name: open-webui
    volume: open-webui
    listen: 127.0.0.1:3000
    backups: /var/backups/forja/open-webui
"""

RETURN = r"""
engine:
  description: Whether the Docker engine answers.
  returned: success
  type: bool
engine_version:
  description: Version of the Docker engine, empty if none answers.
  returned: success
  type: str
folder:
  description: The folder of the data on the host.
  returned: success
  type: str
fence:
  description: V(all) for a port that is open beyond loopback, V(loopback) for an engine that does not close loopback itself, or empty.
  returned: success
  type: str
first:
  description: Whether there is no user yet.
  returned: success
  type: bool
pending:
  description: Whether an upgrade was interrupted.
  returned: success
  type: bool
ready:
  description: Whether it answers.
  returned: success
  type: bool
digest:
  description: The registry's digest of the image, where it is on the host.
  returned: success
  type: str
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.forja.facts.listeners import listeners
from ..module_utils.forja.firewall.fence import read_fence
from ..module_utils.forja.host.errors import ForjaError
from ..module_utils.forja.host.files import HostFiles
from ..module_utils.forja.host.run import module_run
from ..module_utils.forja.open_webui import state
from ..module_utils.forja.open_webui.container import Docker
from ..module_utils.forja.open_webui.ready import answers, ask


def argument_spec() -> Dict[str, Any]:
    return {
        "name": {"type": "str", "required": True},
        "volume": {"type": "str", "required": True},
        "image": {"type": "str", "default": ""},
        "listen": {"type": "str", "required": True},
        "backups": {"type": "path", "required": True},
        "interfaces": {"type": "list", "elements": "str", "default": []},
        "sources": {"type": "list", "elements": "str", "default": []},
        "require_engine": {"type": "bool", "default": False},
    }


def main() -> None:
    module = AnsibleModule(argument_spec(), supports_check_mode=True)
    params, run = module.params, module_run(module)
    docker = Docker(run)
    try:
        address, port = state.parse_address(params["listen"])
        read_fence("open_webui", [port], params["interfaces"], params["sources"], "open_webui_allowed_")
        site = state.gather(docker, params["name"], params["volume"], params["image"], params["backups"])
        if params["require_engine"] and not site.engine and not module.check_mode:
            raise ForjaError("The Docker engine does not answer (`docker info`). Install it with the role docker, or start it.")
        if site.engine:
            state.refuse_remote(run, site.folder)
        state.refuse_strangers(site, address, port, listeners(HostFiles(), port))
    except (ForjaError, OSError) as error:
        module.fail_json(msg=str(error))
        return
    digest = docker.digest(params["image"]) if site.image_present else ""
    ready = site.container.running and bool(site.container.address) and answers(ask, site.container.address)
    module.exit_json(changed=False, digest=digest, ready=ready, **state.result(site, address, port, params["image"]))


if __name__ == "__main__":
    main()
