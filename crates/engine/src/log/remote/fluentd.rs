//! Driver `fluentd`: Fluentd's forward protocol, in its message mode, as Docker speaks it.
//!
//! A message is a msgpack array of tag, time and record; with acknowledgements, of an option too that the server sends
//! back.
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use crate::{
    error::{Error, Result},
    image::duration,
    log::{
        facts::Facts,
        remote::{
            address::{self, Address, host_port},
            message::{Batch, Encoder, Message, random_hex},
        },
        sizes::{boolean, bytes},
    },
};

pub const OPTIONS: [&str; 11] = [
    "fluentd-address",
    ASYNC,
    ASYNC_CONNECT,
    RECONNECT,
    "fluentd-buffer-limit",
    "fluentd-max-retries",
    "fluentd-request-ack",
    "fluentd-retry-wait",
    "fluentd-sub-second-precision",
    "fluentd-read-timeout",
    "fluentd-write-timeout",
];
const ASYNC: &str = "fluentd-async";
const ASYNC_CONNECT: &str = "fluentd-async-connect";
const RECONNECT: &str = "fluentd-async-reconnect-interval";

const HOST: &str = "127.0.0.1";
const PORT: &str = "24224";
const RETRY_WAIT: Duration = Duration::from_secs(1);
const RECONNECT_NANOSECONDS: std::ops::RangeInclusive<i64> = 100_000_000..=10_000_000_000;

pub fn check(options: &BTreeMap<String, String>) -> Result<()> {
    address(options)?;
    let option = |key: &str| options.get(key).map(String::as_str).filter(|value| !value.is_empty());
    if let Some(limit) = option("fluentd-buffer-limit") {
        bytes(limit)?;
    }
    if let Some(count) = option("fluentd-max-retries")
        && count.parse::<u64>().is_err()
    {
        return Err(Error::invalid(format!(
            "strconv.ParseUint: parsing \"{count}\": invalid syntax"
        )));
    }
    if option(ASYNC).is_some() && option(ASYNC_CONNECT).is_some() {
        return Err(Error::invalid(format!(
            "conflicting options: cannot specify both '{ASYNC}' and '{ASYNC_CONNECT}'"
        )));
    }
    for key in [
        ASYNC,
        ASYNC_CONNECT,
        "fluentd-sub-second-precision",
        "fluentd-request-ack",
    ] {
        if let Some(value) = option(key)
            && boolean(value).is_none()
        {
            return Err(Error::invalid(format!(
                "strconv.ParseBool: parsing \"{value}\": invalid syntax"
            )));
        }
    }
    for key in [
        "fluentd-retry-wait",
        "fluentd-read-timeout",
        "fluentd-write-timeout",
        RECONNECT,
    ] {
        let Some(value) = option(key) else { continue };
        let Some(interval) = duration::nanoseconds(value).or((value == "0").then_some(0)) else {
            return Err(Error::invalid(format!("time: invalid duration \"{value}\"")));
        };
        if key == RECONNECT && interval != 0 && !RECONNECT_NANOSECONDS.contains(&interval) {
            return Err(Error::invalid(format!(
                "invalid value for {RECONNECT}: value (\"{value}\") must be between 100ms and 10s"
            )));
        }
    }
    Ok(())
}

pub fn address(options: &BTreeMap<String, String>) -> Result<Address> {
    let text = match options.get("fluentd-address") {
        Some(text) if !text.is_empty() => text,
        _ => return Ok(Address::Tcp(format!("{HOST}:{PORT}"))),
    };
    let refused = |reason: &str| Error::invalid(format!("invalid fluentd-address {text}: {reason}"));
    let (scheme, place) = address::split(text).unwrap_or(("tcp", text));
    match scheme {
        "unix" if place.starts_with('/') => return Ok(Address::Unix(PathBuf::from(place))),
        "unix" => return Err(refused("no path")),
        "tcp" => {}
        // The server's TLS input.
        "tls" => {}
        _ => return Err(refused(&format!("unsupported scheme: '{scheme}'"))),
    }
    let (host, port) = host_port(place).map_err(|reason| refused(&reason))?;
    let port = port.unwrap_or(PORT);
    if port.parse::<u16>().is_err() {
        return Err(refused(&format!("strconv.Atoi: parsing \"{port}\": invalid syntax")));
    }
    let host = if host.is_empty() { HOST } else { host };
    let place = address::with_port(
        &if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        },
        PORT,
    );
    let place = place.map_err(|reason| refused(&reason))?;
    Ok(if scheme == "tls" {
        Address::Tls(place)
    } else {
        Address::Tcp(place)
    })
}

