//! `docker cp` in both directions, as Docker does it: paths, links, owners, times, mounts, and every state of a container.
use std::{
    fs,
    io::Read,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink},
    path::PathBuf,
};

use corten_testkit::{
    archive::{Header, Tar},
    command::Output,
    daemon::Daemon,
    wait::wait_until,
};
use serde_json::Value;

use crate::{WAIT, background, daemon, kept};

/// A directory for this side of a copy.
fn local(daemon: &Daemon) -> PathBuf {
    let directory = daemon.root().join("local");
    fs::create_dir_all(&directory).unwrap();
    directory
}

/// `docker cp FROM TO`
#[track_caller]
fn cp(daemon: &Daemon, from: &str, to: &str) -> Output {
    daemon.docker(["cp", from, to])
}

/// Sends an archive as `PUT /containers/{name}/archive` does.
#[track_caller]
pub fn put(daemon: &Daemon, name: &str, query: &str, archive: &[u8]) -> corten_testkit::api::Response {
    let mut connection = daemon.api().open();
    connection.send_raw(&format!(
        "PUT /containers/{name}/archive?{query} HTTP/1.1\r\nHost: corten\r\nContent-Type: application/x-tar\r\n\
         Content-Length: {}\r\n\r\n",
        archive.len()
    ));
    let _ = std::io::Write::write_all(&mut connection.stream, archive);
    connection.response("PUT")
}

/// The entries of an archive by name: kind, mode, content or link.
pub fn entries(archive: &[u8]) -> Vec<(String, u8, u32, Vec<u8>)> {
    let mut entries = Vec::new();
    let mut rest = archive;
    while rest.len() >= 512 && rest[..512].iter().any(|&byte| byte != 0) {
        let text = |range: std::ops::Range<usize>| {
            let field = &rest[range];
            let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
            String::from_utf8_lossy(&field[..end]).into_owned()
        };
        let octal = |range| u64::from_str_radix(text(range).trim(), 8).unwrap_or(0);
        let size = octal(124..136) as usize;
        let kind = rest[156];
        let content = match kind {
            b'1' | b'2' => text(157..257).into_bytes(),
            _ => rest[512..512 + size].to_vec(),
        };
        let prefix = text(345..500);
        let name = if prefix.is_empty() {
            text(0..100)
        } else {
            format!("{prefix}/{}", text(0..100))
        };
        entries.push((name, kind, octal(100..108) as u32, content));
        rest = &rest[(512 + size.next_multiple_of(512)).min(rest.len())..];
    }
    entries
}

fn names(archive: &[u8]) -> Vec<String> {
    entries(archive).into_iter().map(|(name, ..)| name).collect()
}

/// The document in a path's header.
#[track_caller]
fn stat(daemon: &Daemon, name: &str, path: &str) -> Value {
    let response = daemon
        .api()
        .request("HEAD", &format!("/containers/{name}/archive?path={path}"), None)
        .expect(200);
    let header = response.header("X-Docker-Container-Path-Stat").unwrap().to_owned();
    let decoded = std::process::Command::new("sh")
        .args(["-c", "printf %s \"$0\" | base64 -d", &header])
        .output()
        .unwrap();
    serde_json::from_slice(&decoded.stdout).unwrap()
}

#[test]
fn a_file_goes_in_and_comes_out_in_every_state_of_a_container() {
    let daemon = daemon();
    let local = local(&daemon);
    fs::write(local.join("in"), "hello\n").unwrap();
    daemon.docker("create --name fresh --network none busybox true").ok();
    background(&daemon, "--name running", WAIT);
    background(&daemon, "--name paused", WAIT);
    daemon.docker("pause paused").ok();
    daemon.docker("run --name ended --network none busybox true").ok();
    for name in ["fresh", "running", "paused", "ended"] {
        cp(
            &daemon,
            local.join("in").to_str().unwrap(),
            &format!("{name}:/tmp/file"),
        )
        .ok();
        let out = local.join(name);
        cp(&daemon, &format!("{name}:/tmp/file"), out.to_str().unwrap()).ok();
        assert_eq!(fs::read_to_string(&out).unwrap(), "hello\n", "{name}");
    }
    daemon.docker("unpause paused").ok();
    for name in ["running", "paused"] {
        assert_eq!(daemon.exec(name, "cat /tmp/file").ok(), "hello", "{name}");
    }
    daemon.docker("start -a fresh").ok();
    cp(&daemon, "fresh:/tmp/file", local.join("again").to_str().unwrap()).ok();
    daemon.docker("rm -f fresh running paused ended").ok();
    daemon.assert_nothing_remains();
}

