//! Log drivers: what is kept on disk, what goes to which server in which words, and that `logs` shows it all the same.
use std::{fs, path::Path, process::Command};

use corten_testkit::{
    collector::Collector,
    command::run,
    daemon::{Arguments, Daemon},
    image,
    wait::{wait_for, wait_until},
};
use serde_json::Value;

use crate::{background, daemon, setup};

/// Runs a container that prints and ends.
#[track_caller]
fn print(daemon: &Daemon, options: &[&str], script: &str) -> String {
    let mut words: Vec<&str> = "run -d --network none --name box".split(' ').collect();
    words.extend(options);
    words.extend(["busybox", "sh", "-c", script]);
    let id = daemon.docker(&words[..]).ok();
    daemon.docker("wait box").ok();
    id
}

#[test]
fn a_local_log_is_compact_rotates_and_is_compressed() {
    let daemon = daemon();
    let options = "--name box --log-driver local --log-opt max-size=100k --log-opt max-file=4";
    let id = background(&daemon, options, "seq 1 20000; echo oh >&2; printf end");
    daemon.docker("wait box").ok();
    assert_eq!(daemon.inspect("box")["LogPath"], "");
    let directory = daemon.data_root().join("containers").join(&id).join("log");
    wait_until("rotated files are compressed", || {
        (1..4).all(|age| directory.join(format!("container.log.{age}.gz")).exists())
    });
    let text = daemon.docker("logs box");
    assert_eq!(text.error(), "oh");
    let text = text.text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.last(), Some(&"end"));
    let numbers: Vec<u32> = lines[..lines.len() - 1]
        .iter()
        .map(|line| line.parse().unwrap())
        .collect();
    assert_eq!(numbers.last(), Some(&20000));
    assert!(numbers.len() > 3000 && numbers.windows(2).all(|pair| pair[1] == pair[0] + 1));
    // From the end, across files.
    let tail = daemon.docker("logs --tail 9000 box").text();
    assert!(text.ends_with(&tail));
    assert_eq!(daemon.corten("logs --tail 2 box").text(), "end");
    // Any tool unpacks it.
    let packed = directory.join("container.log.1.gz");
    assert!(run(Command::new("gzip").arg("-t").arg(packed)).ok().is_empty());
}

#[test]
fn a_json_file_is_compressed_where_that_is_asked_for() {
    let daemon = daemon();
    let options = "--name box --log-opt max-size=50k --log-opt max-file=3 --log-opt compress=true";
    background(&daemon, options, "seq 1 5000");
    daemon.docker("wait box").ok();
    let path = daemon.inspect("box")["LogPath"].as_str().unwrap().to_owned();
    wait_until("it is compressed", || {
        Path::new(&format!("{path}.2.gz")).exists() && !Path::new(&format!("{path}.1")).exists()
    });
    let unpacked = run(Command::new("gzip").args(["-dc", &format!("{path}.1.gz")])).ok();
    let line: Value = serde_json::from_str(unpacked.lines().next().unwrap()).unwrap();
    assert_eq!(line["stream"], "stdout");
    let text = daemon.docker("logs box").ok();
    let numbers: Vec<u32> = text.lines().map(|line| line.parse().unwrap()).collect();
    assert!(numbers.len() > 1200 && numbers.windows(2).all(|pair| pair[1] == pair[0] + 1));
    assert_eq!(numbers.last(), Some(&5000));
}

#[test]
fn labels_variables_and_tags_stand_in_the_file_and_in_details() {
    let daemon = daemon();
    let options = [
        "--label=team=blue sky",
        "--label=com.example.a=1",
        "--env=STAGE=test",
        "--log-opt=labels=team",
        "--log-opt=labels-regex=^com",
        "--log-opt=env=STAGE",
        "--log-opt=tag={{.Name}}/{{.ImageName | upper}}",
    ];
    print(&daemon, &options, "echo hi");
    let path = daemon.inspect("box")["LogPath"].as_str().unwrap().to_owned();
    let line = fs::read_to_string(path).unwrap();
    assert!(
        line.starts_with(r#"{"log":"hi\n","stream":"stdout","attrs":{"STAGE":"test","#),
        "{line}"
    );
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["attrs"]["team"], "blue sky");
    assert_eq!(line["attrs"]["com.example.a"], "1");
    assert_eq!(line["attrs"]["tag"], "box/BUSYBOX");
    let wanted = "STAGE=test,com.example.a=1,tag=box%2FBUSYBOX,team=blue+sky hi";
    assert_eq!(daemon.docker("logs --details box").ok(), wanted);
    assert_eq!(daemon.corten("logs --details box").ok(), wanted);
}

