//! Fetch: an archive from a URL, as an import gets it.
//!
//! One `GET` by HTTP/1.1, plain or with TLS, by a proxy or not, that follows redirects. Every step has its time; how long
//! the whole takes depends on the server, for the archive is read as it comes.
use std::{io, sync::Arc, time::Duration};

use axum::body::{Body, to_bytes};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use corten_engine::trust;
use http::{Method, Request, Response, StatusCode, Uri, header};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, crypto::ring, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, lookup_host},
    task::spawn_blocking,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::{docker::proxy::Proxies, error::ApiError};

const CONNECT_PATIENCE: Duration = Duration::from_secs(30);
const TLS_PATIENCE: Duration = Duration::from_secs(10);
/// Until the head of an answer is there.
const ANSWER_PATIENCE: Duration = Duration::from_secs(60);
const REDIRECTS_MAX: usize = 10;
/// Of a server's explanation of a failure.
const EXPLANATION_BYTES_MAX: usize = 4 << 10;
/// Of a proxy's answer to `CONNECT`.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// An archive on its way.
pub struct Fetched {
    /// Bytes, where the server says how many.
    pub length: Option<u64>,
    pub body: Body,
}

/// Who is asked, and for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url(Uri);

impl Url {
    /// Without a scheme it is HTTP.
    pub fn parse(text: &str) -> Result<Url, ApiError> {
        let whole = if text.contains("://") {
            text.to_owned()
        } else {
            format!("http://{text}")
        };
        let refused = |why: &str| ApiError::invalid(format!("parse \"{whole}\": {why}"));
        let uri: Uri = whole
            .parse()
            .map_err(|error: http::uri::InvalidUri| refused(&error.to_string()))?;
        match uri.scheme_str() {
            Some("http" | "https") if uri.host().is_some_and(|host| !host.is_empty()) => Ok(Url(uri)),
            Some("http" | "https") => Err(refused("no Host in request URL")),
            other => Err(refused(&format!(
                "unsupported protocol scheme \"{}\"",
                other.unwrap_or_default()
            ))),
        }
    }

    fn is_secure(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }

    /// A name or an address, the latter without brackets.
    fn host(&self) -> &str {
        self.0.host().unwrap_or_default().trim_matches(['[', ']'])
    }

    fn port(&self) -> u16 {
        self.0.port_u16().unwrap_or(if self.is_secure() { 443 } else { 80 })
    }

    /// As the URL says it, without a user.
    fn server(&self) -> &str {
        let authority = self.0.authority().map_or("", http::uri::Authority::as_str);
        authority.rsplit_once('@').map_or(authority, |(_, server)| server)
    }

    /// `user:password@` of the URL, as a header says it.
    fn credentials(&self) -> Option<String> {
        let (credentials, _) = self.0.authority()?.as_str().rsplit_once('@')?;
        Some(format!("Basic {}", STANDARD.encode(decoded(credentials))))
    }

    /// Where a redirect leads (RFC 3986, 5.2).
    fn join(&self, location: &str) -> Result<Url, ApiError> {
        let scheme = self.0.scheme_str().unwrap_or("http");
        let authority = self.0.authority().map_or("", http::uri::Authority::as_str);
        if location.contains("://") {
            return Url::parse(location);
        }
        if let Some(rest) = location.strip_prefix("//") {
            return Url::parse(&format!("{scheme}://{rest}"));
        }
        let path = self.0.path();
        let target = match location.as_bytes().first() {
            Some(b'/') => location.to_owned(),
            Some(b'?') => format!("{path}{location}"),
            _ => format!(
                "{}/{location}",
                path.rsplit_once('/').map_or("", |(directory, _)| directory)
            ),
        };
        Url::parse(&format!("{scheme}://{authority}{}", without_dots(&target)))
    }
}

/// Without the password: it is for the server, not for whoever reads errors, logs and histories.
impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&without_password(&self.0.to_string()))
    }
}

/// `user:***@` in place of what the URL says.
pub fn without_password(url: &str) -> String {
    let start = url.find("://").map_or(0, |scheme| scheme + 3);
    let end = url[start..]
        .find(['/', '?', '#'])
        .map_or(url.len(), |length| start + length);
    let authority = &url[start..end];
    match authority
        .rsplit_once('@')
        .and_then(|(user, server)| Some((user.split_once(':')?.0, server)))
    {
        Some((user, server)) => format!("{}{user}:***@{server}{}", &url[..start], &url[end..]),
        None => url.to_owned(),
    }
}

