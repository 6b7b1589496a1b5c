"""Time site.yml on one bare workstation of a lab of its own: first run, second run, and a bare `ssh host true` to compare with.

A run's figures are its wall time and, from Ansible's recap, how many tasks ran on the host (skipped ones not counted).
"""

import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
HOST, PORT = "ws13", "2413"
STATE = ".lab/bench"


def timed(*argv: str) -> tuple[float, str]:
    start = time.monotonic()
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    took = time.monotonic() - start
    if done.returncode:
        sys.exit(f"{' '.join(argv)}:\n{done.stdout}{done.stderr}")
    return took, done.stdout


def site() -> str:
    took, output = timed("ansible-playbook", "--inventory", f"{STATE}/inventory", "site.yml", "--limit", HOST)
    recap = re.search(rf"^{HOST}\s+: ok=(\d+)\s+changed=(\d+)", output, re.M)
    if recap is None:
        sys.exit(f"no recap for {HOST}; was the lab up?\n{output}")
    return f"{took:6.1f} s, {recap[1]} tasks, {recap[2]} changed"


def lab(playbook: str) -> float:
    variables = ("--extra-vars", "lab_instance=bench", "--extra-vars", "lab_persona=workstation")
    return timed("ansible-playbook", "--inventory", "localhost,", f"playbooks/lab/{playbook}.yml", *variables)[0]


def main() -> None:
    lab("down")  # what an interrupted run left
    try:
        print(f"lab up (images may have to be built)   {lab('up'):6.1f} s", flush=True)
        print(f"first site.yml on {HOST}                 {site()}", flush=True)
        print(f"second site.yml on {HOST}                {site()}   (target: at most 60 tasks, under 25 s)", flush=True)
        # A new connection each time, as a tool without a shared connection would make it.
        ssh = ("ssh", "-F", "none", "-o", f"UserKnownHostsFile={STATE}/known_hosts", "-i", f"{STATE}/id_ed25519", "-p", PORT,
               "admin@127.0.0.1", "true")
        print(f"bare ssh {HOST} true, median of 5        {statistics.median(timed(*ssh)[0] for _ in range(5)):6.2f} s")
    finally:
        lab("down")


if __name__ == "__main__":
    main()