#[test]
fn syslog_speaks_each_format_on_each_transport() {
    let daemon = daemon();
    let udp = Collector::udp(daemon.network());
    let tcp = Collector::tcp(daemon.network(), 0);
    let stream_path = daemon.root().join("stream.sock");
    let stream = Collector::unix(&stream_path);
    let datagram_path = daemon.root().join("datagram.sock");
    let datagram = Collector::unix_datagram(&datagram_path);
    for (collector, address, format, found) in [
        (
            &udp,
            format!("udp://127.0.0.1:{}", udp.port),
            "rfc5424micro",
            "<158>1 20",
        ),
        (&tcp, format!("tcp://127.0.0.1:{}", tcp.port), "rfc5424", "<158>1 20"),
        (&stream, format!("unix://{}", stream_path.display()), "rfc3164", "<158>"),
        (
            &datagram,
            format!("unixgram://{}", datagram_path.display()),
            "",
            "<158>",
        ),
    ] {
        let address = format!("syslog-address={address}");
        let format = format!("syslog-format={format}");
        let mut options = vec![
            "--log-driver=syslog",
            "--log-opt",
            &address,
            "--log-opt=syslog-facility=local3",
        ];
        if format != "syslog-format=" {
            options.extend(["--log-opt", &format]);
        }
        options.push("--log-opt=tag={{.Name}}");
        print(&daemon, &options, "echo hello; echo; echo problem >&2; printf rest");
        collector.wait_for("all lines", |_| {
            let text = collector.text();
            (text.contains("hello\n") && text.contains("problem\n") && text.contains("rest\n")).then_some(())
        });
        let text = collector.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "an empty line is not sent: {text}");
        assert!(lines[0].starts_with(found) && lines[0].contains(" box"), "{text}");
        assert!(lines.iter().any(|line| line.starts_with("<155>")), "{text}");
        // Beside the remote there is a copy.
        let logs = daemon.docker("logs box");
        assert_eq!(
            (logs.text().as_str(), logs.error().as_str()),
            ("hello\n\nrest", "problem")
        );
        daemon.docker("rm box").ok();
    }
    assert_eq!(udp.received().len(), 3, "a datagram for each line");
}

#[test]
fn syslog_goes_over_tls_to_whom_it_trusts() {
    const SERVER: &str = "
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
listener = socket.create_server(('127.0.0.1', 0))
print(listener.getsockname()[1], flush=True)
while True:
    try:
        with context.wrap_socket(listener.accept()[0], server_side=True) as stream:
            while data := stream.recv(65536):
                with open(sys.argv[3], 'ab') as file: file.write(data)
    except OSError as error:
        print(error, file=sys.stderr)
";
    let daemon = daemon();
    let place = |name: &str| daemon.root().join(name).display().to_string();
    let (key, certificate, output) = (place("key.pem"), place("cert.pem"), place("output"));
    let request = "req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=localhost -addext basicConstraints=critical,CA:FALSE \
         -addext subjectAltName=DNS:localhost,IP:127.0.0.1";
    let mut openssl = Command::new("openssl");
    openssl
        .args(request.words())
        .args(["-keyout", &key, "-out", &certificate]);
    run(&mut openssl).ok();
    let mut server = Command::new("python3");
    server.args(["-c", SERVER, &certificate, &key, &output]);
    let mut server = daemon.in_network(|| corten_testkit::follower::Follower::run(&mut server));
    let address = format!("syslog-address=tcp+tls://127.0.0.1:{}", server.line());
    let authority = format!("syslog-tls-ca-cert={certificate}");
    let common = [
        "--log-driver=syslog",
        "--log-opt",
        &address,
        "--log-opt=syslog-format=rfc5424",
    ];
    let trusting = [&common[..], &["--log-opt", &authority]].concat();
    let careless = [&common[..], &["--log-opt=syslog-tls-skip-verify=1"]].concat();
    for (options, word) in [(trusting, "trusted"), (careless, "believed")] {
        print(&daemon, &options, &format!("echo {word}"));
        let text = wait_for("the line", || {
            let text = fs::read_to_string(&output).unwrap_or_default();
            text.contains(word).then_some(text)
        });
        // RFC 5425: the length comes first.
        let last = text.trim_end().rsplit('\n').next().unwrap();
        let (length, message) = last.split_once(' ').unwrap();
        assert_eq!(length.parse::<usize>().unwrap(), message.len() + 1, "{text}");
        daemon.docker("rm box").ok();
    }
    let stranger = [&common[..], &["busybox", "true"]].concat();
    let words = [&["run", "--rm", "--network=none"], &stranger[..]].concat();
    let error = daemon.docker(&words[..]).fails(125);
    assert!(
        error.contains("failed to initialize logging driver: dial tcp 127.0.0.1"),
        "{error}"
    );
}

