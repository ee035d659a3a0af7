//! A request whose body its owner writes straight onto the connection, so that files need not come into the process.
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use http::StatusCode;

use crate::client::{Call, Client, Error, USER_AGENT, explain};
use crate::transport::Connection;

/// An answer's head has few lines.
const HEADERS_MAX: usize = 64;
/// Of an answer: a head, and an error's document.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Connected, and nothing sent yet.
#[derive(Debug)]
pub struct Upload {
    socket: UnixStream,
    head: Vec<u8>,
    doing: String,
}

impl Upload {
    /// The request's head; HTTP's chunked coding is what follows it.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// The connection, for one who writes and waits.
    pub fn socket(&self) -> io::Result<OwnedFd> {
        Ok(self.socket.try_clone()?.into())
    }

    /// Waits for the answer. Worth a try after a failed write, too: a daemon that refuses may not read to the end.
    pub fn answer(self) -> Result<(), Error> {
        let mut answer = Vec::new();
        let read = self.socket.take(ANSWER_BYTES_MAX).read_to_end(&mut answer);
        let unexpected = |what: String| Error::Unexpected {
            what: format!("{}: {what}", self.doing),
        };
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut head = httparse::Response::new(&mut headers);
        let length = match (head.parse(&answer), read) {
            (Ok(httparse::Status::Complete(length)), _) => length,
            (_, Err(error)) => return Err(unexpected(error.to_string())),
            _ => return Err(unexpected("the answer broke off".to_string())),
        };
        let status = head.code.and_then(|code| StatusCode::from_u16(code).ok());
        let status = status.ok_or_else(|| unexpected("the answer has no status".to_string()))?;
        if status.is_success() {
            return Ok(());
        }
        let chunked = head
            .headers
            .iter()
            .any(|header| header.name.eq_ignore_ascii_case("transfer-encoding"));
        let body = &answer[length..];
        let message = explain(status, &if chunked { unchunked(body) } else { body.to_vec() });
        Err(Error::Refused {
            status: status.as_u16(),
            message,
        })
    }
}

impl Client {
    /// A request with a body of HTTP's chunks that the caller writes; none where there is no unix socket to write them to.
    pub async fn upload(&self, call: Call) -> Result<Option<Upload>, Error> {
        if self.endpoint().unix_path().is_none() {
            return Ok(None);
        }
        self.settle().await?;
        let Connection::Unix(stream) = self.open().await? else {
            return Ok(None);
        };
        let blocking = stream.into_std().and_then(|stream| {
            stream.set_nonblocking(false)?;
            Ok(stream)
        });
        let socket = blocking.map_err(|source| Error::Unreachable {
            endpoint: self.endpoint().clone(),
            source,
        })?;
        let mut head = format!("{} /v{}{} HTTP/1.1\r\n", call.method, self.version(), call.path);
        let fixed = [
            ("Host", self.endpoint().authority()),
            ("User-Agent", USER_AGENT),
            ("Content-Type", "application/x-tar"),
            ("Transfer-Encoding", "chunked"),
            ("Connection", "close"),
        ];
        let headers = call.headers.iter().map(|(name, value)| (*name, value.as_str()));
        for (name, value) in headers.chain(fixed) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        Ok(Some(Upload {
            socket,
            head: head.into_bytes(),
            doing: call.doing(),
        }))
    }
}

/// The payload of HTTP's chunks, as far as they are there.
fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    while let Ok(httparse::Status::Complete((begin, length))) = httparse::parse_chunk_size(body) {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let rest = &body[begin..];
        payload.extend_from_slice(&rest[..length.min(rest.len())]);
        match rest.get(length.saturating_add(2)..) {
            Some(next) if length > 0 => body = next,
            _ => break,
        }
    }
    payload
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn answer(text: &str) -> Result<(), Error> {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
        theirs.write_all(text.as_bytes()).expect("it fits");
        drop(theirs);
        let upload = Upload {
            socket: ours,
            head: Vec::new(),
            doing: "PUT /x".to_string(),
        };
        upload.answer()
    }

    #[test]
    fn answers_are_understood_however_they_end() {
        assert!(answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").is_ok());
        let refusals = [
            "HTTP/1.1 404 Not Found\r\nContent-Length: 18\r\n\r\n{\"message\":\"none\"}",
            "HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{\"message\r\n9\r\n\":\"none\"}\r\n0\r\n\r\n",
        ];
        for text in refusals {
            match answer(text).expect_err("refused") {
                Error::Refused { status: 404, message } => assert_eq!(message, "none"),
                error => panic!("{error:?}"),
            }
        }
        let broken = answer("HTTP/1.1 200 ").expect_err("half a head");
        assert!(broken.to_string().contains("PUT /x: the answer broke off"), "{broken}");
    }
}
