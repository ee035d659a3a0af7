//! Driver `syslog`: RFC 3164 and RFC 5424, over what syslog servers listen on.
use std::{collections::BTreeMap, fmt::Write, fs, path::PathBuf, process};

use jiff::{Timestamp, tz::TimeZone};

use crate::{
    error::{Error, Result},
    log::{
        facts::Facts,
        remote::{
            address::{self, Address, with_port},
            message::{Batch, Encoder, Message, host_name},
        },
    },
};

pub const OPTIONS: [&str; 7] = [
    "syslog-address",
    "syslog-facility",
    "syslog-format",
    "syslog-tls-ca-cert",
    "syslog-tls-cert",
    "syslog-tls-key",
    "syslog-tls-skip-verify",
];

const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "", "", "",
    "", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];
const DAEMON: u8 = 3;
const ERROR: u8 = 3;
const INFORMATION: u8 = 6;

/// Where the host's own syslog listens.
const LOCAL: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// RFC 3164 without the host's name, as local daemons are written to.
    Local,
    Rfc3164,
    Rfc5424,
    Rfc5424Micro,
}

pub fn check(options: &BTreeMap<String, String>) -> Result<()> {
    let option = |key: &str| options.get(key).map_or("", String::as_str);
    address(option("syslog-address"))?;
    facility(option("syslog-facility"))?;
    form(option("syslog-format"))?;
    Ok(())
}

/// Absent when the host's own is meant.
fn address(text: &str) -> Result<Option<Address>> {
    if text.is_empty() {
        return Ok(None);
    }
    let (scheme, place) = address::split(text).unwrap_or(("", text));
    if matches!(scheme, "unix" | "unixgram") {
        fs::metadata(place).map_err(|error| Error::invalid(format!("stat {place}: {}", address::reason(&error))))?;
        let path = PathBuf::from(place);
        return Ok(Some(match scheme {
            "unix" => Address::Unix(path),
            _ => Address::UnixDatagram(path),
        }));
    }
    let make = match scheme {
        "udp" => Address::Udp,
        "tcp" => Address::Tcp,
        "tcp+tls" => Address::Tls,
        _ => return Err(Error::invalid(format!("unsupported scheme: '{scheme}'"))),
    };
    Ok(Some(make(with_port(place, "514").map_err(Error::invalid)?)))
}

fn facility(text: &str) -> Result<u8> {
    if text.is_empty() {
        return Ok(DAEMON);
    }
    let named = FACILITIES.iter().position(|name| *name == text);
    let number = named.or_else(|| text.parse::<usize>().ok().filter(|number| *number < FACILITIES.len()));
    let number = number.and_then(|number| u8::try_from(number).ok());
    number.ok_or_else(|| Error::invalid("invalid syslog facility"))
}

fn form(text: &str) -> Result<Form> {
    match text {
        "" => Ok(Form::Local),
        "rfc3164" => Ok(Form::Rfc3164),
        "rfc5424" => Ok(Form::Rfc5424),
        "rfc5424micro" => Ok(Form::Rfc5424Micro),
        _ => Err(Error::invalid("invalid syslog format")),
    }
}

/// Where to send, in the order to try it.
pub fn addresses(options: &BTreeMap<String, String>) -> Result<Vec<Address>> {
    match address(options.get("syslog-address").map_or("", String::as_str))? {
        Some(address @ Address::Unix(_)) => {
            // A socket of this name is of either kind.
            let path = PathBuf::from(address.place());
            Ok(vec![address, Address::UnixDatagram(path)])
        }
        Some(address) => Ok(vec![address]),
        None => Ok(LOCAL
            .iter()
            .flat_map(|path| [Address::UnixDatagram(path.into()), Address::Unix(path.into())])
            .collect()),
    }
}

pub struct Syslog {
    facility: u8,
    form: Form,
    /// RFC 5425: the length before each message.
    framed: bool,
    tag: String,
    host: String,
    process: u32,
    zone: TimeZone,
}

impl Syslog {
    pub fn new(facts: &Facts) -> Result<Syslog> {
        let option = |key: &str| facts.options.get(key).map_or("", String::as_str);
        let form = form(option("syslog-format"))?;
        let tls = option("syslog-address").starts_with("tcp+tls:");
        Ok(Syslog {
            facility: facility(option("syslog-facility"))?,
            form,
            framed: tls && matches!(form, Form::Rfc5424 | Form::Rfc5424Micro),
            tag: facts.tag(),
            host: host_name(),
            process: process::id(),
            zone: TimeZone::system(),
        })
    }