#[test]
fn what_a_stopped_container_is_given_is_there_when_it_starts() {
    let daemon = daemon();
    daemon
        .docker([
            "create",
            "--name",
            "box",
            "--rm",
            "--network",
            "none",
            "busybox",
            "cat",
            "/etc/given",
        ])
        .ok();
    let archive = Tar::new().file("given", 0o644, b"before the start\n").finish();
    put(&daemon, "box", "path=/etc", &archive).expect(200);
    assert_eq!(daemon.docker("start -a box").ok(), "before the start");
    daemon.assert_nothing_remains();
}

#[test]
fn a_directory_is_copied_under_its_name_or_the_one_it_is_given() {
    let daemon = daemon();
    background(&daemon, "--name box", WAIT);
    let local = local(&daemon);
    fs::create_dir_all(local.join("dir/sub")).unwrap();
    fs::write(local.join("dir/sub/file"), "x").unwrap();
    let source = local.join("dir");
    let source = source.to_str().unwrap();
    let list = |path: &str| {
        daemon
            .exec(
                "box",
                ["sh", "-c", &format!("cd {path} && find . | sort | tr '\\n' ' '")],
            )
            .ok()
    };
    cp(&daemon, source, "box:/tmp").ok();
    assert_eq!(list("/tmp"), ". ./dir ./dir/sub ./dir/sub/file ");
    cp(&daemon, source, "box:/home/new").ok();
    assert_eq!(list("/home"), ". ./new ./new/sub ./new/sub/file ");
    cp(&daemon, &format!("{source}/."), "box:/root").ok();
    assert_eq!(list("/root"), ". ./sub ./sub/file ");
    cp(&daemon, "box:/tmp/dir", local.join("copy").to_str().unwrap()).ok();
    assert!(local.join("copy/sub/file").exists());
    fs::create_dir(local.join("there")).unwrap();
    cp(&daemon, "box:/tmp/dir/.", local.join("there").to_str().unwrap()).ok();
    assert!(local.join("there/sub/file").exists());
}

#[test]
fn archives_begin_with_the_name_that_was_asked_for() {
    let daemon = daemon();
    kept(
        &daemon,
        "--name box",
        "mkdir -p /d/e; echo 1 >/d/f; ln -s d /l; ln -s /d/f /lf",
    )
    .ok();
    let get = |path: &str| {
        let path = format!("/containers/box/archive?path={path}");
        names(&daemon.api().get(&path).expect(200).body)
    };
    assert_eq!(get("/d"), ["d/", "d/e/", "d/f"]);
    assert_eq!(get("d/"), ["d/", "d/e/", "d/f"]);
    assert_eq!(get("/d/."), ["./", "./e/", "./f"]);
    assert_eq!(get("/d/f"), ["f"]);
    assert_eq!(get("/l"), ["l"]);
    assert_eq!(get("/l/"), ["l/", "l/e/", "l/f"]);
    assert_eq!(get("/l/f"), ["f"]);
    let root = get("/");
    assert!(root[0] == "/" && root.contains(&"/d/f".to_owned()), "{root:?}");
}

