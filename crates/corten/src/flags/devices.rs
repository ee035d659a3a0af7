//! `--device`, `--device-cgroup-rule` and `--gpus`.
use std::collections::BTreeMap;

use corten_api::types::container::{DeviceMapping, DeviceRequest};

use crate::flags::csv;

/// A device by path, or by a name of the Container Device Interface (`vendor.com/class=name`).
#[derive(Debug, PartialEq)]
pub enum Device {
    Path(DeviceMapping),
    Interface(String),
}

/// `host[:container[:permissions]]`.
pub fn parse_device(text: &str) -> Result<Device, String> {
    let qualified = text
        .split_once('=')
        .is_some_and(|(kind, name)| kind.contains('/') && !name.is_empty());
    if qualified && !text.starts_with('/') {
        return Ok(Device::Interface(text.to_string()));
    }
    let parts: Vec<&str> = text.split(':').collect();
    let is_mode = |text: &str| !text.is_empty() && text.bytes().all(|byte| b"rwm".contains(&byte));
    let (host, container, mode) = match parts.as_slice() {
        [host] => (*host, *host, "rwm"),
        [host, mode] if is_mode(mode) => (*host, *host, *mode),
        [host, container] => (*host, *container, "rwm"),
        [_, _, mode] if !is_mode(mode) => return Err(format!("bad mode specified: {mode}")),
        [host, container, mode] => (*host, *container, *mode),
        _ => return Err(format!("bad format for path: {text}")),
    };
    for path in [host, container] {
        if !path.starts_with('/') {
            return Err(format!("{path} is not an absolute path"));
        }
    }
    Ok(Device::Path(DeviceMapping {
        path_on_host: host.to_string(),
        path_in_container: container.to_string(),
        cgroup_permissions: mode.to_string(),
    }))
}

/// A check: `c 1:3 rwm`.
pub fn cgroup_rule(text: &str) -> Result<(), String> {
    let number = |text: &str| text == "*" || (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    let mut words = text.split(' ');
    let good = words.next().is_some_and(|kind| ["a", "b", "c"].contains(&kind))
        && words
            .next()
            .and_then(|ids| ids.split_once(':'))
            .is_some_and(|(a, b)| number(a) && number(b))
        && words
            .next()
            .is_some_and(|mode| (1..=3).contains(&mode.len()) && mode.bytes().all(|b| b"rwm".contains(&b)))
        && words.next().is_none();
    if good {
        Ok(())
    } else {
        Err(format!("invalid device cgroup format '{text}'"))
    }
}

/// A request for GPUs: `all`, a number, or `driver=…,count=…,device=…,capabilities=…,options=…`.
pub fn parse_gpus(text: &str) -> Result<DeviceRequest, String> {
    let mut driver = String::new();
    let mut count = None;
    let mut devices: Option<Vec<String>> = None;
    let mut capabilities = vec!["gpu".to_string()];
    let mut options = BTreeMap::new();
    for field in csv::fields(text)? {
        let Some((key, value)) = field.split_once('=') else {
            count = Some(gpu_count(&field)?);
            continue;
        };
        let words = || csv::fields(value);
        match key {
            "driver" => driver = value.to_string(),
            "count" => count = Some(gpu_count(value)?),
            "device" => devices = Some(words()?),
            "capabilities" => {
                capabilities = words()?;
                capabilities.push("gpu".to_string());
            }
            "options" => options = crate::flags::environment::map(words()?.iter().map(String::as_str)),
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
    }
    let count = count.unwrap_or(if devices.is_some() { 0 } else { 1 });
    Ok(DeviceRequest {
        driver,
        count,
        device_ids: devices,
        capabilities: Some(vec![capabilities]),
        options: Some(options),
    })
}

fn gpu_count(text: &str) -> Result<i64, String> {
    if text == "all" {
        return Ok(-1);
    }
    let refuse = |_| format!("invalid count ({text}): value must be either \"all\" or an integer: invalid syntax");
    text.parse().map_err(refuse)
}

/// A check: a request for GPUs.
pub fn gpus(text: &str) -> Result<(), String> {
    parse_gpus(text).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(host: &str, container: &str, mode: &str) -> Result<Device, String> {
        Ok(Device::Path(DeviceMapping {
            path_on_host: host.to_string(),
            path_in_container: container.to_string(),
            cgroup_permissions: mode.to_string(),
        }))
    }

    #[test]
    fn a_device_has_up_to_three_parts() {
        assert_eq!(parse_device("/dev/fuse"), device("/dev/fuse", "/dev/fuse", "rwm"));
        assert_eq!(parse_device("/dev/a:/dev/b"), device("/dev/a", "/dev/b", "rwm"));
        assert_eq!(parse_device("/dev/a:/dev/b:r"), device("/dev/a", "/dev/b", "r"));
        assert_eq!(parse_device("/dev/c:rw"), device("/dev/c", "/dev/c", "rw"));
        assert_eq!(
            parse_device("v.com/c=n"),
            Ok(Device::Interface("v.com/c=n".to_string()))
        );
        assert_eq!(parse_device("/a:b:c:d").unwrap_err(), "bad format for path: /a:b:c:d");
        assert_eq!(parse_device("/a:/b:x").unwrap_err(), "bad mode specified: x");
        assert_eq!(parse_device("y").unwrap_err(), "y is not an absolute path");
    }

    #[test]
    fn cgroup_rules_have_the_kernels_form() {
        for good in ["c 1:3 rwm", "b *:* r", "a *:* rwm"] {
            assert_eq!(cgroup_rule(good), Ok(()));
        }
        for bad in ["x", "c 1 r", "c 1:3", "c 1:3 x", "c 1:3 r more"] {
            assert!(cgroup_rule(bad).is_err(), "{bad}");
        }
    }
}
