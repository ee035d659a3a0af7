//! The files that stand in for a container's `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf`.
//!
//! They are bind-mounted one by one, so they are changed in place, never replaced; and what a user wrote into them inside
//! a running container stays.
use std::{
    fs::{self, File},
    io::{self, Write},
    net::IpAddr,
    path::{Path, PathBuf},
};

use corten_network::{
    dns::resolv_conf::{ResolvConf, needs_resolver},
    model::Attachment,
};

use crate::{
    config::NetworkConfig,
    container::record::Record,
    error::{Error, Result},
    task::mounts::EtcFiles,
};

const HOST_GATEWAY: &str = "host-gateway";
/// Without the host's IPv6 there is no container's.
const IPV6: &str = "/proc/sys/net/ipv6";

/// Where they are, in `containers/<id>/`.
pub fn files(directory: &Path) -> EtcFiles {
    EtcFiles {
        hosts: directory.join("hosts"),
        hostname: directory.join("hostname"),
        resolv_conf: directory.join("resolv.conf"),
    }
}

/// What the files are made of.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    pub record: &'a Record,
    pub config: &'a NetworkConfig,
    /// Empty before the first start, and of containers without networks of their own.
    pub attachment: &'a Attachment,
    /// Of the default bridge, for `host-gateway`; lines that need it are left out while it is not known.
    pub gateways: Option<&'a [IpAddr]>,
    /// `--link` on the default bridge, of targets that run.
    pub links: &'a [LinkTarget],
}

/// Another container, by the names that this one has for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkTarget {
    pub alias: String,
    pub hostname: String,
    pub name: String,
    /// On the default bridge.
    pub addresses: Vec<IpAddr>,
}

/// Checks what [`write`] will need: `--add-host`, `--dns`.
pub fn check(record: &Record) -> Result<()> {
    for entry in record.host_config.extra_hosts.iter().flatten() {
        extra_host(entry)?;
    }
    for server in record.host_config.dns.iter().flatten() {
        if server.parse::<IpAddr>().is_err() {
            return Err(Error::invalid(format!("invalid IP address in dns: {server}")));
        }
    }
    Ok(())
}

/// Writes all three, as they should be at a start.
pub fn write(facts: &Facts, files: &EtcFiles) -> Result<()> {
    put(&files.hostname, &format!("{}\n", full_name(facts.record)))?;
    put(&files.hosts, &hosts(facts)?)?;
    write_resolv_conf(facts, files)
}

/// Brings the files of a running container up to date: it joined or left a network, or a link's target has moved. Only
/// lines that were ours are changed in `hosts`, and `resolv.conf` only when it is as we left it.
pub fn update(before: &Facts, after: &Facts, files: &EtcFiles) -> Result<()> {
    let (old, new) = (moving_lines(before), moving_lines(after));
    if old != new {
        let text = read(&files.hosts)?;
        put(&files.hosts, &replaced(&text, &old, &new))?;
    }
    if read(&files.resolv_conf)? == read(&written(files))? {
        write_resolv_conf(after, files)?;
    }
    Ok(())
}

/// Beside it a copy of what we wrote, so that a user's change is seen.
fn write_resolv_conf(facts: &Facts, files: &EtcFiles) -> Result<()> {
    let text = resolv_conf(facts);
    put(&written(files), &text)?;
    put(&files.resolv_conf, &text)
}

fn written(files: &EtcFiles) -> PathBuf {
    files.resolv_conf.with_extension("conf.written")
}

fn read(path: &Path) -> Result<String> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(Error::system(format!("cannot read {}", path.display())).because(error)),
    }
}

/// Overwrites in place, and cuts only afterwards: programs inside read it at any time, and never find it empty.
fn put(path: &Path, text: &str) -> Result<()> {
    let overwrite = || {
        let mut file = File::options().write(true).create(true).truncate(false).open(path)?;
        file.write_all(text.as_bytes())?;
        file.set_len(text.len() as u64)
    };
    overwrite().map_err(|error| Error::system(format!("cannot write {}", path.display())).because(error))
}

