# SPDX-License-Identifier: Apache-2.0
"""The module nft_fence: which entries it takes, the rules in the file and in the kernel, and other firewalls in the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from plugins.module_utils.forja.firewall import fence_apply
from plugins.module_utils.forja.firewall.fence import chains, kernel_chains, parse_source, read_fence, render
from plugins.module_utils.forja.firewall.fence_apply import Host, State, gather, plan
from plugins.module_utils.forja.firewall.others import UfwRule, problems, ufw_rules
from plugins.module_utils.forja.host.converge import converge
from plugins.module_utils.forja.host.errors import ForjaError
from plugins.module_utils.forja.host.files import HostFiles
from plugins.module_utils.forja.host.run import NOT_FOUND, Result
from plugins.module_utils.forja.systemd.paths import place

FENCE = read_fence("ollama", [11434], ["docker0", "br-*"], ["192.0.2.7", "192.0.2.0/24", "10.0.0.1-10.0.0.9", "2001:db8::/32"])
# As `nft list table` of nftables 1.0.6 prints it.
LISTED = """table inet forja_ollama {
	chain input {
		type filter hook input priority filter - 5; policy accept;
		tcp dport 11434 jump guard
	}

	chain guard {
		iif "lo" accept
		iifname "docker0" accept
		iifname "br-*" accept
		ip saddr 192.0.2.7 accept
		ip saddr 192.0.2.0/24 accept
		ip saddr 10.0.0.1-10.0.0.9 accept
		ip6 saddr 2001:db8::/32 accept
		counter packets 12 bytes 720 drop
	}
}
"""


@pytest.mark.parametrize(("text", "printed"), [
    ("192.0.2.7", "192.0.2.7"),
    (" 192.0.2.7/32 ", "192.0.2.7"),
    ("192.0.2.9/24", "192.0.2.0/24"),
    ("10.0.0.1 - 10.0.0.9", "10.0.0.1-10.0.0.9"),
    ("2001:DB8::1", "2001:db8::1"),
    ("2001:db8::/32", "2001:db8::/32"),
    ("0.0.0.0/0", "0.0.0.0/0"),
])
def test_source_is_written_as_nft_prints_it(text: str, printed: str) -> None:
    source = parse_source(text)
    assert source is not None
    assert source.text == printed


@pytest.mark.parametrize("text", [
    "laptop.lan", "192.168.1.0/255.255.255.0", "10.0.0.0/33", "fe80::1%eth0", "192.168.1.300", "10.0.0.9-10.0.0.1", "10.0.0.1-2001:db8::1",
    "", "1", "10.0.0.1-", "2001:db8::/129", "any", "10.0.0.0/-1", "10.0.0.0/",
])
def test_source_that_nft_refuses_is_named_with_the_accepted_forms(text: str) -> None:
    with pytest.raises(ForjaError, match="range") as error:
        read_fence("ollama", [11434], [], [text], "ollama_allowed_")
    assert f"ollama_allowed_sources: {text!r}" in str(error.value)


@pytest.mark.parametrize("name", ["enp0s31f6-upstream", "", "eth 0", 'a"b', "a*b", "br*-"])
def test_interface_that_cannot_be_one_is_named(name: str) -> None:
    with pytest.raises(ForjaError, match="interfaces: "):
        read_fence("ollama", [1], [name], [])


def test_all_wrong_entries_are_named_at_once() -> None:
    with pytest.raises(ForjaError) as error:
        read_fence("ollama", [0], ["eth 0"], ["a.lan", "10.0.0.0/33"])
    assert all(word in str(error.value) for word in ("port 0", "eth 0", "a.lan", "10.0.0.0/33"))


def test_rules_in_the_kernel_are_recognised() -> None:
    assert kernel_chains(LISTED) == chains(FENCE)


def test_file_says_what_the_kernel_will_list() -> None:
    assert kernel_chains(render(FENCE).partition(" {\n")[2]) == chains(FENCE)


@pytest.mark.parametrize("changed", [
    LISTED.replace('\t\tiif "lo" accept\n', ""),
    LISTED.replace("192.0.2.0/24", "192.0.0.0/16"),
    LISTED.replace("\t\tcounter packets 12 bytes 720 drop\n", ""),
    LISTED.replace("tcp dport 11434 jump guard", ""),
    LISTED.replace("priority filter - 5", "priority filter + 5"),
])
def test_rules_changed_in_the_kernel_are_loaded_again(changed: str) -> None:
    assert [step.action for step in plan(State(render(FENCE), changed), FENCE, "present")] == ["load"]


@pytest.mark.parametrize(("state", "wanted", "actions"), [
    (State(None, None), "present", ["write", "load"]),
    (State(render(FENCE), LISTED), "present", []),
    (State(render(FENCE), None), "present", ["load"]),  # flushed by another program
    (State("old", LISTED), "present", ["write"]),
    (State(render(FENCE), LISTED), "absent", ["remove", "delete"]),
    (State(None, None), "absent", []),
    (State(None, LISTED), "absent", ["delete"]),
    (State(None, LISTED), "restored", ["delete"]),
    (State(render(FENCE), None), "restored", ["load"]),
    (State(render(FENCE), LISTED), "restored", []),
    (State(render(FENCE), LISTED.replace("11434", "8080")), "restored", ["load"]),
])
def test_plan(state: State, wanted: str, actions: list[str]) -> None:
    assert [step.action for step in plan(state, FENCE, wanted)] == actions


class FakeNft:
    """nft with one table. It refuses a text with the word `refused`."""

    def __init__(self) -> None:
        self.table = ""

    def __call__(self, argv: list[str]) -> Result:
        if "list" in argv:
            return Result(0, self.table, "") if self.table else Result(1, "", "No such file or directory")
        text = Path(argv[-1]).read_text()
        if "-c" not in argv:
            self.table = text.partition(" {\n")[2]
        return Result(0, "", "")


def bring(host: Host, wanted: str, check: bool = False) -> list[str]:
    return [step.action for step in converge(lambda: gather(host, FENCE), lambda state: plan(state, FENCE, wanted),
                                             lambda state, steps: fence_apply.apply(host, FENCE, state, steps), check).steps]


def test_life_of_a_fence(tmp_path: Path) -> None:
    nft = FakeNft()
    host = Host(nft, str(tmp_path / "fence.nft"))
    assert bring(host, "present", check=True) == ["write", "load"]
    assert not nft.table
    assert bring(host, "present") == ["write", "load"]
    assert bring(host, "present") == []
    nft.table = ""
    assert bring(host, "present") == ["load"]
    assert bring(host, "absent") == ["remove", "delete"]
    assert not Path(host.path).exists()


def test_missing_nft_is_predicted_and_then_named(tmp_path: Path) -> None:
    host = Host(lambda argv: Result(NOT_FOUND, "", ""), str(tmp_path / "fence.nft"))
    assert bring(host, "present", check=True) == ["write", "load"]
    with pytest.raises(ForjaError, match="install the package nftables"):
        bring(host, "present")
    assert not Path(host.path).exists()


def test_mirrored_networking_of_wsl2_passes(tmp_path: Path) -> None:
    kernel = tmp_path / "proc/sys/kernel/osrelease"
    kernel.parent.mkdir(parents=True)
    kernel.write_text("6.6.87.2-microsoft-standard-WSL2\n")
    assert fence_apply.local_interfaces(HostFiles(str(tmp_path))) == ["loopback0"]
    kernel.write_text("6.12.0-debian\n")
    assert fence_apply.local_interfaces(HostFiles(str(tmp_path))) == []


@pytest.mark.parametrize(("keys", "result"), [
    (["ExecStartPost", "ExecReload", "ExecStopPost"], True), (["ExecStartPost", "ExecReload"], False), ([], False),
])
def test_fence_survives_where_every_flush_is_followed_by_a_load(tmp_path: Path, keys: list[str], result: bool) -> None:
    drop_in = tmp_path / "etc/systemd/system/nftables.service.d/forja-x.conf"
    drop_in.parent.mkdir(parents=True)
    drop_in.write_text("[Service]\n" + "".join(f"{key}=/usr/sbin/nft -f /etc/x-fence.nft\n" for key in keys))
    assert fence_apply.survives(place("system", str(tmp_path), 0, 0, "/root"), "/etc/x-fence.nft") is result


# Other firewalls

UFW = """*filter
### tuple ### allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 in
### tuple ### allow any 11434 0.0.0.0/0 any 10.0.0.0/8 in
### tuple ### allow tcp 8000:12000 ::/0 any 2001:db8::/32 in comment=61
### tuple ### allow any any 0.0.0.0/0 any 0.0.0.0/0 in_docker0
### tuple ### deny tcp 11434 0.0.0.0/0 any 203.0.113.0/24 in
### tuple ### allow udp 11434 0.0.0.0/0 any 198.51.100.0/24 in
### tuple ### allow tcp 11434 0.0.0.0/0 any 198.51.100.0/24 out
"""


def ufw_host(root: Path, rules: str, enabled: str = "yes", policy: str = "DROP") -> HostFiles:
    for path, text in {"etc/ufw/ufw.conf": f"ENABLED={enabled}\n", "etc/ufw/user.rules": rules,
                       "etc/default/ufw": f'DEFAULT_INPUT_POLICY="{policy}"\n', "sys/class/net/docker0/x": "", "sys/class/net/eth0/x": "",
                       "sys/class/net/br-1/x": ""}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return HostFiles(str(root))


def test_tuples_of_ufw() -> None:
    rules = ufw_rules(UFW)
    assert [(rule.ports, rule.source and rule.source.text, rule.interface) for rule in rules] == [
        ("22", None, ""), ("11434", "10.0.0.0/8", ""), ("8000:12000", "2001:db8::/32", ""), ("any", None, "docker0")]
    assert isinstance(rules[0], UfwRule)


def no_firewalld(argv: list[str]) -> Result:
    return Result(NOT_FOUND, "", "")


def test_what_ufw_drops_is_named_with_its_command(tmp_path: Path) -> None:
    found = problems(ufw_host(tmp_path, UFW), no_firewalld, FENCE)
    assert [sentence.partition("there too: ")[2] for sentence in found] == [
        "ufw allow proto tcp from 192.0.2.7 to any port 11434", "ufw allow proto tcp from 192.0.2.0/24 to any port 11434",
        "ufw allow in on br-1 proto tcp to any port 11434"]


@pytest.mark.parametrize(("enabled", "policy"), [("no", "DROP"), ("yes", "ACCEPT")])
def test_ufw_that_drops_nothing_is_no_problem(tmp_path: Path, enabled: str, policy: str) -> None:
    assert problems(ufw_host(tmp_path, "", enabled, policy), no_firewalld, FENCE) == []


def test_what_firewalld_drops_is_named_with_its_command(tmp_path: Path) -> None:
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/firewall-cmd").write_text("")

    def run(argv: list[str]) -> Result:
        return Result(0 if argv[1] == "--state" or "192.0.2." in argv[1] else 1, "", "")

    found = problems(HostFiles(str(tmp_path)), run, FENCE)
    assert len(found) == 2
    assert "10.0.0.1-10.0.0.9" in found[0]
    assert 'source address="10.0.0.8/31"' in found[0], "firewalld knows no ranges"
    assert found[1].endswith("""protocol="tcp" accept' && firewall-cmd --reload""")


PUBLISHED = """table inet forja_open_webui {
	chain prerouting {
		type filter hook prerouting priority mangle; policy accept;
		tcp dport 3000 fib daddr type local jump guard
	}

	chain guard {
		iif "lo" accept
		ip saddr 192.0.2.7 accept
		counter packets 0 bytes 0 drop
	}
}
"""


def test_published_port_is_matched_before_it_is_rewritten() -> None:
    fence = read_fence("open_webui", [3000], [], ["192.0.2.7"], at="published")
    assert kernel_chains(PUBLISHED) == chains(fence)
    assert kernel_chains(PUBLISHED.replace("priority mangle", "priority -150")) == chains(fence)
    assert "chain prerouting {" in render(fence)


def test_loopback_of_an_old_engine_is_closed_to_other_interfaces_only() -> None:
    fence = read_fence("open_webui", [3000], [], [], at="loopback")
    assert chains(fence)[0][1] == "ip daddr 127.0.0.0/8 tcp dport 3000 jump guard"
    assert chains(fence)[1] == ["iif lo accept", "counter drop"]