    fn head(&self, message: &Message) -> String {
        let severity = if message.stderr { ERROR } else { INFORMATION };
        let priority = self.facility << 3 | severity;
        let Syslog { tag, host, process, .. } = self;
        let time = Timestamp::from_nanosecond(i128::from(message.nanoseconds)).unwrap_or_default();
        let time = time.to_zoned_datetime(self.zone.clone());
        let stamp = |format: &str| time.strftime(format).to_string();
        let rfc5424 = |format: &str| {
            let stamp = stamp(format);
            // `Z`, and not `+00:00`, as Go prints it.
            let stamp = stamp
                .strip_suffix("+00:00")
                .map_or(stamp.clone(), |stamp| format!("{stamp}Z"));
            format!("<{priority}>1 {stamp} {host} {tag} {process} {tag} - ")
        };
        let mut head = String::new();
        match self.form {
            Form::Local => write!(head, "<{priority}>{} {tag}[{process}]: ", stamp("%b %e %H:%M:%S")),
            Form::Rfc3164 => write!(
                head,
                "<{priority}>{} {host} {tag}[{process}]: ",
                stamp("%b %e %H:%M:%S")
            ),
            Form::Rfc5424 => write!(head, "{}", rfc5424("%Y-%m-%dT%H:%M:%S%:z")),
            Form::Rfc5424Micro => write!(head, "{}", rfc5424("%Y-%m-%dT%H:%M:%S.%6f%:z")),
        }
        .expect("strings take everything");
        head
    }
}

impl Encoder for Syslog {
    fn encode(&mut self, message: &Message, batch: &mut Batch) {
        if message.text.is_empty() {
            return;
        }
        let head = self.head(message);
        if self.framed {
            let length = head.len() + message.text.len() + 1;
            batch.bytes.extend_from_slice(format!("{length} ").as_bytes());
        }
        batch.bytes.extend_from_slice(head.as_bytes());
        batch.bytes.extend_from_slice(message.text);
        batch.bytes.push(b'\n');
        batch.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::facts;

    fn encoded(options: &[(&str, &str)]) -> String {
        let mut facts = facts::example();
        for (key, value) in options {
            facts.options.insert((*key).to_owned(), (*value).to_owned());
        }
        let mut syslog = Syslog::new(&facts).expect("valid");
        (syslog.host, syslog.process, syslog.zone) = ("host".to_owned(), 7, TimeZone::UTC);
        let mut batch = Batch::default();
        for (text, stderr) in [("hello", false), ("", false), ("oh", true)] {
            let message = Message {
                text: text.as_bytes(),
                stderr,
                nanoseconds: 1_767_323_045_006_000_000,
                piece: None,
            };
            syslog.encode(&message, &mut batch);
        }
        assert_eq!(batch.ends.len(), 2, "empty lines are not sent");
        String::from_utf8(batch.bytes).expect("text")
    }

    #[test]
    fn each_format_is_dockers() {
        for (options, wanted) in [
            (
                &[][..],
                "<30>Jan  2 03:04:05 0123456789ab[7]: hello\n<27>Jan  2 03:04:05 0123456789ab[7]: oh\n",
            ),
            (
                &[
                    ("syslog-format", "rfc3164"),
                    ("tag", "{{.Name}}"),
                    ("syslog-facility", "local7"),
                ],
                "<190>Jan  2 03:04:05 host web[7]: hello\n<187>Jan  2 03:04:05 host web[7]: oh\n",
            ),
            (
                &[("syslog-format", "rfc5424"), ("tag", "t"), ("syslog-facility", "0")],
                "<6>1 2026-01-02T03:04:05Z host t 7 t - hello\n<3>1 2026-01-02T03:04:05Z host t 7 t - oh\n",
            ),
            (
                &[
                    ("syslog-format", "rfc5424micro"),
                    ("tag", "t"),
                    ("syslog-address", "tcp+tls://localhost:1"),
                ],
                "53 <30>1 2026-01-02T03:04:05.006000Z host t 7 t - hello\n\
                 50 <27>1 2026-01-02T03:04:05.006000Z host t 7 t - oh\n",
            ),
        ] {
            assert_eq!(encoded(options), wanted);
        }
    }
}
