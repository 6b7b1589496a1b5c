#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0

DOCUMENTATION = r"""
module: systemd_service_up
short_description: Starts a unit and waits until the service answers
version_added: "0.1.0"
author: The Forja authors (@forja)
description:
  - Starts, enables and restarts a unit of systemd, then waits until it answers at O(url), O(port) or O(socket). Without one of them
    it waits for the unit to be active and to stay so for O(watch) seconds.
  - A process that ends, or that systemd restarts again and again, fails the task at once. The error holds the state, the result, the exit
    status, the number of restarts, and the last lines of the unit's journal since this start.
  - C(systemctl daemon-reload) runs where systemd has not read the unit's files yet.
  - A unit that does not run is not started where another program answers at its address already.
attributes:
  check_mode:
    description: Predicts the steps. A unit that systemd does not know yet is predicted as enabled and started.
    support: full
  diff_mode:
    description: Shows whether the unit is active and enabled, before and after.
    support: full
options:
  unit:
    description: The unit, V(.service) may be left out. Of a template, an instance.
    type: str
    required: true
    aliases: [name]
  state:
    description: Whether the unit is to run. V(stopped) of a unit that systemd does not know is no change.
    type: str
    choices: [started, stopped]
    default: started
  enabled:
    description: Whether the unit is to start at boot. Without it, V(true) with V(state=started) and V(false) with V(state=stopped).
    type: bool
  restart:
    description: Restarts a unit that runs. One that does not run is only started.
    type: bool
    default: false
  reload:
    description: Reloads a unit that runs, unless it is restarted or started anyway.
    type: bool
    default: false
  config_files:
    description:
      - Files that the service reads at its start. It is restarted where one of them changed after the start, so that a run that
        was interrupted between a file and the restart is completed by the next one. Missing files are ignored.
    type: list
    elements: path
    default: []
  url:
    description: An address that must answer to HTTP GET. Proxies are not used and redirects are not followed.
    type: str
  status:
    description: The accepted HTTP status codes. Empty accepts any below 500.
    type: list
    elements: int
    default: []
  port:
    description: A TCP port that must accept connections at O(address).
    type: int
  address:
    description: The address for O(port).
    type: str
    default: 127.0.0.1
  socket:
    description: The path of a Unix socket that must accept connections. With O(url), HTTP is spoken over it.
    type: path
  validate_certs:
    description: Whether the certificate of an HTTPS O(url) is checked.
    type: bool
    default: true
  timeout:
    description: Seconds for systemd to start, restart or stop the unit, and as many again for the service to answer.
    type: int
    default: 60
  watch:
    description: Seconds that a unit without an address must stay active after it was started.
    type: float
    default: 2.0
"""

EXAMPLES = r"""
- name: Start Ollama and wait until it answers
  forja.gpu.systemd_service_up:
    unit: ollama.service
    restart: "{{ dropin is changed }}"
    url: http://127.0.0.1:11434/api/version

- name: Start the Docker engine
  forja.gpu.systemd_service_up:
    unit: docker.service
    url: http://localhost/version
    socket: /run/docker.sock

- name: Stop a service for good
  forja.gpu.systemd_service_up:
    unit: ollama.service
    state: stopped
"""

RETURN = r"""
steps:
  description: What was done, or would be done in check mode. Empty when nothing changed.
  returned: success
  type: list
  elements: str
  sample: [make systemd read its unit files again, enable ollama.service at boot, start ollama.service]
active:
  description: Whether the unit is active. In check mode as it is now.
  returned: success
  type: bool
at_boot:
  description: Whether the unit starts at boot. In check mode as it is now.
  returned: success
  type: bool
main_pid:
  description: The main process, 0 for none.
  returned: success
  type: int
answer:
  description: The last answer at O(url), with C(status) and, where the body is a JSON object, C(data). Null where nothing was asked.
  returned: success
  type: dict
  sample: {status: 200, data: {version: 0.32.7}}
"""