fn full_name(record: &Record) -> String {
    match record.config.domainname.as_str() {
        "" => record.config.hostname.clone(),
        domain => format!("{}.{domain}", record.config.hostname),
    }
}

fn hosts(facts: &Facts) -> Result<String> {
    let record = facts.record;
    let extra = record.host_config.extra_hosts.as_deref().unwrap_or_default();
    if record.host_config.network_mode == "host"
        && extra.is_empty()
        && let Ok(text) = fs::read_to_string("/etc/hosts")
    {
        return Ok(text);
    }
    let mut lines = vec!["127.0.0.1\tlocalhost".to_owned()];
    if ipv6_enabled(record) {
        lines.extend(
            [
                "::1\tlocalhost ip6-localhost ip6-loopback",
                "fe00::\tip6-localnet",
                "ff00::\tip6-mcastprefix",
                "ff02::1\tip6-allnodes",
                "ff02::2\tip6-allrouters",
            ]
            .map(str::to_owned),
        );
    }
    for entry in extra {
        match extra_host(entry)? {
            (name, Some(address)) => lines.push(format!("{address}\t{name}")),
            (name, None) => lines.extend(host_gateways(facts)?.iter().map(|address| format!("{address}\t{name}"))),
        }
    }
    lines.extend(moving_lines(facts));
    Ok(lines.join("\n") + "\n")
}

/// The kernel has it, and the user did not turn it off.
fn ipv6_enabled(record: &Record) -> bool {
    let off = |name: &str| {
        let sysctls = record.host_config.sysctls.as_ref();
        sysctls
            .and_then(|sysctls| sysctls.get(name))
            .is_some_and(|value| value.trim() == "1")
    };
    Path::new(IPV6).exists() && !off("net.ipv6.conf.all.disable_ipv6") && !off("net.ipv6.conf.lo.disable_ipv6")
}

/// What `host-gateway` means; empty while it is not known.
fn host_gateways<'a>(facts: &Facts<'a>) -> Result<&'a [IpAddr]> {
    match (facts.config.host_gateway_ips.as_slice(), facts.gateways) {
        ([], None) => Ok(&[]),
        ([], Some([])) => Err(Error::invalid("unable to derive the IP value for host-gateway")),
        ([], Some(gateways)) => Ok(gateways),
        (configured, _) => Ok(configured),
    }
}

/// The lines that may change while it runs: link targets, then its own addresses.
fn moving_lines(facts: &Facts) -> Vec<String> {
    let ipv6 = ipv6_enabled(facts.record);
    let usable = |address: &IpAddr| address.is_ipv4() || ipv6;
    let mut lines = Vec::new();
    for link in facts.links {
        let mut names = format!("{} {}", link.alias, link.hostname);
        if link.alias != link.name {
            names = format!("{names} {}", link.name);
        }
        let addresses = link.addresses.iter().filter(|address| usable(address));
        lines.extend(addresses.map(|address| format!("{address}\t{names}")));
    }
    let full = full_name(facts.record);
    let names = match full.split_once('.') {
        Some((short, _)) => format!("{full} {short}"),
        None => full,
    };
    for endpoint in &facts.attachment.endpoints {
        let ipv4 = endpoint.ipv4.map(|net| IpAddr::V4(net.addr()));
        let ipv6 = endpoint.ipv6.map(|net| IpAddr::V6(net.addr()));
        let addresses = ipv4.into_iter().chain(ipv6).filter(usable);
        lines.extend(addresses.map(|address| format!("{address}\t{names}")));
    }
    lines
}

/// A text without lines of `old` that are not in `new`, and with what is new at its end.
fn replaced(text: &str, old: &[String], new: &[String]) -> String {
    let is = |lines: &[String], line: &str| lines.iter().any(|known| known == line);
    let mut lines: Vec<&str> = text.lines().filter(|line| is(new, line) || !is(old, line)).collect();
    for line in new {
        if !lines.contains(&line.as_str()) {
            lines.push(line);
        }
    }
    lines.join("\n") + "\n"
}