/// What of msgpack Docker's driver uses: maps, arrays, texts, integers, and the protocol's own time.
fn msgpack(bytes: &[u8]) -> Option<(Value, &[u8])> {
    let (head, rest) = bytes.split_first()?;
    let take = |rest: &'_ [u8], count: usize| -> Option<u64> {
        Some(
            rest.get(..count)?
                .iter()
                .fold(0, |number, byte| number << 8 | u64::from(*byte)),
        )
    };
    let (kind, length, rest) = match *head {
        0x80..=0x8f => ('m', u64::from(head & 15), rest),
        0x90..=0x9f => ('a', u64::from(head & 15), rest),
        0xa0..=0xbf => ('s', u64::from(head & 31), rest),
        0xda => ('s', take(rest, 2)?, &rest[2..]),
        0xdb => ('s', take(rest, 4)?, &rest[4..]),
        0xd3 => return Some((take(rest, 8)?.into(), &rest[8..])),
        0xd7 => {
            let (seconds, nanoseconds) = (take(rest.get(1..)?, 4)?, take(rest.get(5..)?, 4)?);
            return Some((
                serde_json::json!({"seconds": seconds, "nanoseconds": nanoseconds}),
                &rest[9..],
            ));
        }
        other => panic!("unknown msgpack {other:#x}"),
    };
    let mut rest = rest;
    let mut next = || {
        let (value, after) = msgpack(rest)?;
        rest = after;
        Some(value)
    };
    let value = match kind {
        's' => {
            let (text, after) = rest.split_at_checked(length as usize)?;
            rest = after;
            String::from_utf8_lossy(text).into()
        }
        'a' => Value::Array((0..length).map(|_| next()).collect::<Option<_>>()?),
        _ => {
            let pairs = (0..length).map(|_| Some((next()?.as_str()?.to_owned(), next()?)));
            Value::Object(pairs.collect::<Option<_>>()?)
        }
    };
    Some((value, rest))
}

fn messages(mut bytes: &[u8]) -> Vec<Value> {
    let mut messages = Vec::new();
    while let Some((message, rest)) = msgpack(bytes) {
        messages.push(message);
        bytes = rest;
    }
    messages
}

#[test]
fn fluentd_gets_records_with_pieces_of_long_lines_named() {
    let daemon = daemon();
    let collector = Collector::tcp(daemon.network(), 0);
    let address = format!("fluentd-address=127.0.0.1:{}", collector.port);
    let options = [
        "--log-driver=fluentd",
        "--log-opt",
        &address,
        "--log-opt=fluentd-sub-second-precision=true",
        "--log-opt=tag=docker.{{.Name}}",
        "--label=team=blue",
        "--log-opt=labels=team",
    ];
    let id = print(
        &daemon,
        &options,
        "echo hi; head -c 20000 /dev/zero | tr '\\0' x; echo; echo oh >&2",
    );
    let found = collector.wait_for("four records", |received| {
        let found = messages(&received.concat());
        (found.len() == 4).then_some(found)
    });
    let by_text = |text: &str| found.iter().find(|message| message[2]["log"] == text).expect(text);
    let first = by_text("hi");
    assert_eq!(first[0], "docker.box");
    assert!(first[1]["seconds"].as_u64().unwrap() > 1_700_000_000 && first[1]["nanoseconds"].is_u64());
    assert_eq!(first[2]["container_id"], id);
    assert_eq!(first[2]["container_name"], "/box");
    assert_eq!(first[2]["source"], "stdout");
    assert_eq!(first[2]["team"], "blue");
    assert_eq!(first[2]["partial_message"], Value::Null);
    assert_eq!(by_text("oh")[2]["source"], "stderr");
    let (begin, rest) = (by_text(&"x".repeat(16384)), by_text(&"x".repeat(20000 - 16384)));
    assert_eq!(
        (&begin[2]["partial_ordinal"], &begin[2]["partial_last"]),
        (&"1".into(), &"false".into())
    );
    assert_eq!(
        (&rest[2]["partial_ordinal"], &rest[2]["partial_last"]),
        (&"2".into(), &"true".into())
    );
    assert_eq!(begin[2]["partial_id"], rest[2]["partial_id"]);
    assert_eq!(begin[2]["partial_message"], "true");
}

