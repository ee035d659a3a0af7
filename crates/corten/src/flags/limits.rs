//! Limits: memory, processors, rlimits, and rates of block devices.
use corten_api::types::container::{HugepageLimit, ThrottleDevice, Ulimit, WeightDevice};

use crate::{arguments::Matches, units};

/// `--cpus`: processors to billionths of one.
pub fn parse_cpus(text: &str) -> Result<i64, String> {
    let refuse = || format!("failed to parse {text} as a rational number");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) {
        return Err(refuse());
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > 9 {
        return Err("value is too precise".to_string());
    }
    format!("{whole}{fraction:0<9}").parse().map_err(|_| refuse())
}

/// A check: a number of processors.
pub fn cpus(text: &str) -> Result<(), String> {
    parse_cpus(text).map(drop)
}

/// `--memory-swap`: a size, or -1 for no limit.
pub fn parse_swap(text: &str) -> Result<i64, String> {
    if text == "-1" { Ok(-1) } else { units::parse_bytes(text) }
}

/// A check: a size or -1.
pub fn swap(text: &str) -> Result<(), String> {
    parse_swap(text).map(drop)
}

pub const HUGEPAGES_HELP: &str = "Limit of huge pages of a size (2MB=64m, -1 for none)";

/// `2MB=64m`.
fn parse_hugepage(text: &str) -> Result<HugepageLimit, String> {
    let (size, limit) = text
        .split_once('=')
        .ok_or_else(|| format!("invalid limit of huge pages: {text}: it is like 2MB=64m"))?;
    Ok(HugepageLimit {
        page_size: size.to_owned(),
        limit: parse_swap(limit)?,
    })
}

/// A check: a size of pages and a limit.
pub fn hugepage(text: &str) -> Result<(), String> {
    parse_hugepage(text).map(drop)
}

/// `--hugepages`, where it is given.
pub fn hugepages(matches: &Matches) -> Result<Option<Vec<HugepageLimit>>, String> {
    let limits = matches.list("hugepages").map(parse_hugepage);
    let limits = limits.collect::<Result<Vec<_>, String>>()?;
    Ok(Some(limits).filter(|limits| !limits.is_empty()))
}

const RLIMITS: &[&str] = &[
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// `name=soft[:hard]`, -1 meaning no limit.
pub fn parse_ulimit(text: &str) -> Result<Ulimit, String> {
    let (name, values) = text
        .split_once('=')
        .ok_or_else(|| format!("invalid ulimit argument: {text}"))?;
    if !RLIMITS.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let number = |text: &str| {
        text.parse::<i64>()
            .map_err(|_| format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))
    };
    let mut parts = values.split(':');
    let soft = number(parts.next().unwrap_or_default())?;
    let hard = parts.next().map(number).transpose()?.unwrap_or(soft);
    if parts.next().is_some() {
        return Err(format!(
            "too many limit value arguments - {values}, can only have up to two, `soft[:hard]`"
        ));
    }
    if hard != -1 && (soft > hard || soft == -1) {
        return Err(format!(
            "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
        ));
    }
    Ok(Ulimit {
        name: name.to_string(),
        hard,
        soft,
    })
}

/// A check: an rlimit.
pub fn ulimit(text: &str) -> Result<(), String> {
    parse_ulimit(text).map(drop)
}

fn device_and_value(text: &str) -> Result<(&str, &str), String> {
    let (path, value) = text.rsplit_once(':').ok_or_else(|| format!("bad format: {text}"))?;
    if !path.starts_with("/dev/") {
        return Err(format!("bad format for device path: {text}"));
    }
    Ok((path, value))
}

/// `/dev/sda:500`: a weight.
pub fn parse_weight(text: &str) -> Result<WeightDevice, String> {
    let (path, weight) = device_and_value(text)?;
    match weight.parse::<u16>() {
        Ok(weight) if weight == 0 || (10..=1000).contains(&weight) => Ok(WeightDevice {
            path: path.to_string(),
            weight,
        }),
        _ => Err(format!("invalid weight for device: {text}")),
    }
}

/// A check: a device's weight.
pub fn weight(text: &str) -> Result<(), String> {
    parse_weight(text).map(drop)
}

/// `/dev/sda:1mb`: bytes per second.
pub fn parse_byte_rate(text: &str) -> Result<ThrottleDevice, String> {
    let (path, rate) = device_and_value(text)?;
    let rate = units::parse_bytes(rate).map_err(|_| {
        format!(
            "invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. \
             Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
        )
    })?;
    Ok(ThrottleDevice {
        path: path.to_string(),
        rate: rate as u64,
    })
}

/// A check: bytes per second of a device.
pub fn byte_rate(text: &str) -> Result<(), String> {
    parse_byte_rate(text).map(drop)
}

/// `/dev/sda:1000`: operations per second.
pub fn parse_operation_rate(text: &str) -> Result<ThrottleDevice, String> {
    let (path, rate) = device_and_value(text)?;
    let rate = rate.parse().map_err(|_| {
        format!(
            "invalid rate for device: {text}. The correct format is <device-path>:<number>. \
             Number must be a positive integer"
        )
    })?;
    Ok(ThrottleDevice {
        path: path.to_string(),
        rate,
    })
}

/// A check: operations per second of a device.
pub fn operation_rate(text: &str) -> Result<(), String> {
    parse_operation_rate(text).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_exact_to_a_billionth() {
        assert_eq!(parse_cpus("1.5"), Ok(1_500_000_000));
        assert_eq!(parse_cpus(".25"), Ok(250_000_000));
        assert_eq!(parse_cpus("2"), Ok(2_000_000_000));
        assert_eq!(parse_cpus("0.000000001"), Ok(1));
        assert_eq!(parse_cpus("1.1234567891"), Err("value is too precise".to_string()));
        assert_eq!(
            parse_cpus("x"),
            Err("failed to parse x as a rational number".to_string())
        );
        assert!(parse_cpus("").is_err() && parse_cpus(".").is_err() && parse_cpus("-1").is_err());
    }

    #[test]
    fn ulimits_have_one_or_two_values() {
        let limit = |hard, soft| Ulimit {
            name: "nofile".to_string(),
            hard,
            soft,
        };
        assert_eq!(parse_ulimit("nofile=1024:2048"), Ok(limit(2048, 1024)));
        assert_eq!(parse_ulimit("nofile=-1"), Ok(limit(-1, -1)));
        assert_eq!(parse_ulimit("nofile=5:-1"), Ok(limit(-1, 5)));
        assert_eq!(parse_ulimit("as=1").unwrap_err(), "invalid ulimit type: as");
        assert_eq!(parse_ulimit("foo").unwrap_err(), "invalid ulimit argument: foo");
        assert_eq!(
            parse_ulimit("nofile=5:3").unwrap_err(),
            "ulimit soft limit must be less than or equal to hard limit: 5 > 3"
        );
    }

    #[test]
    fn rates_name_a_device() {
        assert_eq!(parse_byte_rate("/dev/sda:1mb").unwrap().rate, 1 << 20);
        assert_eq!(parse_operation_rate("/dev/sda:10").unwrap().rate, 10);
        assert_eq!(parse_byte_rate("a:5").unwrap_err(), "bad format for device path: a:5");
        assert_eq!(parse_byte_rate("x").unwrap_err(), "bad format: x");
        assert_eq!(
            parse_weight("/dev/a:5").unwrap_err(),
            "invalid weight for device: /dev/a:5"
        );
    }
}