/// `name:address` or `name=address`; no address where the host's gateway is meant.
fn extra_host(entry: &str) -> Result<(&str, Option<IpAddr>)> {
    let (name, address) = entry
        .split_once(['=', ':'])
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| Error::invalid(format!("bad format for add-host: {entry:?}")))?;
    if address == HOST_GATEWAY {
        return Ok((name, None));
    }
    let bare = address.trim_start_matches('[').trim_end_matches(']');
    match bare.parse() {
        Ok(address) => Ok((name, Some(address))),
        Err(_) => Err(Error::invalid(format!("invalid IP address in add-host: {address:?}"))),
    }
}

/// The servers that a container names, or the operator for it.
pub fn dns_servers(record: &Record, config: &NetworkConfig) -> Vec<IpAddr> {
    let own = record.host_config.dns.iter().flatten();
    let own: Vec<IpAddr> = own.filter_map(|server| server.parse().ok()).collect();
    if own.is_empty() {
        config.controller.dns.clone()
    } else {
        own
    }
}

/// The host's, with what the user or the operator replaced, made to work inside.
fn resolv_conf(facts: &Facts) -> String {
    let own = &facts.record.host_config;
    let host = ResolvConf::load(&facts.config.controller.resolv_conf);
    let mut conf = host.clone();
    let servers = dns_servers(facts.record, facts.config);
    if !servers.is_empty() {
        conf.servers = servers.iter().map(IpAddr::to_string).collect();
    }
    let chosen = |own: &Option<Vec<String>>, operators: &[String]| match own.as_deref().unwrap_or_default() {
        [] => operators.to_vec(),
        own => own.to_vec(),
    };
    let mut search = chosen(&own.dns_search, &facts.config.dns_search);
    if !search.is_empty() {
        // `--dns-search .` is how a user says: none.
        search.retain(|domain| domain != ".");
        conf.search = search;
    }
    let options = chosen(&own.dns_options, &facts.config.dns_options);
    if !options.is_empty() {
        conf.options = options;
    }
    let endpoints = &facts.attachment.endpoints;
    if needs_resolver(endpoints, &servers, &host) {
        conf.use_resolver();
    } else if !endpoints.is_empty() && servers.is_empty() {
        conf.retain_reachable(endpoints.iter().any(|endpoint| endpoint.ipv6.is_some()));
    }
    conf.to_string()
}

