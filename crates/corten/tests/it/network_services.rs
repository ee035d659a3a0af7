//! Real input on networks: nginx, redis, PostgreSQL, iperf3 and apt of Debian in containers.
use std::{path::Path, process::Command};

use corten_testkit::{
    daemon::{Arguments, Daemon},
    debian,
    names::{A, Zone},
    wait::{wait_for, wait_until},
    world::{FAR, HOST, OTHER, World, with_resolv_conf},
};

use crate::{network::address, setup};

fn import(daemon: &Daemon, archive: &Path, tag: &str) {
    daemon.docker(["import", archive.to_str().unwrap(), tag]).ok();
}

/// `docker run -d --name NAME OPTIONS debian:services sh -c SCRIPT`
#[track_caller]
fn service(daemon: &Daemon, name: &str, options: &str, script: &str) {
    let mut words = ["run", "-d", "--name", name, "--network-alias", name].words();
    words.extend(options.words());
    words.extend(["debian:services", "sh", "-c", script].words());
    daemon.docker(words).ok();
}

/// Runs a shell script in a container of the services' image on network `lane`.
#[track_caller]
fn client(daemon: &Daemon, script: &str) -> String {
    daemon
        .docker([
            "run",
            "--rm",
            "--network",
            "lane",
            "debian:services",
            "bash",
            "-c",
            script,
        ])
        .ok()
}