#[test]
fn a_path_is_told_as_go_tells_it() {
    let daemon = daemon();
    let script = "cd /tmp; echo 12345 >f; chmod 4751 f; mkdir d; ln -s /etc/../tmp/f link; ln -s no/../where dangling; \
                  mkfifo p; mknod c c 1 3; touch -d @1700000000 f";
    kept(&daemon, "--name box", script).ok();
    let mode = |path: &str| stat(&daemon, "box", path)["mode"].as_u64().unwrap();
    let file = stat(&daemon, "box", "/tmp/f");
    assert_eq!((file["name"].as_str(), file["size"].as_i64()), (Some("f"), Some(6)));
    assert_eq!(file["mtime"], "2023-11-14T22:13:20Z");
    assert_eq!(file["linkTarget"], "");
    assert_eq!(mode("/tmp/f"), 0o751 | 1 << 23);
    assert_eq!(mode("/tmp/d"), 0o755 | 1 << 31);
    assert_eq!(mode("/tmp"), 0o777 | 1 << 31 | 1 << 20);
    assert_eq!(mode("/tmp/p"), 0o644 | 1 << 25);
    assert_eq!(mode("/tmp/c"), 0o644 | 1 << 26 | 1 << 21);
    let link = stat(&daemon, "box", "/tmp/link");
    assert_eq!(
        (link["linkTarget"].as_str(), link["mode"].as_u64().unwrap() >> 27 & 1),
        (Some("/tmp/f"), 1)
    );
    assert_eq!(stat(&daemon, "box", "/tmp/dangling")["linkTarget"], "/tmp/where");
    assert_eq!(stat(&daemon, "box", "/")["name"], "/");
    assert_eq!(stat(&daemon, "box", "/tmp/d/.")["name"], ".");
}

#[test]
fn what_is_not_there_is_said_in_dockers_words() {
    let daemon = daemon();
    daemon.docker("create --name box --network none busybox true").ok();
    let api = daemon.api();
    let get = |path: &str| api.get(&format!("/containers/{path}"));
    assert_eq!(
        get("box/archive?path=/no/such").expect(404).message(),
        "Could not find the file /no/such in container box"
    );
    assert_eq!(
        get("nobody/archive?path=/").expect(404).message(),
        "No such container: nobody"
    );
    get("box/archive").expect(400);
    for path in ["/etc/passwd/", "/etc/passwd/x", "/proc/cpuinfo"] {
        get(&format!("box/archive?path={path}")).expect(404);
    }
    let archive = Tar::new().file("f", 0o644, b"x").finish();
    assert_eq!(
        put(&daemon, "box", "path=/etc/passwd", &archive).expect(400).message(),
        "extraction point is not a directory"
    );
    assert_eq!(
        put(&daemon, "box", "path=/no/such", &archive).expect(404).message(),
        "Could not find the file /no/such in container box"
    );
    api.request("HEAD", "/containers/box/archive?path=/no/such", None)
        .expect(404);
    let error = cp(&daemon, "box:/no/such", "-").fails(1);
    assert!(
        error.contains("Could not find the file /no/such in container box"),
        "{error}"
    );
}

#[test]
fn kinds_do_not_change_where_that_is_not_wanted() {
    let daemon = daemon();
    kept(&daemon, "--name box", "mkdir /tmp/d; echo 1 >/tmp/f").ok();
    let file = Tar::new().file("d", 0o644, b"x").finish();
    let directory = Tar::new().directory("f/", 0o755).finish();
    for (archive, message) in [
        (
            &file,
            "cannot overwrite directory \"/tmp/d\" with non-directory \"/tmp\"",
        ),
        (
            &directory,
            "cannot overwrite non-directory \"/tmp/f\" with directory \"/tmp\"",
        ),
    ] {
        let query = "path=/tmp&noOverwriteDirNonDir=true";
        assert_eq!(put(&daemon, "box", query, archive).expect(400).message(), message);
        put(&daemon, "box", "path=/tmp", archive).expect(200);
    }
    assert_eq!(stat(&daemon, "box", "/tmp/d")["size"], 1);
    assert_eq!(stat(&daemon, "box", "/tmp/f")["mode"].as_u64().unwrap() >> 31, 1);
}