/// May a container start while nobody answers?
pub fn is_async(options: &BTreeMap<String, String>) -> bool {
    [ASYNC, ASYNC_CONNECT].iter().any(|key| is_on(options, key))
}

pub fn wants_acknowledgements(options: &BTreeMap<String, String>) -> bool {
    is_on(options, "fluentd-request-ack")
}

/// How long to wait before the second attempt, and how many there are in all.
pub fn patience(options: &BTreeMap<String, String>) -> (Duration, Option<u64>) {
    let wait = options
        .get("fluentd-retry-wait")
        .and_then(|wait| duration::nanoseconds(wait));
    let wait = wait
        .and_then(|wait| u64::try_from(wait).ok())
        .map_or(RETRY_WAIT, Duration::from_nanos);
    (
        wait,
        options.get("fluentd-max-retries").and_then(|count| count.parse().ok()),
    )
}

fn is_on(options: &BTreeMap<String, String>, key: &str) -> bool {
    options.get(key).is_some_and(|value| boolean(value) == Some(true))
}

pub struct Fluentd {
    tag: String,
    fields: Vec<(String, String)>,
    sub_second: bool,
    /// Of acknowledgements: which of ours it is.
    acknowledged: Option<(String, u64)>,
}

impl Fluentd {
    pub fn new(facts: &Facts) -> Fluentd {
        let mut fields = vec![
            ("container_id".to_owned(), facts.id.clone()),
            ("container_name".to_owned(), format!("/{}", facts.name)),
        ];
        fields.extend(facts.attributes());
        Fluentd {
            tag: facts.tag(),
            fields,
            sub_second: is_on(&facts.options, "fluentd-sub-second-precision"),
            acknowledged: wants_acknowledgements(&facts.options).then(|| (random_hex(), 0)),
        }
    }
}

impl Encoder for Fluentd {
    fn encode(&mut self, message: &Message, batch: &mut Batch) {
        let mut out = Pack(&mut batch.bytes);
        out.array(if self.acknowledged.is_some() { 4 } else { 3 });
        out.text(self.tag.as_bytes());
        if self.sub_second {
            out.event_time(message.nanoseconds);
        } else {
            out.integer(message.nanoseconds.div_euclid(1_000_000_000));
        }
        let pieces = if message.piece.is_some() { 4 } else { 0 };
        out.map(self.fields.len() + 2 + pieces);
        for (key, value) in &self.fields {
            out.pair(key, value.as_bytes());
        }
        out.pair("source", if message.stderr { b"stderr" } else { b"stdout" });
        out.pair("log", message.text);
        if let Some(piece) = &message.piece {
            out.pair("partial_message", b"true");
            out.pair("partial_id", piece.id.as_bytes());
            out.pair("partial_ordinal", piece.ordinal.to_string().as_bytes());
            out.pair("partial_last", piece.last.to_string().as_bytes());
        }
        if let Some((random, number)) = &mut self.acknowledged {
            *number += 1;
            let chunk = format!("{}-{number}", &random[..16]);
            out.map(1);
            out.pair("chunk", chunk.as_bytes());
            batch.acknowledgements.push(chunk);
        }
        batch.end();
    }
}

/// What of msgpack is needed.
struct Pack<'a>(&'a mut Vec<u8>);

impl Pack<'_> {
    fn head(&mut self, fixed: u8, fixed_max: usize, wide: u8, length: usize) {
        match u16::try_from(length) {
            _ if length <= fixed_max => self.0.push(fixed | length as u8),
            Ok(length) => {
                self.0.push(wide);
                self.0.extend_from_slice(&length.to_be_bytes());
            }
            Err(_) => {
                self.0.push(wide + 1);
                self.0
                    .extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
            }
        }
    }

    fn array(&mut self, length: usize) {
        self.head(0x90, 15, 0xdc, length);
    }

    fn map(&mut self, length: usize) {
        self.head(0x80, 15, 0xde, length);
    }

    fn text(&mut self, text: &[u8]) {
        self.head(0xa0, 31, 0xda, text.len());
        self.0.extend_from_slice(text);
    }

    fn pair(&mut self, key: &str, value: &[u8]) {
        self.text(key.as_bytes());
        self.text(value);
    }

    fn integer(&mut self, number: i64) {
        self.0.push(0xd3);
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    /// The protocol's own type: seconds and nanoseconds, of 32 bits each.
    fn event_time(&mut self, nanoseconds: i64) {
        let (second, rest) = (
            nanoseconds.div_euclid(1_000_000_000),
            nanoseconds.rem_euclid(1_000_000_000),
        );
        self.0.extend_from_slice(&[0xd7, 0]);
        self.0.extend_from_slice(&(second as u32).to_be_bytes());
        self.0.extend_from_slice(&(rest as u32).to_be_bytes());
    }
}

