//! Foreign firewalls: what about the host keeps our networks from working, and what helps.
//!
//! Every chain that a packet meets has to accept it: what ours accepts, another one may still drop. That is the operator's
//! will as far as we know, so nothing is changed, only said.
use std::io;

use corten_linux::{
    iptables,
    netlink::{
        nft::{
            list::{self, Chain},
            transaction::{Family, Hook},
        },
        socket::{Protocol, Socket},
    },
};

use crate::{firewall::table::Firewall, model::Warning, sysctl};

/// Looks at the calling thread's network namespace.
pub fn warnings(firewall: &Firewall) -> Vec<Warning> {
    let bridges = firewall.bridges();
    if bridges.is_empty() {
        return Vec::new();
    }
    let mut found = Vec::new();
    match obstacles(firewall.table()) {
        Ok(obstacles) => found.extend(obstacles.iter().map(|obstacle| obstacle.sentence(&bridges))),
        Err(error) => tracing::debug!("cannot look at the host's firewalls: {error}"),
    }
    if !found.is_empty() && switch("bridge/bridge-nf-call-iptables") == Some(1) {
        found.push(
            "bridge-nf-call-iptables is 1: these firewalls may drop packets between containers of one network too. Help: \
             sysctl -w net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0"
                .to_owned(),
        );
    }
    found.extend(bridges.iter().filter_map(|bridge| not_forwarding(bridge)));
    found.into_iter().map(Warning).collect()
}

/// Who drops forwarded packets.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Obstacle {
    Ufw,
    Firewalld,
    /// The FORWARD chain of iptables (`true`: ip6tables), by nftables or by itself; and whether it has Docker's chain.
    Iptables {
        ipv6: bool,
        docker: bool,
    },
    /// Any other chain, as `nft` names it.
    Chain(String),
}

impl Obstacle {
    fn sentence(&self, bridges: &[String]) -> String {
        let bridge = &bridges[0];
        match self {
            Obstacle::Ufw => {
                "ufw drops what is forwarded to and from containers. Help: DEFAULT_FORWARD_POLICY=\"ACCEPT\" in \
                              /etc/default/ufw and `ufw reload`, or `ufw route allow` for each network"
                    .to_owned()
            }
            Obstacle::Firewalld => format!(
                "firewalld rejects what is forwarded to and from interfaces that no zone of it trusts. Help: `firewall-cmd \
                 --permanent --zone=trusted --add-interface={bridge}` for each network's bridge, and `firewall-cmd --reload`"
            ),
            Obstacle::Iptables { ipv6, docker } => {
                let command = if *ipv6 { "ip6tables" } else { "iptables" };
                let chain = if *docker { "DOCKER-USER" } else { "FORWARD" };
                format!(
                    "the FORWARD chain of {command} drops what none of its rules accepts. Help: `{command} -I {chain} -i \
                     {bridge} -j ACCEPT` and `{command} -I {chain} -o {bridge} -j ACCEPT` for each network's bridge, or \
                     `{command} -P FORWARD ACCEPT`"
                )
            }
            Obstacle::Chain(name) => format!(
                "the nftables chain {name} drops what none of its rules accepts. Help: let it accept what comes from and \
                 goes to each network's bridge: `iifname {bridge} accept`, `oifname {bridge} accept`"
            ),
        }
    }
}

fn obstacles(table: &str) -> io::Result<Vec<Obstacle>> {
    let mut socket = Socket::open(Protocol::Netfilter)?;
    let chains = list::chains(&mut socket).map_err(io::Error::from)?;
    let mut found = Vec::new();
    for chain in chains.iter().filter(|chain| chain.table != table) {
        found.extend(obstacle(chain, &chains));
    }
    for (family, ipv6) in [(iptables::Family::Ipv4, false), (iptables::Family::Ipv6, true)] {
        match iptables::forward(family) {
            Ok(Some(forward)) if forward.drops => found.push(dropping_iptables(&forward.chains, ipv6)),
            Ok(_) => {}
            Err(error) => tracing::debug!("cannot look at iptables: {error}"),
        }
    }
    // ufw has two families, iptables may be there twice.
    let mut once = Vec::new();
    for obstacle in found {
        if !once.contains(&obstacle) {
            once.push(obstacle);
        }
    }
    Ok(once)
}

fn dropping_iptables<T: AsRef<str>>(chains: &[T], ipv6: bool) -> Obstacle {
    let has = |beginning: &str| chains.iter().any(|chain| chain.as_ref().starts_with(beginning));
    if has("ufw-") || has("ufw6-") {
        return Obstacle::Ufw;
    }
    Obstacle::Iptables {
        ipv6,
        docker: has("DOCKER-USER"),
    }
}

fn obstacle(chain: &Chain, all: &[Chain]) -> Option<Obstacle> {
    let base = chain.base.as_ref()?;
    if base.hook != Hook::Forward as u32 || base.kind != "filter" {
        return None;
    }
    let family = chain.family;
    let seen = [Family::Inet, Family::Ipv4, Family::Ipv6, Family::Bridge];
    if !seen.iter().any(|known| *known as u8 == family) {
        return None;
    }
    let family_name = Family::name_of(family);
    // It drops by its last rule, not by policy.
    if chain.table == "firewalld" {
        return Some(Obstacle::Firewalld);
    }
    if !base.drops {
        return None;
    }
    if (chain.table.as_str(), chain.name.as_str()) == ("filter", "FORWARD") && family_name != "inet" {
        let siblings: Vec<_> = all
            .iter()
            .filter(|other| (other.family, &other.table) == (family, &chain.table))
            .map(|other| other.name.as_str())
            .collect();
        return Some(dropping_iptables(&siblings, family_name == "ip6"));
    }
    Some(Obstacle::Chain(format!("{family_name} {} {}", chain.table, chain.name)))
}

