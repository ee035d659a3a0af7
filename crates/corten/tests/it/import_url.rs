//! `import` from a URL: what the daemon fetches, and what it says when it cannot.
use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use corten_testkit::{
    api::Response,
    command::{run, run_with_input},
    daemon::Daemon,
    image,
    wait::wait_until,
};

use crate::setup;

/// A web server in the daemon's network: every path has an answer, with its head.
struct Site {
    address: SocketAddr,
    /// Heads of requests.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Site {
    fn new(daemon: &Daemon, answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Site {
        let listener = daemon.in_network(|| TcpListener::bind("127.0.0.1:0")).unwrap();
        let site = Site {
            address: listener.local_addr().unwrap(),
            asked: Arc::default(),
        };
        let asked = Arc::clone(&site.asked);
        thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap(), &answer, &asked);
            }
        });
        site
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// One request, one answer.
fn serve(mut stream: TcpStream, answer: &dyn Fn(&str) -> Vec<u8>, asked: &Mutex<Vec<String>>) {
    let lines = BufReader::new(&stream).lines().map_while(Result::ok);
    let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let path = head.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
    let answer = answer(path);
    asked.lock().unwrap().push(head.join("\n"));
    let _ = stream.write_all(&answer);
}

fn ok(body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn redirect(status: &str, location: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into_bytes()
}

fn tar() -> Vec<u8> {
    image::busybox_layer().finish()
}

fn import(daemon: &Daemon, source: &str) -> Response {
    daemon
        .api()
        .post(&format!("/images/create?repo=made&fromSrc={source}"), None)
}

#[test]
fn an_archive_becomes_an_image_whoever_asks() {
    let daemon = setup().start();
    let site = Site::new(&daemon, |_| ok(&tar()));
    let url = site.url("/root.tar");
    let change = "CMD [\"echo\", \"imported\"]";
    for name in ["docker:1", "corten:1"] {
        let words = ["import", "--change", change, &url, name];
        let said = match name {
            "docker:1" => daemon.docker(words).ok(),
            _ => daemon.corten(words).ok(),
        };
        let id = daemon.docker(["inspect", "-f", "{{.Id}}", name]).ok();
        assert_eq!(said, format!("Downloading from {url}\n{id}"));
        assert_eq!(
            daemon.docker(["run", "--rm", "--network", "none", name]).ok(),
            "imported"
        );
        let comment = daemon.docker(["history", "--format", "{{.Comment}}", name]).ok();
        assert_eq!(comment, format!("Imported from {url}"));
    }
    let asked = site.asked.lock().unwrap();
    assert!(asked[0].starts_with("GET /root.tar HTTP/1.1\n"), "{}", asked[0]);
    let host = format!("host: {}", site.address);
    assert!(asked[0].to_ascii_lowercase().contains(&host), "{}", asked[0]);
}

#[test]
fn progress_says_how_much_of_it_is_there() {
    let daemon = setup().start();
    let whole = tar();
    let total = whole.len() as u64;
    let site = Site::new(&daemon, move |_| ok(&whole));
    let answer = import(&daemon, &site.url("/root.tar")).expect(200);
    let lines: Vec<serde_json::Value> = answer
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        lines[0]["status"],
        format!("Downloading from {}", site.url("/root.tar"))
    );
    let importing: Vec<_> = lines.iter().filter(|line| line["status"] == "Importing").collect();
    assert!(!importing.is_empty(), "{}", answer.text());
    for line in importing {
        assert_eq!(line["progressDetail"]["total"], total, "{line}");
        assert!(line.get("id").is_none(), "{line}");
    }
    assert!(lines.last().unwrap()["status"].as_str().unwrap().starts_with("sha256:"));
}