/// The answer `{"ack": id}` at the beginning of `bytes`, and its length; absent while it is not whole.
pub fn acknowledgement(bytes: &[u8]) -> Option<(String, usize)> {
    let mut rest = bytes.strip_prefix(&[0x81])?;
    let mut read = || -> Option<String> {
        let (head, after) = rest.split_first()?;
        let (length, after) = match head {
            0xa0..=0xbf => (usize::from(head & 0x1f), after),
            0xd9 => (usize::from(*after.first()?), &after[1..]),
            0xda => (usize::from(u16::from_be_bytes(*after.first_chunk()?)), &after[2..]),
            _ => return None,
        };
        let text = String::from_utf8_lossy(after.get(..length)?).into_owned();
        rest = &after[length..];
        Some(text)
    };
    let (key, id) = (read()?, read()?);
    (key == "ack").then(|| (id, bytes.len() - rest.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{facts, remote::message::Piece};

    #[test]
    fn a_message_is_what_the_protocol_says() {
        let mut facts = facts::example();
        facts.options = [("tag", "docker.{{.Name}}"), ("fluentd-sub-second-precision", "true")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        let mut batch = Batch::default();
        let message = Message {
            text: b"hi",
            stderr: false,
            nanoseconds: 1_000_000_002,
            piece: None,
        };
        Fluentd::new(&facts).encode(&message, &mut batch);
        let mut wanted = b"\x93\xaadocker.web\xd7\0\0\0\0\x01\0\0\0\x02\x84\xaccontainer_id\xda\0\x40".to_vec();
        wanted.extend_from_slice(facts.id.as_bytes());
        wanted.extend_from_slice(b"\xaecontainer_name\xa4/web\xa6source\xa6stdout\xa3log\xa2hi");
        assert_eq!(batch.bytes, wanted);
    }

    #[test]
    fn pieces_and_acknowledgements_are_said() {
        let mut facts = facts::example();
        facts
            .options
            .insert("fluentd-request-ack".to_owned(), "true".to_owned());
        let mut batch = Batch::default();
        let piece = Piece {
            id: "x".to_owned(),
            ordinal: 2,
            last: true,
        };
        let message = Message {
            text: &[b'x'; 70_000],
            stderr: true,
            nanoseconds: 0,
            piece: Some(piece),
        };
        Fluentd::new(&facts).encode(&message, &mut batch);
        let has = |part: &[u8]| batch.bytes.windows(part.len()).any(|window| window == part);
        assert!(
            has(b"\xafpartial_message\xa4true") && has(b"\xafpartial_ordinal\xa12") && has(b"\xacpartial_last\xa4true")
        );
        assert!(has(b"\xa3log\xdb\0\x01\x11\x70xx"));
        let chunk = &batch.acknowledgements[0];
        let mut answer = vec![0x81, 0xa3];
        answer.extend_from_slice(b"ack");
        answer.push(0xa0 | chunk.len() as u8);
        answer.extend_from_slice(chunk.as_bytes());
        assert_eq!(acknowledgement(&answer), Some((chunk.clone(), answer.len())));
        for length in 0..answer.len() {
            assert_eq!(acknowledgement(&answer[..length]), None);
        }
    }

    #[test]
    fn addresses_have_defaults() {
        let address = |text: &str| address(&[("fluentd-address".to_owned(), text.to_owned())].into()).ok();
        assert_eq!(address(""), Some(Address::Tcp("127.0.0.1:24224".to_owned())));
        assert_eq!(address("host"), Some(Address::Tcp("host:24224".to_owned())));
        assert_eq!(address("tcp://[::1]:9"), Some(Address::Tcp("[::1]:9".to_owned())));
        assert_eq!(address("unix:///run/f.sock"), Some(Address::Unix("/run/f.sock".into())));
        assert_eq!(address("udp://x"), None);
    }
}