/// A bridge whose packets the kernel does not forward, though we told it to: somebody switched it off again.
fn not_forwarding(bridge: &str) -> Option<String> {
    // Not read by name through /proc/sys where the interface is gone.
    (switch(&format!("ipv4/conf/{bridge}/forwarding"))? == 0).then(|| {
        format!(
            "packets from {bridge} are not forwarded (net.ipv4.conf.{bridge}.forwarding is 0). Help: sysctl -w \
             net.ipv4.ip_forward=1"
        )
    })
}

fn switch(path: &str) -> Option<i64> {
    sysctl::read(path).ok().flatten()
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::*;
    use crate::{
        bridge::{self, BridgeSpec},
        firewall::model::BridgeRules,
        testing::alone,
    };

    fn run(command: &str) {
        let output = Command::new("sh")
            .args(["-c", command])
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .output()
            .expect("a shell");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{command}: {error}");
    }

    /// Newer kernels may be built without the older iptables.
    fn has_legacy() -> bool {
        let loads = "iptables-legacy -L -n && ip6tables-legacy -L -n";
        let has = alone(|| {
            let mut command = Command::new("sh");
            command.args(["-c", loads]).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
            command.output().expect("a shell").status.success()
        });
        if !has {
            eprintln!("skipped: this kernel has no legacy iptables");
        }
        has
    }

    /// The beginnings of all warnings after a command.
    fn after(command: &str) -> Vec<String> {
        alone(|| {
            let subnet = "10.8.0.1/24".parse().expect("a subnet");
            let spec = BridgeSpec {
                name: "br-a",
                owner: "corten-test",
                mtu: None,
                mac: None,
                addresses: &[subnet],
                route_localnet: false,
            };
            bridge::create(&spec).expect("root");
            sysctl::write("ipv4/conf/br-a/forwarding", "1").expect("root");
            sysctl::write_if_there("bridge/bridge-nf-call-iptables", "0").expect("root");
            let firewall = Firewall::open("corten");
            firewall
                .rebuild(&[BridgeRules::new("br-a", vec![subnet.trunc()])], &[])
                .expect("allowed");
            run(command);
            let warnings = warnings(&firewall);
            assert!(
                warnings.iter().all(|warning| warning.0.contains("Help: ")),
                "{warnings:?}"
            );
            let beginning = |warning: Warning| warning.0.split(". Help").next().unwrap_or_default().to_owned();
            warnings.into_iter().map(beginning).collect()
        })
    }

    #[test]
    fn a_host_without_obstacles_has_no_warnings() {
        assert_eq!(after("true"), [""; 0]);
        assert_eq!(
            after("nft add table inet mine; nft 'add chain inet mine f { type filter hook forward priority 0; }'"),
            [""; 0]
        );
        assert_eq!(
            after(
                "nft 'add table inet mine; add chain inet mine i { type filter hook input priority 0; policy drop; }'"
            ),
            [""; 0]
        );
        if has_legacy() {
            assert_eq!(
                after("iptables-legacy -A FORWARD -j ACCEPT; ip6tables-legacy -L >/dev/null"),
                [""; 0]
            );
        }
    }

    #[test]
    fn chains_that_drop_what_is_forwarded_are_named() {
        assert_eq!(
            after(
                "nft 'add table inet mine; add chain inet mine f { type filter hook forward priority 5; policy drop; }'"
            ),
            ["the nftables chain inet mine f drops what none of its rules accepts"]
        );
        let dropping = |command: &str| format!("the FORWARD chain of {command} drops what none of its rules accepts");
        for variant in ["nft", "legacy"] {
            if variant == "legacy" && !has_legacy() {
                continue;
            }
            assert_eq!(
                after(&format!(
                    "iptables-{variant} -P FORWARD DROP; ip6tables-{variant} -P FORWARD DROP"
                )),
                [dropping("iptables"), dropping("ip6tables")]
            );
            assert_eq!(
                after(&format!(
                    "iptables-{variant} -N ufw-before-forward; iptables-{variant} -A FORWARD -j ufw-before-forward; \
                     iptables-{variant} -P FORWARD DROP"
                )),
                ["ufw drops what is forwarded to and from containers"]
            );
        }
        assert_eq!(
            after(
                "nft 'add table inet firewalld; add chain inet firewalld filter_FORWARD { type filter hook forward priority 10; }'"
            ),
            ["firewalld rejects what is forwarded to and from interfaces that no zone of it trusts"]
        );
    }

    #[test]
    fn bridges_that_pass_a_dropping_firewall_or_do_not_forward_are_told() {
        let found = after("iptables -P FORWARD DROP; echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables");
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[1].starts_with("bridge-nf-call-iptables is 1"));
        assert_eq!(
            after("echo 0 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/net/ipv4/conf/br-a/forwarding"),
            ["packets from br-a are not forwarded (net.ipv4.conf.br-a.forwarding is 0)"]
        );
    }

    #[test]
    fn looking_does_not_load_what_is_not_there() {
        let names = || fs::read_to_string("/proc/thread-self/net/ip_tables_names").unwrap_or_default();
        alone(|| {
            assert_eq!(iptables::forward(iptables::Family::Ipv4).expect("root"), None);
            assert_eq!(names(), "");
        });
    }
}
