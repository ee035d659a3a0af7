//! Addresses and pools as flags and `daemon.json` spell them.
use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::{
    error::{ConfigError, invalid as value},
    network_file::FilePool,
};

pub fn addresses(name: &'static str, texts: &[String]) -> Result<Vec<IpAddr>, ConfigError> {
    let address = |text: &String| {
        let refused = |_| value(name, format!("{text} is not an ip address"));
        text.trim().parse().map_err(refused)
    };
    texts.iter().map(address).collect()
}

pub fn host_gateways(texts: &[String]) -> Result<Vec<IpAddr>, ConfigError> {
    let found = addresses("host-gateway-ip", texts)?;
    for (family, is) in [
        ("IPv4", IpAddr::is_ipv4 as fn(&IpAddr) -> bool),
        ("IPv6", IpAddr::is_ipv6),
    ] {
        if found.iter().filter(|address| is(address)).count() > 1 {
            return Err(value(
                "host-gateway-ip",
                format!("only one {family} host gateway IP address can be specified"),
            ));
        }
    }
    Ok(found)
}

pub fn pools(flags: &[String], file: &[FilePool]) -> Result<Vec<(IpNet, u8)>, ConfigError> {
    const NAME: &str = "default-address-pool";
    let mut wanted = file.to_vec();
    for text in flags {
        let mut pool = FilePool::default();
        for field in text.split(',') {
            let (key, field_value) = field
                .split_once('=')
                .ok_or_else(|| value(NAME, format!("invalid field '{field}' must be a key=value pair")))?;
            match key.trim().to_lowercase().as_str() {
                "base" => field_value.trim().clone_into(&mut pool.base),
                "size" => {
                    let number = field_value.trim().parse();
                    pool.size = number.map_err(|_| value(NAME, format!("invalid size value: {field_value}")))?;
                }
                other => return Err(value(NAME, format!("unexpected key '{other}' in '{field}'"))),
            }
        }
        wanted.push(pool);
    }
    let checked = wanted.into_iter().map(|pool| {
        let base: IpNet = pool
            .base
            .parse()
            .map_err(|_| value(NAME, format!("invalid base pool \"{}\"", pool.base)))?;
        let size = u8::try_from(pool.size)
            .ok()
            .filter(|size| *size <= base.max_prefix_len());
        match size {
            Some(size) if size >= base.prefix_len() => Ok((base.trunc(), size)),
            _ => Err(value(
                NAME,
                format!(
                    "{} cannot be divided into subnets of size {} (from {} to {})",
                    base,
                    pool.size,
                    base.prefix_len(),
                    base.max_prefix_len()
                ),
            )),
        }
    });
    checked.collect()
}