#[test]
fn redirects_compression_and_pieces_are_what_clients_of_http_know() {
    let daemon = setup().start();
    let zipped = run_with_input(Command::new("gzip").stdin(Stdio::piped()), &tar()).stdout;
    let site = Site::new(&daemon, move |path| match path {
        "/a/moved" => redirect("302 Found", "../b/root.tar?x=1"),
        "/b/root.tar?x=1" => redirect("301 Moved Permanently", "/zipped"),
        "/zipped" => ok(&zipped),
        "/pieces" => {
            let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            for piece in tar().chunks(100_000) {
                answer.extend(format!("{:x}\r\n", piece.len()).into_bytes());
                answer.extend(piece);
                answer.extend(b"\r\n");
            }
            answer.extend(b"0\r\n\r\n");
            answer
        }
        _ => redirect("307 Temporary Redirect", path),
    });
    for path in ["/a/moved", "/pieces"] {
        let said = daemon.docker(["import", &site.url(path)]).ok();
        assert!(said.lines().last().unwrap().starts_with("sha256:"), "{said}");
    }
    // Without a scheme it is HTTP, and with a user this one is told.
    let answer = import(&daemon, &format!("me:p%2540ss@{}/pieces", site.address)).expect(200);
    assert!(!answer.text().contains("p%40ss"), "{}", answer.text());
    let comment = daemon.docker("history --format {{.Comment}} made").ok();
    assert_eq!(comment, format!("Imported from me:***@{}/pieces", site.address));
    let last = site.asked.lock().unwrap().last().unwrap().to_ascii_lowercase();
    assert!(last.contains("authorization: basic bwu6cebzcw=="), "{last}");
    let url = site.url("/circle");
    let error = daemon.docker(["import", &url]).fails(1);
    assert!(
        error.contains(&format!("Get \"{url}\": stopped after 10 redirects")),
        "{error}"
    );
}