const NGINX: &str = r#"
cat >/etc/nginx/conf.d/front.conf <<END
resolver 127.0.0.11;
server {
    listen 8000;
    location = /who { return 200 "\$remote_addr"; }
    location / { set \$upstream back:8000; proxy_pass http://\$upstream; }
}
END
rm -f /etc/nginx/sites-enabled/default
exec nginx -g 'daemon off;'"#;

const BACK: &str = r#"
cat >/etc/nginx/conf.d/back.conf <<END
server { listen 8000; location / { return 200 "back of $(hostname)\n"; } }
END
rm -f /etc/nginx/sites-enabled/default
exec nginx -g 'daemon off;'"#;

const POSTGRES: &str = r#"
echo 'host all all 0.0.0.0/0 trust' >>/etc/postgresql/15/main/pg_hba.conf
mkdir -p /run/postgresql && chown postgres:postgres /run/postgresql
exec su postgres -c "/usr/lib/postgresql/15/bin/postgres -D /var/lib/postgresql/15/main \
    -c config_file=/etc/postgresql/15/main/postgresql.conf -c listen_addresses='*' -c jit=off -c dynamic_shared_memory_type=mmap""#;

#[test]
fn servers_of_debian_talk_to_each_other_and_to_another_host() {
    let world = World::new();
    let mut daemon = world.start(setup());
    import(&daemon, &debian::services_archive(), "debian:services");
    daemon.docker("network create lane").ok();
    service(&daemon, "front", "--network lane -p 8080:8000", NGINX);
    service(&daemon, "back", "--network lane", BACK);
    service(
        &daemon,
        "redis",
        "--network lane",
        "exec redis-server --save '' --protected-mode no",
    );
    service(&daemon, "postgres", "--network lane -p 5432:5432", POSTGRES);
    service(
        &daemon,
        "iperf",
        "--network lane -p 5201:5201 -p 5201:5201/udp",
        "exec iperf3 -s",
    );

    // nginx finds its upstream through 127.0.0.11, and sees who asked.
    let there = format!("{HOST}:8080");
    wait_until("the front reaches the back", || {
        world.other.http(&there, "/").1.starts_with("back of ")
    });
    assert_eq!(world.other.http(&there, "/who"), (200, OTHER.to_owned()));
    let said = client(
        &daemon,
        "for i in $(seq 100); do redis-cli -h redis ping && break; sleep 0.1; done; redis-cli -h redis set key value; redis-cli -h redis get key",
    );
    assert!(said.ends_with("PONG\nOK\nvalue"), "{said}");
    let psql = "psql -h postgres -U postgres -Atc";
    let script = format!(
        "for i in $(seq 300); do pg_isready -q -h postgres && break; sleep 0.1; done
         {psql} 'create table numbers as select generate_series(1, 100000) as n' && {psql} 'select sum(n) from numbers'"
    );
    assert_eq!(client(&daemon, &script).lines().last(), Some("5000050000"));

    let transferred = |report: &str| {
        let report: serde_json::Value =
            serde_json::from_str(report).unwrap_or_else(|error| panic!("{error}: {report}"));
        report["end"]["sum_received"]["bytes"].as_f64().unwrap_or_default()
    };
    assert!(transferred(&client(&daemon, "iperf3 -c iperf -n 64M -J")) >= 32e6);
    // One at a time: a server that is not done with the one before refuses the next.
    let iperf = |options: &str| {
        let line = format!("iperf3 -c {HOST} -J {options}");
        wait_for("the server of iperf is free", || {
            let output = world.other.run(line.as_str());
            (!output.text().contains("the server is busy")).then_some(output)
        })
        .ok()
    };
    let from_outside = iperf("-n 64M");
    assert!(transferred(&from_outside) >= 32e6, "{from_outside}");
    let from_inside = iperf("-n 64M -R");
    assert!(transferred(&from_inside) >= 32e6, "{from_inside}");
    iperf("-n 4M -u -b 200M");

    // All of it goes on when the daemon dies, and with the next one.
    if crate::network::is_foreign() {
        return;
    }
    let postgres = address(&daemon, "postgres", "lane");
    daemon.kill_and_start();
    assert_eq!(address(&daemon, "postgres", "lane"), postgres);
    assert_eq!(
        client(&daemon, &format!("{psql} 'select count(*) from numbers'")),
        "100000"
    );
    assert!(world.other.http(&there, "/").1.starts_with("back of "));
}

/// A repository with one package in it, made on the spot: path and content of its files.
fn repository() -> Vec<(String, Vec<u8>)> {
    let directory = tempfile::tempdir().unwrap();
    let script = r#"
        set -e
        cd "$0"
        mkdir -p hello/DEBIAN hello/usr/bin
        printf 'Package: corten-hello\nVersion: 1.0\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: says hello\n' \
            >hello/DEBIAN/control
        printf '#!/bin/sh\necho hello from a package\n' >hello/usr/bin/corten-hello
        chmod 755 hello/usr/bin/corten-hello
        dpkg-deb --root-owner-group -b hello corten-hello.deb >/dev/null
        cat hello/DEBIAN/control >Packages
        printf 'Filename: ./corten-hello.deb\nSize: %s\nSHA256: %s\n' \
            "$(stat -c %s corten-hello.deb)" "$(sha256sum corten-hello.deb | cut -d' ' -f1)" >>Packages
        printf 'Date: %s\nSHA256:\n %s %s Packages\n' "$(LC_ALL=C date -uR)" \
            "$(sha256sum Packages | cut -d' ' -f1)" "$(stat -c %s Packages)" >Release"#;
    let status = Command::new("sh").args(["-c", script]).arg(directory.path()).status();
    assert!(status.unwrap().success(), "dpkg-deb is installed");
    ["Packages", "Release", "corten-hello.deb"]
        .map(|name| {
            (
                format!("/debian/./{name}"),
                std::fs::read(directory.path().join(name)).unwrap(),
            )
        })
        .to_vec()
}

#[test]
fn apt_updates_and_installs_through_nat_and_the_hosts_resolver() {
    let world = World::new();
    let directory = tempfile::tempdir().unwrap();
    let wrapper = with_resolv_conf(&directory.path().join("resolv.conf"), &format!("nameserver {OTHER}\n"));
    let daemon = world.start(setup().wrapper(wrapper));
    import(&daemon, &debian::redis_archive(), "debian:redis");
    daemon.docker("network create lane").ok();
    let _zone = Zone::serve(&world.other, &format!("{OTHER}:53"), &[("mirror.example.org", A, FAR)]);
    let files = repository();
    let with_both_spellings = files.iter().cloned().chain(
        files
            .iter()
            .map(|(path, content)| (path.replace("/./", "/"), content.clone())),
    );
    let _mirror = world
        .other
        .serve_files(&format!("{FAR}:80"), with_both_spellings.collect());
    for network in ["bridge", "lane"] {
        let script = "set -e
            rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*
            echo 'deb [trusted=yes] http://mirror.example.org/debian ./' >/etc/apt/sources.list
            apt-get update 2>&1
            apt-get install -y corten-hello 2>&1
            corten-hello";
        let said = daemon
            .docker(["run", "--rm", "--network", network, "debian:redis", "sh", "-c", script])
            .ok();
        assert_eq!(said.lines().last(), Some("hello from a package"), "{said}");
    }
}