#[test]
fn owners_modes_times_links_and_attributes_arrive() {
    let daemon = daemon();
    background(&daemon, "--name box", WAIT);
    let local = local(&daemon).join("tree");
    fs::create_dir_all(local.join("d")).unwrap();
    fs::write(local.join("d/f"), "x").unwrap();
    fs::hard_link(local.join("d/f"), local.join("d/hard")).unwrap();
    symlink("f", local.join("d/link")).unwrap();
    chown(local.join("d/f"), Some(1000), Some(60)).unwrap();
    fs::set_permissions(local.join("d/f"), fs::Permissions::from_mode(0o2640)).unwrap();
    fs::set_permissions(local.join("d"), fs::Permissions::from_mode(0o711)).unwrap();
    for path in ["d/f", "d"] {
        run("touch", &["-d", "@1600000000", local.join(path).to_str().unwrap()]);
    }
    cp(&daemon, local.to_str().unwrap(), "box:/tmp").ok();
    let script = "cd /tmp/tree; stat -c '%n %a %u:%g %h %Y' d d/f; readlink d/link";
    assert_eq!(
        daemon.exec("box", ["sh", "-c", script]).ok(),
        "d 711 0:0 2 1600000000\nd/f 2640 1000:60 2 1600000000\nf"
    );
    cp(
        &daemon,
        "box:/tmp/tree",
        local.parent().unwrap().join("back").to_str().unwrap(),
    )
    .ok();
    let back = local.parent().unwrap().join("back/d");
    let metadata = fs::metadata(back.join("f")).unwrap();
    assert_eq!(
        (metadata.mode() & 0o7777, metadata.mtime(), metadata.nlink()),
        (0o2640, 1_600_000_000, 2)
    );
    assert_eq!(fs::read_link(back.join("link")).unwrap().to_str(), Some("f"));
    assert_eq!(fs::metadata(&back).unwrap().mtime(), 1_600_000_000);
}

