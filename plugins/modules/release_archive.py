#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0

DOCUMENTATION = r"""
module: release_archive
short_description: Installs a release of a program from an archive, beside the releases that are there
version_added: "0.1.0"
author: The Forja authors (@forja)
description:
  - Downloads an archive, checks its checksum, unpacks it beside its place and renames it to O(root)C(/)O(version); then O(links) point to
    it, and old releases are removed. At no moment is half of a release to be seen.
  - "A download that was interrupted goes on where it stopped. A long one prints a line now and then, such as C(ws12: ollama 0.32.7
    41 % of 1.2 GB, 35 MB/s, 20 s left): the first after the seconds that the variable C(forja_progress) says (15), the second after
    twice, each further one after four times as many. With V(0), and with C(async), none is printed."
  - Proxies and certificate authorities are those of the host, as for C(ansible.builtin.get_url).
  - Free space is checked before the download.
attributes:
  check_mode:
    description: Predicts the steps, also on a host where nothing is installed yet. Nothing is downloaded.
    support: full
  diff_mode:
    description: Shows the releases and the links, before and after.
    support: full
options:
  root:
    description: The folder that holds the releases. All below it belongs to this module.
    type: path
    required: true
  version:
    description: The name of the release. Required with O(state=present).
    type: str
  url:
    description: "The archive: C(.tar), C(.tar.gz), C(.tar.xz), C(.tar.zst) or C(.zip). Required with O(state=present)."
    type: str
  sha256:
    description:
      - The archive's checksum. Required with O(state=present).
      - A release of the same version that came from an archive with another checksum is replaced. One that this module has not
        installed is taken as it is.
    type: str
  links:
    description:
      - Links to make, path to target below the release, such as C(/usr/local/bin/ollama) to C(bin/ollama). A file of the same name is
        replaced, a folder is an error.
      - With O(state=absent) those are removed that point below O(root).
    type: dict
    default: {}
  keep:
    description: How many other releases stay, the newest first.
    type: int
    default: 1
  strip:
    description: How many leading parts of the paths in the archive are left out, as C(tar --strip-components) does.
    type: int
    default: 0
  unpacked_size:
    description: Bytes that the release needs unpacked. Without it twice the size of the archive is assumed.
    type: int
  state:
    description: V(absent) removes the links and the whole O(root).
    type: str
    choices: [present, absent]
    default: present
  retries:
    description: Failures in a row, without a byte between them, after which a download is given up.
    type: int
    default: 5
  timeout:
    description: Seconds without a byte after which a connection counts as broken.
    type: int
    default: 60
  slice:
    description: For the action plugin of this module, which prints the progress. Leave it out.
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
- name: Install Ollama
  forja.gpu.release_archive:
    root: /opt/forja/ollama
    version: 0.32.7
    url: https://github.com/ollama/ollama/releases/download/v0.32.7/ollama-linux-amd64.tar.zst
    sha256: ed1e39fe8fea90bd7f4c723bd949a2cea3153e111220ec0a183ea5b8dc8b2cae
    links: {/usr/local/bin/ollama: bin/ollama}

- name: Remove it
  forja.gpu.release_archive:
    root: /opt/forja/ollama
    links: {/usr/local/bin/ollama: bin/ollama}
    state: absent
"""

RETURN = r"""
release:
  description: The folder of the release, null with O(state=absent).
  returned: success
  type: str
  sample: /opt/forja/ollama/0.32.7
releases:
  description: Names of the releases that are there, the newest first. In check mode those that are there now.
  returned: success
  type: list
  elements: str
steps:
  description: What was done, or would be done in check mode. Empty when nothing changed.
  returned: success
  type: list
  elements: str
"""

import shutil
from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import ConnectionError as TlsError
from ansible.module_utils.urls import open_url

from ..module_utils.forja.host import release, unpack
from ..module_utils.forja.host.converge import converge
from ..module_utils.forja.host.download import Source, download
from ..module_utils.forja.host.errors import ForjaError
from ..module_utils.forja.host.progress import SLICE, PausedError, Progress
from ..module_utils.forja.host.run import module_run


def argument_spec() -> Dict[str, Any]:
    return {
        "root": {"type": "path", "required": True},
        "version": {"type": "str"},
        "url": {"type": "str"},
        "sha256": {"type": "str"},
        "links": {"type": "dict", "default": {}},
        "keep": {"type": "int", "default": 1},
        "strip": {"type": "int", "default": 0},
        "unpacked_size": {"type": "int"},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "retries": {"type": "int", "default": 5},
        "timeout": {"type": "int", "default": 60},
        "slice": SLICE,
    }


def request_of(params: Dict[str, Any]) -> release.Request:
    present = params["state"] == "present"
    source = Source(params["url"], params["sha256"].lower()) if present else None
    request = release.Request(params["root"].rstrip("/"), params["version"] if present else None, source, params["links"], params["keep"],
                              params["strip"])
    release.check(request)
    return request


def listing(state: release.State) -> str:
    return "".join(f"release {name}\n" for name in sorted(state.checksums)) + "".join(
        f"{path} -> {target}\n" for path, target in sorted(state.links.items()))


def main() -> None:
    module = AnsibleModule(argument_spec(), supports_check_mode=True,
                           required_if=[("state", "present", ["version", "url", "sha256"])])
    params, run = module.params, module_run(module)
    progress = Progress(f"{params['root'].rstrip('/').rpartition('/')[2]} {params['version']}", part=params["slice"])

    def opener(url: str, headers: Dict[str, str]) -> Any:
        try:
            return open_url(url, headers=headers, timeout=params["timeout"], decompress=False, http_agent="forja")
        except TlsError as error:
            raise ForjaError(f"{Source(url, '')} cannot be downloaded: {error}") from error

    def fetch(source: Source, path: str) -> None:
        unpack.check_programs(unpack.suffix_of(source.url), shutil.which)
        download(source, path, opener, progress, params["retries"], lambda total: params["unpacked_size"] or 2 * total)

    try:
        request = request_of(params)
        outcome = converge(lambda: release.gather(request), lambda state: release.plan(state, request),
                           lambda _, steps: release.apply(run, request, steps, fetch), module.check_mode, lambda step: step.text)
    except PausedError as pause:
        module.exit_json(**pause.result)
        return
    except (ForjaError, OSError) as error:
        progress.finish()
        module.fail_json(msg=str(error))
        return
    progress.finish()
    shown = release.predict(outcome.after, outcome.steps, request) if module.check_mode else outcome.after
    module.exit_json(
        changed=outcome.changed, steps=[step.text for step in outcome.steps], releases=list(outcome.after.checksums),
        release=request.release if request.version else None, diff={"before": listing(outcome.before), "after": listing(shown)},
    )


if __name__ == "__main__":
    main()