#[test]
fn fluentd_that_is_not_there_fails_a_start_unless_it_may_come_later() {
    let daemon = daemon();
    let collector = Collector::tcp(daemon.network(), 0);
    let port = collector.port;
    drop(collector);
    let address = format!("fluentd-address=tcp://127.0.0.1:{port}");
    let run = [
        "run",
        "-d",
        "--network=none",
        "--log-driver=fluentd",
        "--log-opt",
        &address,
    ];
    let error = daemon
        .docker(&[&run[..], &["--name=box", "busybox", "echo", "x"]].concat()[..])
        .fails(125);
    let wanted = format!("failed to initialize logging driver: dial tcp 127.0.0.1:{port}: connect: connection refused");
    assert!(error.contains(&wanted), "{error}");
    assert_eq!(daemon.status("box"), "created");
    let words = [
        &run[..],
        &["--log-opt=fluentd-async=true", "--log-opt=fluentd-retry-wait=50ms"],
    ]
    .concat();
    daemon
        .docker(&[&words[..], &["--name=late", "busybox", "echo", "patience"]].concat()[..])
        .ok();
    daemon.docker("wait late").ok();
    assert_eq!(daemon.docker("logs late").ok(), "patience");
    let collector = Collector::tcp(daemon.network(), port);
    collector.wait_for("the line", |_| collector.text().contains("patience").then_some(()));
}

#[test]
fn gelf_goes_in_compressed_datagrams_or_over_tcp() {
    let daemon = daemon();
    let udp = Collector::udp(daemon.network());
    let tcp = Collector::tcp(daemon.network(), 0);
    let address = format!("gelf-address=udp://127.0.0.1:{}", udp.port);
    let options = [
        "--log-driver=gelf",
        "--log-opt",
        &address,
        "--env=STAGE=test",
        "--log-opt=env=STAGE",
    ];
    // Random, so that it does not fit into one datagram.
    print(
        &daemon,
        &options,
        "echo hi; head -c 6000 /dev/urandom | base64 | tr -d '\\n'; echo; echo oh >&2",
    );
    let packed = udp.wait_for("whole messages", |received| {
        let chunked = received
            .iter()
            .filter(|datagram| datagram.starts_with(&[0x1e, 0x0f]))
            .count();
        (received.len() > 6 && received.len() - chunked == 2).then(|| received.to_vec())
    });
    let (mut chunks, whole): (Vec<_>, Vec<_>) = packed.into_iter().partition(|datagram| datagram[0] == 0x1e);
    chunks.sort_by_key(|chunk| chunk[10]);
    assert!(chunks.iter().enumerate().all(|(number, chunk)| {
        chunk[10] == number as u8 && usize::from(chunk[11]) == chunks.len() && chunk[2..10] == chunks[0][2..10]
    }));
    let large: Vec<u8> = chunks.iter().flat_map(|chunk| chunk[12..].to_vec()).collect();
    let unpack = |bytes: &[u8]| -> Value {
        let path = daemon.root().join("message.gz");
        fs::write(&path, bytes).unwrap();
        run(Command::new("gzip").arg("-dc").arg(path)).json()
    };
    assert_eq!(unpack(&large)["short_message"].as_str().unwrap().len(), 8000);
    let documents: Vec<Value> = whole.iter().map(|datagram| unpack(datagram)).collect();
    let by_text = |text: &str| {
        documents
            .iter()
            .find(|document| document["short_message"] == text)
            .expect(text)
    };
    assert_eq!(by_text("hi")["level"], 6);
    assert_eq!(by_text("hi")["_STAGE"], "test");
    assert_eq!(by_text("hi")["_container_name"], "box");
    assert_eq!(by_text("oh")["level"], 3);
    daemon.docker("rm box").ok();

    let address = format!("gelf-address=tcp://127.0.0.1:{}", tcp.port);
    print(
        &daemon,
        &["--log-driver=gelf", "--log-opt", &address],
        "echo one; echo two",
    );
    let text = tcp.wait_for("both", |_| {
        Some(tcp.text()).filter(|text| text.matches('\0').count() == 2)
    });
    let documents: Vec<Value> = text
        .split_terminator('\0')
        .map(|part| serde_json::from_str(part).unwrap())
        .collect();
    assert_eq!(documents[1]["short_message"], "two");
    assert_eq!(documents[1]["version"], "1.1");
}