fn run(program: &str, arguments: &[&str]) {
    assert!(
        std::process::Command::new(program)
            .args(arguments)
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn everything_belongs_to_the_containers_user_where_that_is_asked() {
    let daemon = daemon();
    background(&daemon, "--name box --user app", WAIT);
    let local = local(&daemon);
    fs::write(local.join("f"), "x").unwrap();
    chown(local.join("f"), Some(33), Some(33)).unwrap();
    let source = local.join("f");
    daemon.docker(["cp", source.to_str().unwrap(), "box:/tmp/kept"]).ok();
    daemon
        .docker(["cp", "-a", source.to_str().unwrap(), "box:/tmp/given"])
        .ok();
    let owners = daemon
        .exec("box", ["stat", "-c", "%u:%g", "/tmp/kept", "/tmp/given"])
        .ok();
    assert_eq!(owners, "33:33\n1000:1000");
}

#[test]
fn capabilities_and_devices_and_holes_travel() {
    let daemon = daemon();
    let header = Header::new(b'3', "null", 0o666).device(1, 3);
    let archive = Tar::new()
        .extended(&[("SCHILY.xattr.user.colour", "red")])
        .file("f", 0o644, b"x")
        .entry(header, b"")
        .entry(Header::new(b'6', "fifo", 0o640), b"")
        .finish();
    daemon.docker("create --name box --network none busybox true").ok();
    put(&daemon, "box", "path=/tmp", &archive).expect(200);
    let upper = daemon
        .data_root()
        .join("active")
        .join(id(&daemon, "box"))
        .join("upper/tmp");
    assert!(fs::metadata(upper.join("null")).unwrap().file_type().is_char_device());
    assert!(fs::metadata(upper.join("fifo")).unwrap().file_type().is_fifo());
    let body = daemon.api().get("/containers/box/archive?path=/tmp").expect(200).body;
    let found = entries(&body);
    assert!(
        found.iter().any(|(name, kind, ..)| name == "tmp/null" && *kind == b'3'),
        "{found:?}"
    );
    let attributes = found
        .iter()
        .find(|(_, kind, ..)| *kind == b'x')
        .expect("attributes are told");
    assert!(String::from_utf8_lossy(&attributes.3).contains("SCHILY.xattr.user.colour=red"));
    // Holes stay holes, on the way out and in again.
    fs::File::create(upper.join("sparse"))
        .unwrap()
        .set_len(1 << 30)
        .unwrap();
    let body = daemon
        .api()
        .get("/containers/box/archive?path=/tmp/sparse")
        .expect(200)
        .body;
    assert!(body.len() < 100_000, "{} bytes", body.len());
    put(&daemon, "box", "path=/root", &body).expect(200);
    let copy = fs::metadata(upper.join("../root/sparse")).unwrap();
    assert!(copy.len() == 1 << 30 && copy.blocks() < 1000);
}

fn id(daemon: &Daemon, name: &str) -> String {
    daemon.inspect(name)["Id"].as_str().unwrap().to_owned()
}

#[test]
fn mounts_are_seen_running_and_stopped() {
    let daemon = daemon();
    let host = daemon.root().join("host");
    fs::create_dir(&host).unwrap();
    let bind = format!("-v {}:/bind -v vol:/vol --tmpfs /scratch", host.display());
    background(&daemon, format!("--name box {bind}").as_str(), WAIT);
    let archive = |text: &str| Tar::new().file("f", 0o644, text.as_bytes()).finish();
    let text = |path: &str| {
        let body = daemon
            .api()
            .get(&format!("/containers/box/archive?path={path}"))
            .expect(200)
            .body;
        String::from_utf8(entries(&body).remove(0).3).unwrap()
    };
    for path in ["/bind", "/vol", "/scratch"] {
        put(&daemon, "box", &format!("path={path}"), &archive(path)).expect(200);
        assert_eq!(daemon.exec("box", ["cat", &format!("{path}/f")]).ok(), path);
        assert_eq!(text(&format!("{path}/f")), path);
    }
    assert_eq!(fs::read_to_string(host.join("f")).unwrap(), "/bind");
    assert!(text("/etc/hosts").contains("localhost"));
    daemon.docker("stop -t 1 box").ok();
    assert_eq!(text("/bind/f"), "/bind");
    assert_eq!(text("/vol/f"), "/vol");
    daemon.api().get("/containers/box/archive?path=/scratch/f").expect(404);
    put(&daemon, "box", "path=/vol", &archive("again")).expect(200);
    assert_eq!(
        fs::read_to_string(daemon.data_root().join("volumes/vol/_data/f")).unwrap(),
        "again"
    );
    assert!(text("/etc/hosts").contains("localhost"));
    // Of a container that never ran, whose mounts have no place yet.
    daemon
        .docker(["create", "--name", "fresh", "-v", "vol:/deep/down", "busybox"])
        .ok();
    let body = daemon
        .api()
        .get("/containers/fresh/archive?path=/deep/down/f")
        .expect(200)
        .body;
    assert_eq!(entries(&body)[0].3, b"again");
    daemon.docker("rm -fv box fresh").ok();
    daemon.assert_nothing_remains();
}

#[test]
fn read_only_roots_and_volumes_take_nothing() {
    let daemon = daemon();
    let options = "--read-only -v closed:/closed:ro -v open:/open";
    background(&daemon, format!("--name running {options}").as_str(), WAIT);
    daemon
        .docker(format!("create --name fresh --network none {options} busybox true").as_str())
        .ok();
    let archive = Tar::new().file("f", 0o644, b"x").finish();
    for name in ["running", "fresh"] {
        assert_eq!(
            put(&daemon, name, "path=/tmp", &archive).expect(403).message(),
            "container rootfs is marked read-only"
        );
        assert_eq!(
            put(&daemon, name, "path=/closed", &archive).expect(403).message(),
            "mounted volume is marked read-only"
        );
        put(&daemon, name, "path=/open", &archive).expect(200);
        daemon
            .api()
            .get(&format!("/containers/{name}/archive?path=/etc/passwd"))
            .expect(200);
    }
}

#[test]
fn a_mounted_file_keeps_its_place_and_gets_new_contents() {
    let daemon = daemon();
    background(&daemon, "--name box", WAIT);
    let archive = Tar::new().file("hosts", 0o644, b"10.0.0.1 copied\n").finish();
    put(&daemon, "box", "path=/etc", &archive).expect(200);
    assert_eq!(daemon.exec("box", "cat /etc/hosts").ok(), "10.0.0.1 copied");
    let mounted = daemon
        .exec("box", ["grep", "-c", " /etc/hosts ", "/proc/self/mountinfo"])
        .ok();
    assert_eq!(mounted, "1");
}

#[test]
fn tar_streams_pass_through_standard_input_and_output() {
    let daemon = daemon();
    background(&daemon, "--name box", WAIT);
    let plain = Tar::new()
        .directory("d/", 0o755)
        .file("d/f", 0o644, b"streamed")
        .finish();
    daemon.docker_with_input(["cp", "-", "box:/tmp"], &plain).ok();
    assert_eq!(daemon.exec("box", "cat /tmp/d/f").ok(), "streamed");
    let out = daemon.docker(["cp", "box:/tmp/d", "-"]);
    assert_eq!(names(&out.stdout), ["d/", "d/f"]);
    let mut gzip = std::process::Command::new("gzip")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut gzip.stdin.take().unwrap(), &plain).unwrap();
    let mut compressed = Vec::new();
    gzip.stdout.take().unwrap().read_to_end(&mut compressed).unwrap();
    gzip.wait().unwrap();
    daemon.docker_with_input(["cp", "-", "box:/root"], &compressed).ok();
    assert_eq!(daemon.exec("box", "cat /root/d/f").ok(), "streamed");
    put(&daemon, "box", "path=/tmp", b"").expect(200);
    put(&daemon, "box", "path=/tmp", b"this is no archive at all").expect(400);
}

#[test]
fn our_own_command_line_copies_as_dockers_does() {
    let daemon = daemon();
    background(&daemon, "--name box", WAIT);
    let local = local(&daemon);
    fs::create_dir_all(local.join("dir/sub")).unwrap();
    fs::write(local.join("dir/sub/file"), "x").unwrap();
    symlink("dir", local.join("link")).unwrap();
    let place = |name: &str| local.join(name).to_str().unwrap().to_owned();
    // Each line once with either program, into places of their own.
    let both = |arguments: &dyn Fn(&str) -> Vec<String>| {
        let own = daemon.corten(arguments("corten"));
        let dockers = daemon.docker(arguments("docker"));
        // Before its error or after it, docker's tells what its threads ran into.
        let plain = |output: &Output| {
            let text = output.error();
            let error = text.lines().rfind(|line| !line.starts_with("time="));
            (
                output.code,
                output.text(),
                error.unwrap_or_default().replace("corten", "docker"),
            )
        };
        let (own, dockers) = (plain(&own), plain(&dockers));
        assert_eq!(own, dockers);
        own
    };
    let words = |list: &[&str]| list.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    both(&|who| words(&["cp", &place("dir"), &format!("box:/tmp/{who}")]));
    both(&|who| words(&["cp", &place("dir/."), &format!("box:/root/{who}")]));
    both(&|who| words(&["cp", "-L", &place("link"), &format!("box:/home/{who}")]));
    both(&|who| words(&["cp", &place("link"), &format!("box:/etc/{who}")]));
    both(&|who| words(&["cp", "box:/tmp/docker", &place(&format!("out-{who}"))]));
    both(&|who| words(&["cp", "box:/tmp/docker/sub/file", &place(&format!("file-{who}"))]));
    both(&|_| words(&["cp", "box:/etc/passwd", "-"]));
    for who in ["docker", "corten"] {
        let found = daemon
            .exec(
                "box",
                ["sh", "-c", &format!("cd /tmp/{who} && find . | sort | tr '\\n' ' '")],
            )
            .ok();
        assert_eq!(found, ". ./sub ./sub/file ", "{who}");
        let found = daemon
            .exec(
                "box",
                ["sh", "-c", &format!("cd /root/{who} && find . | sort | tr '\\n' ' '")],
            )
            .ok();
        assert_eq!(found, ". ./sub ./sub/file ", "{who}");
        let found = daemon
            .exec(
                "box",
                ["sh", "-c", &format!("test -d /home/{who}/sub && readlink /etc/{who}")],
            )
            .ok();
        assert_eq!(found, "dir");
        assert!(local.join(format!("out-{who}/sub/file")).exists() && local.join(format!("file-{who}")).is_file());
    }
    for arguments in [
        &["cp", "a", "b"][..],
        &["cp", "box:/a", "box:/b"],
        &["cp", "", "box:/b"],
        &["cp", "box:/etc", ""],
        &["cp", "box:/etc", "/no/such/place"],
        &["cp", "box:/no/such", "/tmp"],
        &["cp", "box:/etc/passwd", "/dev/null"],
        &["cp", "/no/such/file", "box:/tmp"],
        &["cp", "/etc/hostname", "box:/tmp/new/"],
        &["cp", "/etc", "box:/etc/passwd"],
        &["cp", "-", "box:/etc/passwd"],
        &["cp", "/etc/hostname", "nobody:/tmp"],
    ] {
        let (code, ..) = both(&|_| words(arguments));
        assert_eq!(code, 1, "{arguments:?}");
    }
}

/// Everything that was told so far.
pub fn events(daemon: &Daemon) -> Vec<Value> {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let path = format!("/events?since=1&until={}", now.as_secs() + 1);
    let body = daemon.api().get(&path).expect(200).text();
    body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn copies_are_told_as_events() {
    let daemon = daemon();
    daemon.docker("create --name box --network none busybox true").ok();
    daemon.api().get("/containers/box/archive?path=/etc/passwd").expect(200);
    put(&daemon, "box", "path=/tmp", &Tar::new().file("f", 0o644, b"x").finish()).expect(200);
    daemon.api().get("/containers/box/export").expect(200);
    let actions: Vec<_> = events(&daemon)
        .into_iter()
        .filter_map(|event| event["Action"].as_str().map(str::to_owned))
        .filter(|action| action.contains('-') || action == "export")
        .collect();
    assert_eq!(actions, ["archive-path", "extract-to-dir", "export"]);
}

/// What the daemon holds that copies could leave: descriptors, threads, mounts.
fn holdings(daemon: &Daemon) -> (usize, usize, usize) {
    let count = |what: &str| fs::read_dir(format!("/proc/{}/{what}", daemon.pid())).unwrap().count();
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", daemon.pid())).unwrap();
    let archives = fs::read_dir(format!("/proc/{}/task", daemon.pid()))
        .unwrap()
        .flatten()
        .filter(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == "archive"))
        .count();
    (count("fd"), archives, mounts.lines().count())
}

#[test]
fn clients_that_vanish_leave_nothing_behind() {
    let daemon = daemon();
    let script = "dd if=/dev/zero of=/big bs=1M count=64 2>/dev/null; trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done";
    background(&daemon, "--name running", script);
    daemon.wait_for_log("running", "ready");
    kept(&daemon, "--name ended", "dd if=/dev/zero of=/big bs=1M count=64").ok();
    // Once, so that what stays for good is there.
    let once = |name: &str| {
        for path in ["archive?path=/big", "export"] {
            let mut connection = daemon.api().open();
            connection.send("GET", &format!("/containers/{name}/{path}"), None);
            connection.head();
            connection.take(100_000);
        }
        let header = Header::new(b'0', "half", 0o644).size(1 << 30);
        let archive = Tar::new().entry(header, &[7; 300_000]).finish();
        for length in [1 << 30, archive.len() + 1] {
            let mut connection = daemon.api().open();
            connection.send_raw(&format!(
                "PUT /containers/{name}/archive?path=/tmp HTTP/1.1\r\nHost: corten\r\nContent-Length: {length}\r\n\r\n"
            ));
            let _ = std::io::Write::write_all(&mut connection.stream, &archive);
        }
    };
    once("running");
    once("ended");
    let settled = |daemon: &Daemon| {
        wait_until("no copy is under way", || holdings(daemon).1 == 0);
        holdings(daemon)
    };
    std::thread::sleep(std::time::Duration::from_secs(2));
    let before = settled(&daemon);
    for _ in 0..10 {
        once("running");
        once("ended");
    }
    wait_until("nothing is left", || {
        let now = holdings(&daemon);
        now.0 <= before.0 + 1 && now.1 == 0 && now.2 == before.2
    });
    // Nobody is kept from anything.
    daemon.docker("start ended").ok();
    daemon.docker("rm -f running ended").ok();
    daemon.assert_nothing_remains();
}

#[test]
fn a_start_waits_for_who_writes_and_a_removal_does_not() {
    let daemon = daemon();
    daemon
        .docker([
            "create",
            "--name",
            "box",
            "--network",
            "none",
            "busybox",
            "cat",
            "/tmp/f",
        ])
        .ok();
    let archive = Tar::new().file("f", 0o644, b"complete\n").finish();
    let mut slow = daemon.api().open();
    slow.send_raw(&format!(
        "PUT /containers/box/archive?path=/tmp HTTP/1.1\r\nHost: corten\r\nContent-Length: {}\r\n\r\n",
        archive.len()
    ));
    std::io::Write::write_all(&mut slow.stream, &archive[..514]).unwrap();
    let upper = daemon.data_root().join("active").join(id(&daemon, "box"));
    wait_until("the file has begun", || upper.join("upper/tmp/f").exists());
    let mut start = daemon.api().open();
    start.send("POST", "/containers/box/start", None);
    assert!(start.is_silent());
    std::io::Write::write_all(&mut slow.stream, &archive[514..]).unwrap();
    slow.response("PUT").expect(200);
    start.response("POST").expect(204);
    daemon.docker("wait box").ok();
    assert_eq!(daemon.docker("logs box").ok(), "complete");
    let mut slow = daemon.api().open();
    slow.send_raw("PUT /containers/box/archive?path=/tmp HTTP/1.1\r\nHost: corten\r\nContent-Length: 100000\r\n\r\n");
    std::io::Write::write_all(&mut slow.stream, &archive[..514]).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(200));
    daemon.docker("rm -f box").ok();
    drop(slow);
    daemon.assert_nothing_remains();
}

#[test]
fn a_daemon_that_is_killed_while_it_writes_leaves_a_container_that_starts() {
    let mut daemon = daemon();
    daemon
        .docker([
            "create",
            "--name",
            "box",
            "--network",
            "none",
            "busybox",
            "echo",
            "fine",
        ])
        .ok();
    let header = Header::new(b'0', "f", 0o644).size(1 << 20);
    let archive = Tar::new().entry(header, &[7; 1000]).finish();
    let mut slow = daemon.api().open();
    slow.send_raw("PUT /containers/box/archive?path=/tmp HTTP/1.1\r\nHost: corten\r\nContent-Length: 2000000\r\n\r\n");
    std::io::Write::write_all(&mut slow.stream, &archive).unwrap();
    let upper = daemon.data_root().join("active").join(id(&daemon, "box"));
    wait_until("the file has begun", || upper.join("upper/tmp/f").exists());
    daemon.kill_and_start();
    assert_eq!(daemon.docker("start -a box").ok(), "fine");
    put(&daemon, "box", "path=/tmp", &Tar::new().file("f", 0o644, b"x").finish()).expect(200);
    daemon.docker("rm box").ok();
    daemon.assert_nothing_remains();
}