/// `%40` and its like as what they mean.
fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, others)) = rest.split_first() {
        let hex = others.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = hex
            .filter(|_| first == b'%')
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &others[2..] } else { others };
    }
    bytes
}

/// A path without `.` and `..` in it; what follows `?` stays.
fn without_dots(target: &str) -> String {
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    let mut kept: Vec<&str> = Vec::new();
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    for (index, part) in parts.iter().enumerate() {
        match *part {
            ".." => drop(kept.pop()),
            "." => {}
            other => kept.push(other),
        }
        if index + 1 == parts.len() && matches!(*part, "." | "..") {
            kept.push("");
        }
    }
    format!("/{}{query}", kept.join("/"))
}

/// Gets the archive at a URL; the body is still to come.
pub async fn get(url: &Url, proxies: &Proxies) -> Result<Fetched, ApiError> {
    let mut next = url.clone();
    for _ in 0..=REDIRECTS_MAX {
        let answer = ask(&next, proxies).await?;
        let Some(location) = redirect(&answer) else {
            return accept(url, answer).await;
        };
        next = next.join(&location)?;
    }
    Err(failed(url, format_args!("stopped after {REDIRECTS_MAX} redirects")))
}

fn failed(url: &Url, why: impl std::fmt::Display) -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, format!("Get \"{url}\": {why}"))
}

fn redirect(answer: &Response<Incoming>) -> Option<String> {
    let redirects = matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    let location = answer.headers().get(header::LOCATION).filter(|_| redirects)?;
    location.to_str().ok().map(str::to_owned)
}

async fn accept(url: &Url, answer: Response<Incoming>) -> Result<Fetched, ApiError> {
    let status = answer.status();
    let length = answer.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    let body = Body::new(answer.into_body());
    if status.as_u16() < 400 {
        return Ok(Fetched { length, body });
    }
    let explanation = timeout(ANSWER_PATIENCE, to_bytes(body, EXPLANATION_BYTES_MAX)).await;
    let explanation = explanation.ok().and_then(Result::ok).unwrap_or_default();
    let message = format!(
        "failed to GET {url} with status {status}: {}",
        String::from_utf8_lossy(&explanation).trim()
    );
    Err(ApiError::new(
        match status.as_u16() {
            400 | 401 | 403 | 404 => status,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        },
        message,
    ))
}

async fn ask(url: &Url, proxies: &Proxies) -> Result<Response<Incoming>, ApiError> {
    let proxy = proxies.for_server(url.is_secure(), url.host(), url.port());
    let proxy = proxy.map(Url::parse).transpose()?;
    let stream = match &proxy {
        None => connect(url).await,
        Some(proxy) if url.is_secure() => through(proxy, url).await,
        Some(proxy) => connect(proxy).await,
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream?))
        .await
        .map_err(|error| failed(url, error))?;
    tokio::spawn(async move {
        // What breaks off is told by the answer's body.
        let _ = connection.await;
    });
    let request = request(url, proxy.as_ref().filter(|_| !url.is_secure())).map_err(|error| failed(url, error))?;
    match timeout(ANSWER_PATIENCE, sender.send_request(request)).await {
        Ok(answer) => answer.map_err(|error| failed(url, error)),
        Err(_) => Err(failed(url, "the server does not answer")),
    }
}

/// A proxy that is not only the way is told where to go.
fn request(url: &Url, proxy: Option<&Url>) -> Result<Request<Body>, http::Error> {
    let target = url.0.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let target = match proxy {
        None => target.to_owned(),
        Some(_) => format!("http://{}{target}", url.server()),
    };
    let mut request = Request::builder()
        .method(Method::GET)
        .uri(target)
        .header(header::HOST, url.server())
        .header(header::USER_AGENT, concat!("Corten/", env!("CARGO_PKG_VERSION")))
        // The archive as it is: it may be compressed itself.
        .header(header::ACCEPT_ENCODING, "identity");
    let credentials = [
        (header::AUTHORIZATION, url.credentials()),
        (header::PROXY_AUTHORIZATION, proxy.and_then(Url::credentials)),
    ];
    for (name, value) in credentials {
        if let Some(value) = value {
            request = request.header(name, value);
        }
    }
    request.body(Body::empty())
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

async fn connect(url: &Url) -> Result<Box<dyn Stream>, ApiError> {
    let (host, port) = (url.host(), url.port());
    let found = lookup_host((host, port)).await.map(Vec::from_iter).unwrap_or_default();
    if found.is_empty() {
        return Err(ApiError::not_found(format!(
            "Get \"{url}\": dial tcp: lookup {host}: no such host"
        )));
    }
    let connected = match timeout(CONNECT_PATIENCE, TcpStream::connect(&found[..])).await {
        Ok(connected) => connected,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    };
    let stream = connected.map_err(|error| failed(url, format_args!("dial tcp {}: connect: {error}", found[0])))?;
    match url.is_secure() {
        true => secure(url, Box::new(stream)).await,
        false => Ok(Box::new(stream)),
    }
}

/// A proxy as the mere way to a server with TLS.
async fn through(proxy: &Url, url: &Url) -> Result<Box<dyn Stream>, ApiError> {
    let mut stream = connect(proxy).await?;
    let opened = match timeout(ANSWER_PATIENCE, open_way(&mut stream, proxy, url)).await {
        Ok(opened) => opened,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "it does not answer")),
    };
    opened.map_err(|error| failed(url, format_args!("proxy {}: {error}", proxy.server())))?;
    secure(url, stream).await
}

