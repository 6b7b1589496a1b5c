# SPDX-License-Identifier: Apache-2.0
"""Add users to a group: read the accounts of the host, plan, apply."""

import grp
import pwd
from typing import List, NamedTuple, Optional, Set

from .errors import ForjaError
from .run import Run


class Group(NamedTuple):
    """A group; `members` is None where the group does not exist, `unknown` are those asked for that are no users."""

    members: Optional[Set[str]]
    unknown: List[str]


def gather(name: str, users: List[str]) -> Group:
    """Read by the host's name service, so that users of a directory (LDAP, SSSD) count."""
    unknown = []
    primary = set()
    try:
        group = grp.getgrnam(name)
    except KeyError:
        group = None
    for user in users:
        try:
            account = pwd.getpwnam(user)
        except KeyError:
            unknown.append(user)
        else:
            if group is not None and account.pw_gid == group.gr_gid:
                primary.add(user)
    return Group(None if group is None else set(group.gr_mem) | primary, unknown)


def plan(group: Group, users: List[str]) -> List[str]:
    """Return the users to add, in their order, each once."""
    return [user for user in dict.fromkeys(users) if user not in (group.members or ())]


def refuse_unknown(group: Group) -> None:
    if group.unknown:
        names = " or ".join(group.unknown)
        raise ForjaError(f"No user on this host is called {names}. Correct the name, or create the user first. Nothing was changed.")


def apply(run: Run, name: str, users: List[str]) -> None:
    if gather(name, []).members is None:
        raise ForjaError(f"There is no group {name} on this host. Install what creates it first.")
    for user in users:
        rc, out, err = run(["gpasswd", "--add", user, name])
        if rc != 0:
            raise ForjaError(f"gpasswd could not add {user} to the group {name}: {(err or out).strip()}")