import os
import time
from typing import Any, Dict
from urllib.error import URLError

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import ConnectionError as TlsError
from ansible.module_utils.urls import open_url

from ..module_utils.forja.host.converge import converge
from ..module_utils.forja.host.errors import ForjaError
from ..module_utils.forja.host.run import module_run
from ..module_utils.forja.systemd.endpoint import Endpoint
from ..module_utils.forja.systemd.manager import Manager, clock
from ..module_utils.forja.systemd.service_up import Request, Service, at_boot, is_up, plan, summary, unit_name


def argument_spec() -> Dict[str, Any]:
    return {
        "unit": {"type": "str", "required": True, "aliases": ["name"]},
        "state": {"type": "str", "choices": ["started", "stopped"], "default": "started"},
        "enabled": {"type": "bool"},
        "restart": {"type": "bool", "default": False},
        "reload": {"type": "bool", "default": False},
        "config_files": {"type": "list", "elements": "path", "default": []},
        "url": {"type": "str"},
        "status": {"type": "list", "elements": "int", "default": []},
        "port": {"type": "int"},
        "address": {"type": "str", "default": "127.0.0.1"},
        "socket": {"type": "path"},
        "validate_certs": {"type": "bool", "default": True},
        "timeout": {"type": "int", "default": 60},
        "watch": {"type": "float", "default": 2.0},
    }


def request_of(params: Dict[str, Any]) -> Request:
    up = params["state"] == "started"
    times = [os.stat(path).st_mtime for path in params["config_files"] if os.path.exists(path)]
    return Request(unit_name(params["unit"]), up, up if params["enabled"] is None else params["enabled"], params["restart"],
                   params["reload"], time.monotonic(), min(max(times), time.time()) if times else None)


def service_of(module: AnsibleModule, request: Request) -> Service:
    params = module.params

    def opener(url: str, path: str, seconds: float) -> Any:
        try:
            return open_url(url, unix_socket=path or None, use_proxy=False, timeout=seconds, follow_redirects="none", http_agent="forja",
                            validate_certs=params["validate_certs"])
        except TlsError as error:
            raise URLError(str(error)) from error

    endpoint = Endpoint(params["url"] or "", params["address"], params["port"] or 0, params["socket"] or "", params["status"])
    manager = Manager(module_run(module, TZ="UTC", SYSTEMD_PAGER="", SYSTEMD_COLORS="0"))
    return Service(manager, request, endpoint, opener, params["timeout"], params["watch"], clock)


def main() -> None:
    module = AnsibleModule(argument_spec(), supports_check_mode=True, mutually_exclusive=[("url", "port"), ("port", "socket")])
    try:
        request = request_of(module.params)
        service = service_of(module, request)
        outcome = converge(service.gather, lambda state: plan(state, request), service.apply, module.check_mode, lambda step: step.text)
        if module.check_mode:
            service.refuse_stranger(outcome.steps)
        if request.up and not outcome.steps:
            service.await_up(outcome.before)
    except (ForjaError, OSError) as error:
        module.fail_json(msg=str(error))
        return
    before, after = summary(outcome.before.unit), summary(outcome.after.unit)
    if module.check_mode and outcome.steps:
        after = dict(after, active="active" if request.up else "inactive")
        after = after if request.enabled is None else dict(after, enabled="enabled" if request.enabled else "disabled")
    unit, answer = outcome.after.unit, service.answer
    module.exit_json(
        changed=outcome.changed, steps=[step.text for step in outcome.steps], active=is_up(unit), at_boot=at_boot(unit),
        main_pid=int(unit.get("MainPID") or 0), answer=answer and {"status": answer.status, "data": answer.data},
        diff={"before": "".join(f"{key}: {value}\n" for key, value in before.items()),
              "after": "".join(f"{key}: {value}\n" for key, value in after.items())},
    )


if __name__ == "__main__":
    main()
