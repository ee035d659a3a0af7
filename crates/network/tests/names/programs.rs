//! What programs make of it that people have: glibc's resolver and busybox's own.
use std::{
    fs,
    os::fd::{AsFd, AsRawFd},
    path::Path,
    process::Command,
};

use corten_network::dns::resolv_conf::ResolvConf;

use crate::world::{Container, World, endpoint, view, world};

fn served(world: &World) -> Container {
    let names = world.resolver.names();
    for last in 2..4 {
        let (id, net) = (format!("web-{last}"), format!("172.18.0.{last}/16"));
        names.add(&endpoint("a", &id, &[&id, "web"], Some(&net), None));
    }
    names.add(&endpoint("a", "db", &["db"], Some("172.18.0.9/16"), Some("fd00::9/64")));
    let container = Container::new();
    world
        .resolver
        .serve("c", container.namespace.as_fd(), view(&["a"]))
        .expect("served");
    container
}

/// Runs a command in the container's network, with the container's resolv.conf in place of the machine's.
fn run(world: &World, container: &Container, command: &str) -> String {
    let mut conf = ResolvConf::parse("search example.none\n");
    conf.use_resolver();
    let path = world.files.path().join("container");
    fs::write(&path, conf.to_string()).expect("written");
    // The machine's resolv.conf may be a link; what is mounted over is what it leads to, in this mount namespace only.
    let script = format!(
        "mount --bind {} $(readlink -f /etc/resolv.conf) && {command}",
        path.display()
    );
    let namespace = format!("/proc/{}/fd/{}", std::process::id(), container.namespace.as_raw_fd());
    let output = Command::new("nsenter")
        .args([&format!("--net={namespace}"), "unshare", "-m", "sh", "-c", &script])
        .output()
        .expect("nsenter is there");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn glibc_resolves_names_of_containers_and_others() {
    world(|world| {
        let container = served(world);
        let mut web: Vec<_> = run(world, &container, "getent ahosts web")
            .lines()
            .filter(|line| line.contains("STREAM"))
            .map(|line| line.split_whitespace().next().unwrap_or_default().to_owned())
            .collect();
        web.sort();
        assert_eq!(web, ["172.18.0.2", "172.18.0.3"]);
        let db = run(world, &container, "getent hosts db");
        assert!(db.starts_with("fd00::9"), "{db}");
        assert!(run(world, &container, "getent hosts 172.18.0.9").contains("db.a-net"));
        assert!(run(world, &container, "getent hosts example.com").starts_with("192.0.2.1"));
        assert_eq!(run(world, &container, "getent hosts none"), "");
    });
}

#[test]
fn busybox_resolves_names_of_containers_and_others() {
    if !Path::new("/usr/bin/busybox").exists() && !Path::new("/bin/busybox").exists() {
        eprintln!("skipped: there is no busybox");
        return;
    }
    world(|world| {
        let container = served(world);
        // Without the dot it asks for the name in search domains only.
        let db = run(world, &container, "busybox nslookup db.");
        assert!(db.contains("172.18.0.9") && db.contains("fd00::9"), "{db}");
        let reverse = run(world, &container, "busybox nslookup 172.18.0.9");
        assert!(reverse.contains("db.a-net"), "{reverse}");
        assert!(run(world, &container, "busybox nslookup example.com.").contains("192.0.2.1"));
        let nobody = run(world, &container, "busybox nslookup none.");
        assert!(nobody.contains("NXDOMAIN") || nobody.contains("can't"), "{nobody}");
    });
}
