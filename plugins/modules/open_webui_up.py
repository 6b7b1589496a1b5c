#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0

DOCUMENTATION = r"""
module: open_webui_up
short_description: Wait until the container of Open WebUI answers, and check its database
version_added: "0.1.0"
author: The Forja authors (@forja)
description:
  - Asks the container at its own address, so that it does not have to be published. Waits as long as its log or the files of its database
    move, because a migration takes up to half an hour and must not be cut.
  - Fails if the container ends, if the database is not at the head of the program's migrations, or if it has no administrator. The error
    quotes the log.
  - Its action plugin prints a line now and then; see C(forja_progress).
attributes:
  check_mode:
    description: Waits for nothing and checks nothing.
    support: full
  diff_mode:
    description: It changes nothing.
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
  quiet:
    description: After how many seconds without any movement it counts as stuck.
    type: float
    default: 600
  slice:
    description: Set by the action plugin, not by you.
    type: dict
    suboptions:
      seconds:
        description: How long this call may work.
        type: float
        required: true
      beyond:
        description: How far the calls before this one came.
        type: int
        default: 0
"""

EXAMPLES = r"""
- name: Wait until Open WebUI answers
  forja.gpu.open_webui_up:
    name: open-webui
    folder: /var/lib/docker/volumes/open-webui/_data
"""

RETURN = r"""
users:
  description: How many users there are.
  returned: success, but in check mode
  type: int
head:
  description: The migration that the database is at.
  returned: success, but in check mode
  type: str
"""

import time
from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.forja.host.errors import ForjaError
from ..module_utils.forja.host.progress import SLICE, PausedError, Progress
from ..module_utils.forja.host.run import module_run
from ..module_utils.forja.open_webui.container import Docker
from ..module_utils.forja.open_webui.ready import Waiter, ask


def argument_spec() -> Dict[str, Any]:
    return {
        "name": {"type": "str", "required": True},
        "folder": {"type": "path", "required": True},
        "quiet": {"type": "float", "default": 600},
        "slice": SLICE,
    }


def main() -> None:
    module = AnsibleModule(argument_spec(), supports_check_mode=True)
    params = module.params
    if module.check_mode:
        module.exit_json(changed=False)
        return
    progress = Progress("Open WebUI starts,", "s", params["slice"])
    begin = time.time() - (params["slice"] or {}).get("beyond", 0)
    waiter = Waiter(Docker(module_run(module)), params["name"], params["folder"], params["quiet"], ask,
                    lambda seconds, text: progress(seconds, 0, text), time.time, time.sleep)
    try:
        waiter.wait(begin)
        database = waiter.check()
    except PausedError as pause:
        module.exit_json(**pause.result)
        return
    except (ForjaError, OSError) as error:
        progress.finish()
        module.fail_json(msg=str(error))
        return
    progress.finish()
    module.exit_json(changed=False, users=database.users, head=database.head)


if __name__ == "__main__":
    main()