#[test]
fn journald_gets_dockers_fields() {
    // A journal of the test's own, where the daemon looks for the host's.
    let directory = tempfile::tempdir().unwrap();
    let collector = Collector::unix_datagram(&directory.path().join("socket"));
    let mounts = format!(
        "mount -t tmpfs none /run && mkdir -p /run/systemd/journal && mount --bind {} /run/systemd/journal && exec \"$@\"",
        directory.path().display()
    );
    let wrapper = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        &mounts,
        "sh",
    ];
    let daemon = setup().wrapper(wrapper).start();
    daemon.load(&image::busybox());
    let id = print(
        &daemon,
        &["--log-driver=journald", "--log-opt=tag={{.Name}}"],
        "echo hi; echo oh >&2",
    );
    let received = collector.wait_for("both", |received| (received.len() == 2).then(|| received.to_vec()));
    let text = received.iter().map(|datagram| String::from_utf8_lossy(datagram));
    let (first, second): (Vec<_>, Vec<_>) = text.partition(|datagram| datagram.contains("\nMESSAGE=hi\n"));
    for field in [
        "PRIORITY=6\n",
        &format!("CONTAINER_ID={}\n", &id[..12]),
        &format!("CONTAINER_ID_FULL={id}\n"),
        "CONTAINER_NAME=box\n",
        "CONTAINER_TAG=box\n",
        "SYSLOG_IDENTIFIER=box\n",
        "IMAGE_NAME=busybox\n",
    ] {
        assert!(first[0].contains(field), "{field}: {}", first[0]);
    }
    assert!(second[0].contains("PRIORITY=3\n") && second[0].contains("MESSAGE=oh\n"));
    assert_eq!(daemon.docker("logs box").text(), "hi");
}

#[test]
fn a_journal_that_is_not_there_fails_the_start() {
    let mounts = "mount -t tmpfs none /run && exec \"$@\"";
    let wrapper = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        mounts,
        "sh",
    ];
    let daemon = setup().wrapper(wrapper).start();
    daemon.load(&image::busybox());
    let error = daemon
        .docker("run --network none --log-driver journald busybox true")
        .fails(125);
    assert!(
        error.contains("failed to initialize logging driver: journald is not enabled on this host"),
        "{error}"
    );
}

#[test]
fn without_a_copy_logs_cannot_be_read() {
    let daemon = daemon();
    let collector = Collector::tcp(daemon.network(), 0);
    let address = format!("syslog-address=tcp://127.0.0.1:{}", collector.port);
    let options = [
        "--log-driver=syslog",
        "--log-opt",
        &address,
        "--log-opt=cache-disabled=true",
    ];
    print(&daemon, &options, "echo hi");
    collector.wait_for("the line", |_| collector.text().contains(": hi\n").then_some(()));
    let error = daemon.docker("logs box").fails(1);
    assert!(
        error.contains("configured logging driver does not support reading"),
        "{error}"
    );
    let answer = daemon.api().get("/containers/box/logs?stdout=1").expect(501);
    assert_eq!(answer.message(), "configured logging driver does not support reading");
}

#[test]
fn a_daemon_has_a_driver_and_options_of_its_own() {
    let arguments = "--log-driver local --log-opt max-size=1m --log-opt max-file=2";
    let daemon = setup().arguments(arguments).start();
    daemon.load(&image::busybox());
    print(&daemon, &[], "echo hi");
    let log = &daemon.inspect("box")["HostConfig"]["LogConfig"];
    assert_eq!(
        (&log["Type"], &log["Config"]["max-size"]),
        (&"local".into(), &"1m".into())
    );
    assert_eq!(daemon.docker("logs box").ok(), "hi");
    let info = daemon.api().get("/info").expect(200).json();
    assert_eq!(info["LoggingDriver"], "local");
    let drivers = ["fluentd", "gelf", "journald", "json-file", "local", "syslog"];
    assert_eq!(info["Plugins"]["Log"], serde_json::json!(drivers));
    let output = setup().arguments("--log-driver local --log-opt tag=x").start_in_vain();
    assert!(output.fails(1).contains("unknown log opt 'tag' for log driver local"));
}