/// As the kernel says it.
pub fn host_name() -> io::Result<String> {
    crate::host::read("/proc/sys/kernel/hostname")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use corten_api::types::container::{ContainerConfig, HostConfig, NetworkingConfig};
    use corten_network::model::Endpoint;
    use tempfile::TempDir;

    use super::*;

    struct World {
        directory: TempDir,
        files: EtcFiles,
        config: NetworkConfig,
        record: Record,
    }

    impl World {
        fn new(host: &str) -> World {
            let directory = tempfile::tempdir().expect("a directory");
            let mut config = NetworkConfig::default();
            config.controller.resolv_conf = directory.path().join("host");
            fs::write(&config.controller.resolv_conf, host).expect("written");
            World {
                files: files(directory.path()),
                directory,
                config,
                record: record(),
            }
        }

        fn facts<'a>(&'a self, attachment: &'a Attachment) -> Facts<'a> {
            Facts {
                record: &self.record,
                config: &self.config,
                attachment,
                gateways: Some(&[]),
                links: &[],
            }
        }

        fn write(&self, attachment: &Attachment) {
            write(&self.facts(attachment), &self.files).expect("written");
        }

        fn resolv_conf(&self) -> String {
            fs::read_to_string(&self.files.resolv_conf).expect("there")
        }

        fn hosts(&self) -> String {
            fs::read_to_string(&self.files.hosts).expect("there")
        }
    }

    fn record() -> Record {
        Record {
            id: "1".repeat(64),
            name: "web".to_owned(),
            created: jiff::Timestamp::UNIX_EPOCH,
            image_id: String::new(),
            platform: "linux".to_owned(),
            config: ContainerConfig {
                hostname: "box".to_owned(),
                ..ContainerConfig::default()
            },
            host_config: HostConfig::default(),
            networking: NetworkingConfig::default(),
            mounts: Vec::new(),
            layers: Vec::new(),
            annotations: Default::default(),
            links: Vec::new(),
        }
    }

    fn attachment(endpoints: &[(&str, &str, Option<&str>)]) -> Attachment {
        let endpoint = |&(network, ipv4, ipv6): &(&str, &str, Option<&str>)| Endpoint {
            id: network.to_owned(),
            network: network.to_owned(),
            network_name: network.to_owned(),
            interface: String::new(),
            host_interface: String::new(),
            mac: None,
            ipv4: Some(ipv4.parse().expect("an address")),
            ipv6: ipv6.map(|net| net.parse().expect("an address")),
            link_local: Vec::new(),
            gateway4: None,
            gateway6: None,
            names: Vec::new(),
            links: Vec::new(),
            options: Default::default(),
            gateway_priority: 0,
        };
        Attachment {
            endpoints: endpoints.iter().map(endpoint).collect(),
            ..Attachment::default()
        }
    }

    #[test]
    fn extra_hosts_take_both_separators_and_ipv6() {
        for entry in ["db:10.0.0.1", "db=10.0.0.1", "db:[::1]", "db:::1"] {
            assert_eq!(extra_host(entry).expect(entry).0, "db");
        }
        assert_eq!(
            extra_host("nonsense").expect_err("refused").to_string(),
            "bad format for add-host: \"nonsense\""
        );
        assert!(extra_host("db:nowhere").is_err());
    }

    #[test]
    fn hosts_has_the_standard_lines_then_extra_hosts_links_and_own_addresses() {
        let mut world = World::new("");
        world.record.config.domainname = "example.com".to_owned();
        world.record.host_config.sysctls = Some([("net.ipv6.conf.all.disable_ipv6".to_owned(), "1".to_owned())].into());
        world.record.host_config.extra_hosts = Some(vec!["db:10.0.0.1".to_owned(), "up:host-gateway".to_owned()]);
        let attached = attachment(&[
            ("bridge", "172.17.0.3/16", Some("fd00::3/64")),
            ("b", "172.18.0.2/16", None),
        ]);
        let links = ["other", "same"].map(|alias| LinkTarget {
            alias: alias.to_owned(),
            hostname: "0123456789ab".to_owned(),
            name: "same".to_owned(),
            addresses: vec!["172.17.0.2".parse().expect("valid")],
        });
        let facts = Facts {
            gateways: Some(&["172.17.0.1".parse().expect("valid")]),
            links: &links,
            ..world.facts(&attached)
        };
        write(&facts, &world.files).expect("written");
        assert_eq!(
            world.hosts(),
            "127.0.0.1\tlocalhost\n10.0.0.1\tdb\n172.17.0.1\tup\n172.17.0.2\tother 0123456789ab same\n\
             172.17.0.2\tsame 0123456789ab\n172.17.0.3\tbox.example.com box\n172.18.0.2\tbox.example.com box\n"
        );
        let hostname = fs::read_to_string(&world.files.hostname).expect("there");
        assert_eq!(hostname, "box.example.com\n");
        let nowhere = write(&world.facts(&attached), &world.files).expect_err("no gateway");
        assert_eq!(nowhere.to_string(), "unable to derive the IP value for host-gateway");
    }

    #[test]
    fn resolv_conf_is_made_for_where_the_container_is() {
        let host = "nameserver 127.0.0.53\nnameserver 10.0.0.1\nnameserver fd00::53\nsearch a b\noptions edns0\n";
        let world = World::new(host);
        let on_bridge = attachment(&[("bridge", "172.17.0.3/16", None)]);
        let on_both = attachment(&[("bridge", "172.17.0.3/16", None), ("b", "172.18.0.3/16", None)]);
        let on_ipv6 = attachment(&[("bridge", "172.17.0.3/16", Some("fd00::3/64"))]);
        for (attachment, expected) in [
            (&Attachment::default(), host),
            (&on_bridge, "nameserver 10.0.0.1\nsearch a b\noptions edns0\n"),
            (
                &on_ipv6,
                "nameserver 10.0.0.1\nnameserver fd00::53\nsearch a b\noptions edns0\n",
            ),
            (&on_both, "nameserver 127.0.0.11\nsearch a b\noptions edns0 ndots:0\n"),
        ] {
            world.write(attachment);
            assert_eq!(world.resolv_conf(), expected);
        }
        let world = World::new("nameserver 127.0.0.53\n");
        world.write(&on_bridge);
        assert_eq!(world.resolv_conf(), "nameserver 127.0.0.11\noptions ndots:0\n");
    }

    #[test]
    fn the_containers_word_on_names_comes_before_the_operators_and_the_hosts() {
        let mut world = World::new("nameserver 10.0.0.1\nsearch host\noptions edns0\n");
        let attached = attachment(&[("bridge", "172.17.0.3/16", None)]);
        world.config.controller.dns = vec!["10.0.0.2".parse().expect("valid")];
        world.config.dns_search = vec!["operator".to_owned()];
        world.config.dns_options = vec!["rotate".to_owned()];
        world.write(&attached);
        assert_eq!(
            world.resolv_conf(),
            "nameserver 10.0.0.2\nsearch operator\noptions rotate\n"
        );
        let own = &mut world.record.host_config;
        own.dns = Some(vec!["127.0.0.1".to_owned()]);
        own.dns_search = Some(vec![".".to_owned()]);
        own.dns_options = Some(vec!["ndots:2".to_owned()]);
        world.write(&attached);
        assert_eq!(world.resolv_conf(), "nameserver 127.0.0.1\noptions ndots:2\n");
        world.write(&attachment(&[("b", "172.18.0.3/16", None)]));
        assert_eq!(world.resolv_conf(), "nameserver 127.0.0.11\noptions ndots:2\n");
    }

    #[test]
    fn an_update_changes_the_same_files_and_keeps_what_the_user_wrote() {
        let world = World::new("nameserver 10.0.0.1\n");
        let before = attachment(&[("bridge", "172.17.0.3/16", None)]);
        let after = attachment(&[("bridge", "172.17.0.3/16", None), ("b", "172.18.0.3/16", None)]);
        world.write(&before);
        let inodes =
            || [&world.files.hosts, &world.files.resolv_conf].map(|path| fs::metadata(path).expect("there").ino());
        let first = inodes();
        fs::write(&world.files.hosts, world.hosts() + "10.9.9.9\tmine\n").expect("written");
        update(&world.facts(&before), &world.facts(&after), &world.files).expect("updated");
        assert!(
            world
                .hosts()
                .ends_with("172.17.0.3\tbox\n10.9.9.9\tmine\n172.18.0.3\tbox\n"),
            "{}",
            world.hosts()
        );
        assert_eq!(world.resolv_conf(), "nameserver 127.0.0.11\noptions ndots:0\n");
        update(&world.facts(&after), &world.facts(&before), &world.files).expect("updated");
        assert!(world.hosts().ends_with("172.17.0.3\tbox\n10.9.9.9\tmine\n"));
        assert_eq!(world.resolv_conf(), "nameserver 10.0.0.1\n");
        fs::write(&world.files.resolv_conf, "nameserver 10.7.7.7\n").expect("written");
        update(&world.facts(&before), &world.facts(&after), &world.files).expect("updated");
        assert_eq!(world.resolv_conf(), "nameserver 10.7.7.7\n");
        assert_eq!(inodes(), first);
        assert!(world.directory.path().join("resolv.conf.written").exists());
    }
}
