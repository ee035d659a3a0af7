//! The files that stand in for a container's `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf`.
use std::{
    fmt::Write,
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use crate::{
    container::record::Record,
    error::{Error, Result},
    task::mounts::EtcFiles,
};

/// Where they are, in `containers/<id>/`.
pub fn files(directory: &Path) -> EtcFiles {
    EtcFiles {
        hosts: directory.join("hosts"),
        hostname: directory.join("hostname"),
        resolv_conf: directory.join("resolv.conf"),
    }
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

pub fn write(record: &Record, files: &EtcFiles) -> Result<()> {
    let put = |path: &PathBuf, text: String| {
        fs::write(path, text).map_err(|error| Error::system(format!("cannot write {}", path.display())).because(error))
    };
    put(&files.hostname, format!("{}\n", record.config.hostname))?;
    put(&files.hosts, hosts(record)?)?;
    put(&files.resolv_conf, resolv_conf(record))
}

fn hosts(record: &Record) -> Result<String> {
    let mut text = match (
        record.host_config.network_mode.as_str(),
        fs::read_to_string("/etc/hosts"),
    ) {
        ("host", Ok(text)) => text,
        _ => "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
              ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
            .to_owned(),
    };
    for entry in record.host_config.extra_hosts.iter().flatten() {
        let (name, address) = extra_host(entry)?;
        writeln!(text, "{address}\t{name}").expect("strings take everything");
    }
    Ok(text)
}

/// `name:address` or `name=address`.
fn extra_host(entry: &str) -> Result<(&str, IpAddr)> {
    let (name, address) = entry
        .split_once(['=', ':'])
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| Error::invalid(format!("bad format for add-host: {entry:?}")))?;
    if address == "host-gateway" {
        return Err(Error::not_implemented("host-gateway in --add-host"));
    }
    let bare = address.trim_start_matches('[').trim_end_matches(']');
    match bare.parse() {
        Ok(address) => Ok((name, address)),
        Err(_) => Err(Error::invalid(format!("invalid IP address in add-host: {address:?}"))),
    }
}

/// The host's, with what the user replaced.
fn resolv_conf(record: &Record) -> String {
    let inherited = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let own = &record.host_config;
    let lists = [
        ("nameserver", own.dns.as_deref().unwrap_or_default(), false),
        ("search", own.dns_search.as_deref().unwrap_or_default(), true),
        ("options", own.dns_options.as_deref().unwrap_or_default(), true),
    ];
    if lists.iter().all(|(_, values, _)| values.is_empty()) {
        return inherited;
    }
    let mut text = String::new();
    for (keyword, values, one_line) in lists {
        if values.is_empty() {
            for line in inherited
                .lines()
                .filter(|line| line.split_whitespace().next() == Some(keyword))
            {
                writeln!(text, "{line}").expect("strings take everything");
            }
        } else if one_line {
            // `--dns-search .` is how a user says: none.
            if values != ["."] {
                writeln!(text, "{keyword} {}", values.join(" ")).expect("strings take everything");
            }
        } else {
            for value in values {
                writeln!(text, "{keyword} {value}").expect("strings take everything");
            }
        }
    }
    text
}

/// As the kernel says it.
pub fn host_name() -> io::Result<String> {
    crate::host::read("/proc/sys/kernel/hostname")
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
