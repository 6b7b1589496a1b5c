"""Times site.yml on one bare workstation of the lab: first run, second run, and a bare `ssh host true` to compare with.

A run's figures are its wall time and, from Ansible's recap, how many tasks ran on the host (skipped ones not counted).
"""

import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
HOST = "ws13"


def timed(*argv: str) -> tuple[float, str]:
    start = time.monotonic()
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    took = time.monotonic() - start
    if done.returncode:
        sys.exit(f"{' '.join(argv)}:\n{done.stdout}{done.stderr}")
    return took, done.stdout


def site() -> str:
    took, output = timed("ansible-playbook", "site.yml", "--limit", HOST)
    recap = re.search(rf"^{HOST}\s+: ok=(\d+)\s+changed=(\d+)", output, re.M)
    if recap is None:
        sys.exit(f"no recap for {HOST}; was the lab up?\n{output}")
    return f"{took:6.1f} s, {recap[1]} tasks, {recap[2]} changed"


def main() -> None:
    lab = ("ansible-playbook", "--inventory", "localhost,")
    timed(*lab, "playbooks/lab/down.yml", "--extra-vars", '{"lab_keep_images": true}')
    up, _ = timed(*lab, "playbooks/lab/up.yml")
    print(f"lab up (images may have to be built)   {up:6.1f} s")
    print(f"first site.yml on {HOST}                 {site()}")
    print(f"second site.yml on {HOST}                {site()}   (target: at most 25 tasks, under 12 s)")
    # A new connection each time, as a tool without a shared connection would make it.
    ssh = ("ssh", "-F", "none", "-o", "UserKnownHostsFile=.lab/lab/known_hosts", "-i", ".lab/lab/id_ed25519", "-p", "2213", "admin@127.0.0.1", "true")
    print(f"bare ssh {HOST} true, median of 5        {statistics.median(timed(*ssh)[0] for _ in range(5)):6.2f} s")


if __name__ == "__main__":
    main()