#[test]
fn what_cannot_be_fetched_says_why_and_leaves_nothing() {
    let daemon = setup().start();
    let site = Site::new(&daemon, |path| match path {
        "/short" => ok(&tar())[..50_000].to_vec(),
        "/text" => ok(b"this is no archive, whatever the server thinks"),
        "/broken" => b"nonsense\r\n\r\n".to_vec(),
        "/private" => b"HTTP/1.1 403 Forbidden\r\nContent-Length: 8\r\n\r\nnot you\n".to_vec(),
        "/ill" => b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".to_vec(),
        _ => b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nnot here\n".to_vec(),
    });
    let closed = daemon.in_network(|| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let closed = format!("http://{closed}/x");
    let (missing, private) = (site.url("/missing"), site.url("/private"));
    let (ill, broken) = (site.url("/ill"), site.url("/broken"));
    for (source, status, message) in [
        (
            missing.as_str(),
            404,
            format!("failed to GET {missing} with status 404 Not Found: not here"),
        ),
        (
            &private,
            403,
            format!("failed to GET {private} with status 403 Forbidden: not you"),
        ),
        (
            &ill,
            500,
            format!("failed to GET {ill} with status 503 Service Unavailable:"),
        ),
        (&broken, 500, format!("Get \"{broken}\": ")),
        (&closed, 500, format!("Get \"{closed}\": dial tcp ")),
        (
            "http://nowhere.invalid/x",
            404,
            "Get \"http://nowhere.invalid/x\": dial tcp: lookup nowhere.invalid: no such host".to_owned(),
        ),
        (
            "ftp://h/x",
            400,
            "parse \"ftp://h/x\": unsupported protocol scheme \"ftp\"".to_owned(),
        ),
    ] {
        let answer = import(&daemon, source).expect(status).message();
        assert!(answer.starts_with(&message), "{source}: {answer}");
    }
    // What goes wrong later is a line, for the answer has begun.
    for path in ["/short", "/text"] {
        let answer = import(&daemon, &site.url(path)).expect(200);
        let last: serde_json::Value = serde_json::from_str(answer.text().lines().last().unwrap()).unwrap();
        assert!(last["error"].is_string(), "{path}: {}", answer.text());
        daemon.docker(["import", &site.url(path)]).fails(1);
    }
    assert_eq!(daemon.docker("images -aq").ok(), "");
    // The request is looked at before anybody is asked.
    let before = site.asked.lock().unwrap().len();
    daemon
        .api()
        .post(
            &format!("/images/create?repo=UPPER&fromSrc={}", site.url("/text")),
            None,
        )
        .expect(400);
    assert_eq!(site.asked.lock().unwrap().len(), before);
}

#[test]
fn a_proxy_is_asked_for_what_is_not_here() {
    let mut daemon = setup().start();
    let proxy = Site::new(&daemon, |_| ok(&tar()));
    let flag = format!("http://me:secret@{}", proxy.address);
    daemon.stop();
    let daemon = setup()
        .network(daemon.network())
        .arguments(["--http-proxy", &flag, "--no-proxy", "nowhere.invalid"])
        .start();
    import(&daemon, "http://example.test:81/root.tar").expect(200);
    let asked = proxy.asked.lock().unwrap().last().unwrap().clone();
    assert!(
        asked.starts_with("GET http://example.test:81/root.tar HTTP/1.1\n"),
        "{asked}"
    );
    let lower = asked.to_ascii_lowercase();
    assert!(lower.contains("proxy-authorization: basic bwu6c2vjcmv0"), "{asked}");
    import(&daemon, "http://nowhere.invalid/root.tar").expect(404);
    assert_eq!(proxy.asked.lock().unwrap().len(), 1);
}

/// Of openssl: files of the working directory.
struct Secure(Child);

impl Drop for Secure {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_server_with_a_certificate_is_believed_when_its_authority_is() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("root.tar"), tar()).unwrap();
    let mut openssl = Command::new("openssl");
    openssl.current_dir(directory.path()).args(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key.pem -out cert.pem -days 2 \
         -subj /CN=site -addext subjectAltName=IP:127.0.0.1,DNS:site.test -addext basicConstraints=critical,CA:FALSE"
            .split_ascii_whitespace(),
    );
    run(&mut openssl).ok();
    let trusts = format!("SSL_CERT_FILE={}", at("cert.pem").display());
    let believer = setup().wrapper(["env", &trusts]).start();
    let doubter = setup().network(believer.network()).start();
    let mut server = Command::new("openssl");
    server
        .current_dir(directory.path())
        .args("s_server -WWW -quiet -accept 127.0.0.1:4443 -cert cert.pem -key key.pem".split_ascii_whitespace());
    server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _server = Secure(believer.in_network(|| server.spawn()).unwrap());
    wait_until("it listens", || {
        believer.in_network(|| TcpStream::connect("127.0.0.1:4443").is_ok())
    });
    let url = "https://127.0.0.1:4443/root.tar";
    let said = believer.docker(["import", url]).ok();
    assert!(said.lines().last().unwrap().starts_with("sha256:"), "{said}");
    let error = doubter.docker(["import", url]).fails(1);
    assert!(error.contains("invalid peer certificate"), "{error}");
    // A proxy is only the way there.
    let (proxy, asked) = tunnel(&believer, "127.0.0.1:4443");
    let flag = format!("http://me:secret@{proxy}");
    let behind = setup()
        .wrapper(["env", &trusts])
        .network(believer.network())
        .arguments(["--https-proxy", &flag])
        .start();
    let said = behind.docker(["import", "https://site.test/root.tar"]).ok();
    assert!(said.lines().last().unwrap().starts_with("sha256:"), "{said}");
    let asked = asked.lock().unwrap().clone();
    assert!(asked.starts_with("CONNECT site.test:443 HTTP/1.1\n"), "{asked}");
    assert!(asked.contains("Proxy-Authorization: Basic bWU6c2VjcmV0"), "{asked}");
}

/// A proxy that leads everybody to one server, and the head of what it was asked first.
fn tunnel(daemon: &Daemon, server: &'static str) -> (SocketAddr, Arc<Mutex<String>>) {
    let listener = daemon.in_network(|| TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(String::new()));
    let (heard, network) = (Arc::clone(&asked), daemon.network().clone());
    thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte).unwrap() == 1 {
            head.push(byte[0]);
        }
        *heard.lock().unwrap() = String::from_utf8_lossy(&head).replace("\r\n", "\n");
        let mut server = network.inside(|| TcpStream::connect(server)).unwrap();
        client
            .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
            .unwrap();
        let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        thread::spawn(move || io::copy(&mut from, &mut to));
        let _ = io::copy(&mut server, &mut client);
    });
    (address, asked)
}
