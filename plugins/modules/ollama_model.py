#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0

DOCUMENTATION = r"""
module: ollama_model
short_description: Pulls a model with Ollama, or removes it
version_added: "0.1.0"
author: The Forja authors (@forja)
description:
  - Asks an Ollama server to pull a model or to delete it, through the server's HTTP interface. The change is told by the digest of the
    model before and after.
  - "A long pull prints a line now and then, such as C(ws12: llama3.2:3b 41 % of 2.0 GB, 35 MB/s, 34 s left): the first after the
    seconds that the variable C(forja_progress) says (15), the second after twice, each further one after four times as many.
    With V(0), and with C(async), none is printed."
  - A pull that was cut off goes on where it stopped, also when the connection to the server breaks in the middle. (A server that is
    restarted throws away partial downloads that are more than an hour old, unless C(OLLAMA_NOPRUNE=1) is in its environment.)
attributes:
  check_mode:
    description:
      - Predicts exactly for V(state=present) and V(state=absent). With V(state=latest) and a model that is there, only a pull could tell
        whether the registry has a newer one; check mode then reports no change and warns that it does not know.
      - A server that does not answer in check mode is taken for one that is started by the same play and has no models yet.
    support: partial
  diff_mode:
    description: Shows the model's digest before and after.
    support: full
options:
  name:
    description:
      - The model as C([host/][namespace/]model[:tag]), such as V(llama3.2:3b) or V(hf.co/user/repository:Q4_K_M). Without a tag it is
        V(latest).
      - A name that cannot be right is refused before anything is done, with the one that was probably meant (V(llama 3.2) is
        V(llama3.2)). Cloud models are refused too, because they have no weights that could be on the host.
    type: str
    required: true
  state:
    description:
      - V(present) pulls the model if it is missing or not the one that O(digest) names.
      - V(latest) pulls it always, and is a change when another digest came.
      - V(absent) deletes it. What other models use of it stays.
    type: str
    choices: [present, latest, absent]
    default: present
  digest:
    description:
      - The sha256 of the model's manifest, 64 hexadecimal digits with or without C(sha256:) before them, as C(/api/tags) shows it.
        Only with V(state=present).
      - When the registry serves another model under the name, the module fails and says which; the model that it pulled is deleted
        again, so that nothing answers under the name that was not wanted. A wrong model that was there before and has not changed is
        left alone.
    type: str
  host:
    description:
      - The server's address, seen from the managed host, in any form that C(OLLAMA_HOST) may have. As there, V(http://name) means
        port 80 and V(name) means port 11434. Proxies of the environment are not used.
    type: str
    default: http://127.0.0.1:11434
  timeout:
    description:
      - Seconds without any progress of a pull after which the module gives up. A pull may take as long as it likes while it progresses,
        and the silent check of the digests at its end gets the time that a slow disk needs to read the model (1 s for 20 MB) on top.
    type: int
    default: 300
  slice:
    description:
      - For the action plugin of this module, which prints the progress. Leave it out.
    type: dict
    suboptions:
      seconds:
        description: Return after this many seconds, with C(finished=false), if the download still runs.
        type: float
        required: true
      beyond:
        description: But only once it has more than this many bytes.
        type: int
        default: 0
"""

EXAMPLES = r"""
- name: Install a model
  forja.gpu.ollama_model:
    name: llama3.2:3b

- name: Install exactly this one
  forja.gpu.ollama_model:
    name: llama3.2:3b
    digest: sha256:a80c4f17acd55265feec403c7aef86be0c25983ab279d83f3bcd3abbcb5b8b72

- name: Install those of a list, from a server that listens elsewhere
  forja.gpu.ollama_model:
    name: "{{ item }}"
    host: http://192.0.2.10:11434
  loop:
    - deepseek-coder-v2:16b
    - hf.co/bartowski/Llama-3.2-3B-Instruct-GGUF:Q4_K_M

- name: Remove a model
  forja.gpu.ollama_model:
    name: llama3.2:1b
    state: absent
"""

RETURN = r"""
model:
  description: The model that is there now, null when none is. In check mode what can be known of it; an unknown digest is empty.
  returned: success
  type: dict
  sample:
    name: llama3.2:3b
    digest: a80c4f17acd55265feec403c7aef86be0c25983ab279d83f3bcd3abbcb5b8b72
    size: 2019393189
    modified_at: "2026-11-21T08:55:21.185720+00:00"
    details: {format: gguf, family: llama, parameter_size: 3.2B, quantization_level: Q4_K_M}
before:
  description: The same for the model that was there before, null when none was.
  returned: success
  type: dict
bytes_pulled:
  description:
    - Bytes that were seen to arrive. The server reports several times a second; what comes before the first report does not count.
  returned: success
  type: int
steps:
  description: What was done, or would be done in check mode, V(pull) or V(delete). A pull that brought nothing new is not a change.
  returned: success
  type: list
  elements: str
"""

from typing import Any, Dict, List, Optional

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.forja.host.converge import converge
from ..module_utils.forja.host.errors import ForjaError
from ..module_utils.forja.host.progress import SLICE, PausedError, Progress
from ..module_utils.forja.ollama.api import Client, Meter, UnreachableError, open_url
from ..module_utils.forja.ollama.api import apply as settle
from ..module_utils.forja.ollama.model import Model, base_url, plan, predict, read_desired


def argument_spec() -> Dict[str, Any]:
    return {
        "name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "latest", "absent"], "default": "present"},
        "digest": {"type": "str"},
        "host": {"type": "str", "default": "http://127.0.0.1:11434"},
        "timeout": {"type": "int", "default": 300},
        "slice": SLICE,
    }


def shown(model: Optional[Model]) -> str:
    return (model.digest or "known after the pull") if model else "absent"


def main() -> None:
    module = AnsibleModule(argument_spec(), supports_check_mode=True)
    params = module.params
    meter, pulled = Meter(), False

    def result(before: Optional[Model], after: Optional[Model], steps: List[str], **more: Any) -> Dict[str, Any]:
        return dict(before=before and before._asdict(), model=after and after._asdict(), bytes_pulled=meter.pulled, steps=steps,
                    diff={"before": f"{desired.name}: {shown(before)}\n", "after": f"{desired.name}: {shown(after)}\n"}, **more)

    def change(before: Optional[Model], steps: List[str]) -> None:
        nonlocal meter, pulled
        if "pull" in steps:
            progress = Progress(str(desired.name), part=params["slice"])
            try:
                meter = client.pull(str(desired.name), params["timeout"], progress)
            except PausedError as pause:
                module.exit_json(**dict(result(before, before, steps), **pause.result))
            finally:
                progress.finish()
        settle(client, before, desired)
        pulled = "pull" in steps

    def find() -> Optional[Model]:
        try:
            return client.find(desired.name)
        except UnreachableError:
            if not module.check_mode:
                raise
            return None

    try:
        desired = read_desired(params["name"], params["state"], params["digest"])
        client = Client(base_url(params["host"]), open_url)
        outcome = converge(find, lambda model: plan(model, desired, pulled), change, module.check_mode)
    except (ForjaError, OSError) as error:
        module.fail_json(msg=str(error))
        return
    before, after = outcome.before, predict(outcome.before, desired) if module.check_mode else outcome.after
    if module.check_mode and before and desired.state == "latest":
        module.warn(f"Only a pull can tell whether the registry has a newer {desired.name}; check mode assumes that it has not.")
    module.exit_json(**result(before, after, outcome.steps, changed=(before and before.digest) != (after and after.digest)))


if __name__ == "__main__":
    main()
