//! The Engine API spoken by hand, byte by byte, for what no client would send or show.
use std::{
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;

use crate::wait::PATIENCE;

/// One answer.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    /// The words after the status.
    pub reason: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.text()))
    }

    /// The `message` of an error answer.
    #[track_caller]
    pub fn message(&self) -> String {
        self.json()["message"]
            .as_str()
            .unwrap_or_else(|| panic!("no message: {}", self.text()))
            .to_owned()
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Response {
        assert!(
            self.status == status,
            "expected {status}, got {} {}: {}",
            self.status,
            self.reason,
            self.text()
        );
        self
    }
}

/// A door of a daemon: each request has a connection of its own.
#[derive(Debug, Clone)]
pub struct Api {
    socket: PathBuf,
}

impl Api {
    pub fn new(socket: &Path) -> Api {
        Api {
            socket: socket.to_owned(),
        }
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        self.request("GET", path, None)
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: Option<&Value>) -> Response {
        self.request("POST", path, body)
    }

    #[track_caller]
    pub fn delete(&self, path: &str) -> Response {
        self.request("DELETE", path, None)
    }

    #[track_caller]
    pub fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Response {
        let mut connection = self.open();
        connection.send(method, path, body);
        connection.response(method)
    }

    #[track_caller]
    pub fn open(&self) -> Connection {
        let stream = UnixStream::connect(&self.socket).unwrap_or_else(|error| panic!("cannot connect: {error}"));
        stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
        Connection {
            stream,
            unread: Vec::new(),
        }
    }
}

/// A connection, for requests whose answer does not end at once.
pub struct Connection {
    pub stream: UnixStream,
    unread: Vec<u8>,
}

impl Connection {
    #[track_caller]
    pub fn send(&mut self, method: &str, path: &str, body: Option<&Value>) {
        let body = body.map(Value::to_string).unwrap_or_default();
        let path = path.replace('"', "%22").replace(' ', "%20");
        let kind = if body.is_empty() {
            ""
        } else {
            "Content-Type: application/json\r\n"
        };
        self.send_raw(&format!(
            "{method} {path} HTTP/1.1\r\nHost: corten\r\n{kind}Content-Length: {}\r\n\r\n{body}",
            body.len()
        ));
    }

    /// Asks for the connection itself, as `docker attach` does.
    #[track_caller]
    pub fn upgrade(&mut self, path: &str) -> Response {
        self.send_raw(&format!(
            "POST {path} HTTP/1.1\r\nHost: corten\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n"
        ));
        self.head()
    }

    /// The same with a document, as `docker exec` does.
    #[track_caller]
    pub fn upgrade_with(&mut self, path: &str, body: &Value) -> Response {
        let body = body.to_string();
        self.send_raw(&format!(
            "POST {path} HTTP/1.1\r\nHost: corten\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        self.head()
    }

    #[track_caller]
    pub fn send_raw(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).expect("the daemon reads");
    }

    /// The status and headers, as soon as they are there; the body is unread.
    #[track_caller]
    pub fn head(&mut self) -> Response {
        let end = loop {
            if let Some(at) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                break at;
            }
            assert!(
                self.fill() > 0,
                "closed within the headers: {}",
                String::from_utf8_lossy(&self.unread)
            );
        };
        let head = String::from_utf8_lossy(&self.unread[..end]).into_owned();
        self.unread.drain(..end + 4);
        let mut lines = head.split("\r\n");
        let mut status = lines.next().unwrap_or_default().splitn(3, ' ').skip(1);
        let code = status
            .next()
            .and_then(|code| code.parse().ok())
            .unwrap_or_else(|| panic!("no status: {head}"));
        let reason = status.next().unwrap_or_default().to_owned();
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers = headers
            .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
            .collect();
        Response {
            status: code,
            reason,
            headers,
            body: Vec::new(),
        }
    }

    /// A whole answer.
    #[track_caller]
    pub fn response(&mut self, method: &str) -> Response {
        let mut response = self.head();
        if method == "HEAD" || matches!(response.status, 101 | 204 | 304) {
            return response;
        }
        response.body = if response
            .header("transfer-encoding")
            .is_some_and(|value| value == "chunked")
        {
            self.chunks()
        } else if let Some(length) = response.header("content-length") {
            let length = length.parse().expect("a length is a number");
            self.take(length)
        } else {
            self.rest()
        };
        response
    }

    /// Every chunk up to the last.
    #[track_caller]
    pub fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let chunk = self.chunk();
            if chunk.is_empty() {
                return body;
            }
            body.extend(chunk);
        }
    }

    /// One chunk; empty for the last.
    #[track_caller]
    pub fn chunk(&mut self) -> Vec<u8> {
        let size = loop {
            if let Some(at) = self.unread.windows(2).position(|window| window == b"\r\n") {
                let line = String::from_utf8_lossy(&self.unread[..at]).into_owned();
                self.unread.drain(..at + 2);
                break usize::from_str_radix(&line, 16).unwrap_or_else(|_| panic!("not a chunk: {line}"));
            }
            assert!(self.fill() > 0, "closed between chunks");
        };
        let mut chunk = self.take(size + 2);
        chunk.truncate(size);
        chunk
    }

    /// Exactly so many bytes.
    #[track_caller]
    pub fn take(&mut self, count: usize) -> Vec<u8> {
        while self.unread.len() < count {
            assert!(self.fill() > 0, "closed after {} of {count} bytes", self.unread.len());
        }
        self.unread.drain(..count).collect()
    }

    /// Everything until the other side closes.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.fill() > 0 {}
        std::mem::take(&mut self.unread)
    }

    /// One stdcopy frame of a multiplexed stream: stream number and payload.
    #[track_caller]
    pub fn frame(&mut self) -> (u8, Vec<u8>) {
        let header = self.take(8);
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        (header[0], self.take(length as usize))
    }

    /// No more input; output goes on.
    pub fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).expect("it is connected");
    }

    /// Whether nothing arrives within a moment.
    pub fn is_silent(&mut self) -> bool {
        self.stream
            .set_read_timeout(Some(Duration::from_millis(100)))
            .expect("not zero");
        let mut buffer = [0; 4096];
        let silent = match self.stream.read(&mut buffer) {
            Ok(count) => {
                self.unread.extend_from_slice(&buffer[..count]);
                false
            }
            Err(_) => self.unread.is_empty(),
        };
        self.stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
        silent
    }

    #[track_caller]
    fn fill(&mut self) -> usize {
        let mut buffer = [0; 16 * 1024];
        // A socket with a time limit is interrupted even by a signal that only stops and resumes this process.
        let count = loop {
            match self.stream.read(&mut buffer) {
                Ok(count) => break count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => panic!("no answer: {error}"),
            }
        };
        self.unread.extend_from_slice(&buffer[..count]);
        count
    }
}
