#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0

DOCUMENTATION = r"""
module: gpu_clients
short_description: Stops the programs that hold GPUs for a change of them, and starts them again
version_added: "0.1.0"
author: The Forja authors (@forja)
description:
  - Around a change of the GPUs, such as another MIG layout, it stops exactly those of the named clients that must stop, in their order,
    and afterwards starts in reverse order exactly what it had stopped.
  - What it stops is noted on the host's disk before the first stop. After a run that was killed, the next call knows of it.
  - A process that is in the way and belongs to no named client is an error before anything is stopped, with who it is.
  - Units that systemd would stop together with a client (those that require it or are part of it), and sockets or timers that would start
    it again, are stopped and started with it.
attributes:
  check_mode:
    description: Predicts what would be stopped and started.
    support: full
  diff_mode:
    description: Shows which clients run, before and after.
    support: full
options:
  state:
    description:
      - With V(stopped) the clients are stopped that must stop. With V(started) what an earlier call has stopped, and nothing else, is
        started; without such a call nothing happens.
      - Before it starts them, V(started) has the CDI specification made anew, by C(nvidia-cdi-refresh.service) where the host has it, else
        in C(/etc/cdi/nvidia.yaml) where that file exists; containers get the devices that there are after the change.
    type: str
    choices: [stopped, started]
    required: true
  clients:
    description: The clients that may be stopped, in the order of stopping.
    type: list
    elements: dict
    default: []
    suboptions:
      unit:
        description: A unit, or a pattern for units such as V(triton*.service).
        type: str
      cri_container:
        description:
          - The name of a container in pods, such as V(nvidia-device-plugin-ctr), which C(crictl) stops and kubelet starts again. Name
            C(kubelet.service) before it.
        type: str
      stop:
        description:
          - V(always) for programs that count the GPUs when they start, V(when_blocking) for those that only hold what they use.
        type: str
        choices: [always, when_blocking]
        default: when_blocking
  container_label:
    description:
      - Docker containers that carry this label may be stopped too, before all others; those with the value V(always) are, the rest when
        they are in the way. Where the value is the name of a unit that runs, that unit is stopped in the container's stead.
      - A container of C(docker run --rm) is gone once it stops. If it would have to stop, that is an error, and nothing is stopped.
    type: str
    default: ""
  blockers:
    description: Who is in the way, as M(forja.gpu.gpu_mig) returns it in check mode.
    type: list
    elements: dict
    default: []
  predicted:
    description: For V(started) in check mode, what V(stopped) returned as RV(noted); a check has noted nothing on the host.
    type: list
    elements: dict
  timeout:
    description: How many seconds a client may take to stop, or to start.
    type: int
    default: 120
"""

EXAMPLES = r"""
- name: Change the layout between stopping and starting
  block:
    - name: Stop blocking GPU clients
      forja.gpu.gpu_clients:
        state: stopped
        clients:
          - {unit: slurmd.service, stop: always}
          - {unit: ollama.service}
        container_label: forja.mig
        blockers: "{{ plan.blockers }}"
    - name: Apply the MIG layout
      forja.gpu.gpu_mig:
        selected: all-balanced
  always:
    - name: Start the clients again
      forja.gpu.gpu_clients:
        state: started
"""

RETURN = r"""
steps:
  description: What was done, in check mode what would be done.
  returned: success
  type: list
  elements: str
  sample: [stop ollama.service (it uses GPU 0)]
noted:
  description: What is stopped now and waits for V(started), in the order of stopping, each with C(kind), C(name) and C(id).
  returned: success
  type: list
  elements: dict
"""

import os
import time
from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.forja.clients import plan as clients
from ..module_utils.forja.clients.control import Control
from ..module_utils.forja.clients.plan import Client, Known
from ..module_utils.forja.host.errors import ForjaError
from ..module_utils.forja.host.run import module_run
from ..module_utils.forja.mig.journal import boot_id