async fn open_way(stream: &mut Box<dyn Stream>, proxy: &Url, url: &Url) -> io::Result<()> {
    let server = match url.host().contains(':') {
        true => format!("[{}]:{}", url.host(), url.port()),
        false => format!("{}:{}", url.host(), url.port()),
    };
    let mut request = format!("CONNECT {server} HTTP/1.1\r\nHost: {server}\r\n");
    if let Some(credentials) = proxy.credentials() {
        request += &format!("Proxy-Authorization: {credentials}\r\n");
    }
    stream.write_all(format!("{request}\r\n").as_bytes()).await?;
    // Byte by byte: what follows the head is the server's.
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == HEAD_BYTES_MAX {
            return Err(io::Error::other("its answer is too long"));
        }
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head);
    let line = head.lines().next().unwrap_or_default();
    match line.split(' ').nth(1) {
        Some(status) if status.starts_with('2') => Ok(()),
        _ => Err(io::Error::other(line.to_owned())),
    }
}

async fn secure(url: &Url, stream: Box<dyn Stream>) -> Result<Box<dyn Stream>, ApiError> {
    let connector = connector().await.map_err(|error| failed(url, error))?;
    let name = ServerName::try_from(url.host().to_owned()).map_err(|error| failed(url, error))?;
    let secured = match timeout(TLS_PATIENCE, connector.connect(name, stream)).await {
        Ok(secured) => secured,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "TLS handshake timeout")),
    };
    Ok(Box::new(secured.map_err(|error| failed(url, error))?))
}

async fn connector() -> io::Result<TlsConnector> {
    // A hundred and more certificates are read.
    let roots = spawn_blocking(|| trust::roots(None))
        .await
        .map_err(io::Error::other)??;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect(text)
    }

    #[test]
    fn what_is_asked_of_whom() {
        let plain = url("example.org/a.tar");
        assert_eq!(
            (plain.host(), plain.port(), plain.is_secure()),
            ("example.org", 80, false)
        );
        let secure = url("https://[::1]:8443/a?b=c");
        assert_eq!((secure.host(), secure.port(), secure.is_secure()), ("::1", 8443, true));
        assert_eq!(url("https://h/").port(), 443);
        assert_eq!(
            url("http://me:p%40ss@h/").credentials().as_deref(),
            Some("Basic bWU6cEBzcw==")
        );
        assert_eq!(url("http://h/").credentials(), None);
        assert_eq!(url("http://me:p@h/a@b:c").to_string(), "http://me:***@h/a@b:c");
        assert_eq!(without_password("me:p@h"), "me:***@h");
        assert_eq!(without_password("http://me@h/a"), "http://me@h/a");
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for (text, words) in [
            ("ftp://h/a", "parse \"ftp://h/a\": unsupported protocol scheme \"ftp\""),
            ("http://h/a b", "parse \"http://h/a b\": "),
            ("http://", "parse \"http://\": "),
        ] {
            let error = Url::parse(text).expect_err(text);
            assert_eq!(error.status(), StatusCode::BAD_REQUEST);
            assert!(error.message().starts_with(words), "{}", error.message());
        }
    }

    #[test]
    fn redirects_are_relative_to_where_they_come_from() {
        let from = url("https://h:1/a/b/c?d");
        for (location, target) in [
            ("http://other/x", "http://other/x"),
            ("//other/x", "https://other/x"),
            ("/x/../y", "https://h:1/y"),
            ("x", "https://h:1/a/b/x"),
            ("../x?y=../z", "https://h:1/a/x?y=../z"),
            ("./", "https://h:1/a/b/"),
            ("?e", "https://h:1/a/b/c?e"),
        ] {
            assert_eq!(from.join(location).expect(location).to_string(), target, "{location}");
        }
    }
}