def argument_spec() -> Dict[str, Any]:
    client = {
        "unit": {"type": "str"},
        "cri_container": {"type": "str"},
        "stop": {"type": "str", "choices": ["always", "when_blocking"], "default": "when_blocking"},
    }
    dicts = {"type": "list", "elements": "dict", "default": []}
    return {
        "state": {"type": "str", "choices": ["stopped", "started"], "required": True},
        "clients": dict(dicts, options=client, mutually_exclusive=[("unit", "cri_container")], required_one_of=[("unit", "cri_container")]),
        "container_label": {"type": "str", "default": ""},
        "blockers": dict(dicts),
        "predicted": {"type": "list", "elements": "dict"},
        "timeout": {"type": "int", "default": 120},
    }


def control_of(module: AnsibleModule) -> Control:
    run = module_run(module, TZ="UTC", SYSTEMD_PAGER="")
    return Control(run, module.get_bin_path, os.path.exists, time.sleep, time.monotonic, float(module.params["timeout"]))


def stop(module: AnsibleModule, control: Control) -> Dict[str, Any]:
    params = module.params
    known = [Known(clients.UNIT if record["unit"] else clients.CRI, record["unit"] or record["cri_container"], record["stop"])
             for record in params["clients"]]
    stops = clients.plan_stop(control.gather(known, params["container_label"]), known, params["blockers"])
    noted = clients.merged(clients.read_note(clients.NOTE, boot_id()) or [], stops)
    if not module.check_mode:
        # Recorded even when nothing is stopped, so that what comes after the change, such as CDI, is not lost.
        clients.write_note(clients.NOTE, boot_id(), noted)
        control.stop(stops)
        again = clients.plan_stop(control.gather(known, params["container_label"]), known, [])
        if again:
            raise ForjaError(f"Stopped, and running again: {', '.join(stop.client.describe() for stop in again)}. Something starts them; "
                              "name it among the clients, before them.")
    names = [stop.client.describe() for stop in stops]
    return {"steps": [f"stop {stop.client.describe()} ({stop.why})" for stop in stops] or ["record that a change begins"],
            "noted": [client._asdict() for client in noted],
            "diff": {"before": "".join(name + ": runs\n" for name in names), "after": "".join(name + ": stopped\n" for name in names)}}


def start(module: AnsibleModule, control: Control) -> Dict[str, Any]:
    noted = clients.read_note(clients.NOTE, boot_id())
    if noted is None and module.check_mode and module.params["predicted"] is not None:
        noted = [Client(record["kind"], record["name"], record["id"]) for record in module.params["predicted"]]
    if noted is None:
        return {"steps": [], "noted": [], "diff": {"before": "", "after": ""}}
    order, cdi, trouble = clients.order_of_start(noted), control.cdi(), []
    if not module.check_mode:
        try:
            control.refresh(cdi)
        except ForjaError as error:
            trouble.append(str(error))
        failed = control.start(order)
        trouble += [why for _client, why in failed]
        if trouble:
            clients.write_note(clients.NOTE, boot_id(), [client for client in noted if client in [other for other, _why in failed]])
            raise ForjaError("Some clients have not started again; the next run tries again. Remove a client that is not to start from "
                             f"{clients.NOTE}.\n" + "\n".join(trouble))
        os.unlink(clients.NOTE)
    names = [client.describe() for client in order]
    return {"steps": ([cdi] if cdi else []) + ["start " + name for name in names] or ["record that the change has ended"], "noted": [],
            "diff": {"before": "".join(name + ": stopped\n" for name in names), "after": "".join(name + ": runs\n" for name in names)}}


def main() -> None:
    module = AnsibleModule(argument_spec(), supports_check_mode=True)
    control = control_of(module)
    try:
        result = (stop if module.params["state"] == "stopped" else start)(module, control)
    except (ForjaError, OSError) as error:
        module.fail_json(msg=str(error))
        return
    module.exit_json(changed=bool(result["steps"]), **result)


if __name__ == "__main__":
    main()
