//! Corten's own command line, where it is more than docker's or could be less.
use std::{fs, process::Command};

use corten_testkit::{
    command::{Output, run},
    daemon::{Arguments, Daemon},
};

use crate::{WAIT, background, daemon, setup};

/// What both clients print before the age of anything changes: docker's output is the same before and after ours.
fn at_one_time(daemon: &Daemon, words: impl Arguments) -> (Output, Output) {
    let words = words.words();
    let theirs = || daemon.docker(words.clone());
    let mut before = theirs();
    loop {
        let (ours, after) = (daemon.corten(words.clone()), theirs());
        if before.text() == after.text() {
            return (after, ours);
        }
        before = after;
    }
}

#[test]
fn both_clients_print_the_same() {
    let daemon = daemon();
    background(&daemon, "--name box --label a=b", WAIT);
    daemon.docker("create --name other --network none busybox echo x").ok();
    for words in [
        "ps -a --no-trunc",
        "ps -aq",
        "ps -a --format {{.ID}}|{{.Names}}|{{.Image}}|{{.Command}}|{{.Labels}}|{{.State}}",
        "images --no-trunc",
        "images -q",
        "image ls --format {{.Repository}}:{{.Tag}}",
        "inspect box other",
        "inspect -f {{.State.Status}} box",
        "history --no-trunc busybox",
        "history -q busybox",
        "image inspect busybox",
        "container inspect -f {{.Name}} other",
        "port box",
        "ps -a --format json",
        "ps -a --format {{.Nope}}{{.Names",
        "image ls --format table",
        "system df",
        "system df -v",
        "system df -v --format json",
        "network ls --format json",
        "network ls --no-trunc",
        "volume ls --format json",
        "network",
        "volume ls --format table",
        "ps -q --format {{.Names}}",
        "events --since 0 --until 1",
    ] {
        let (theirs, ours) = at_one_time(&daemon, words);
        assert_eq!((theirs.text(), theirs.code), (ours.text(), ours.code), "{words}");
    }
    let words = [
        "inspect",
        "-f",
        "{{json .Config.Labels}} {{len .Args}} {{.State.Running | not}}",
        "box",
    ];
    assert_eq!(daemon.docker(words).ok(), daemon.corten(words).ok());
    let template = "{{define \"x\"}}{{.Names}}{{end}}{{template \"x\" .}} {{block \"y\" .ID}}{{.}}{{end}}";
    for template in [template, "{{json .}}"] {
        let words = ["ps", "-a", "--format", template];
        let (theirs, ours) = at_one_time(&daemon, words);
        assert_eq!(theirs.ok(), ours.ok(), "{template}");
    }
}

#[test]
fn templates_see_what_dockers_types_have() {
    let daemon = daemon();
    let words = "run -d --name box --network none --label a.b=c -v /anywhere:/here busybox sleep 1000";
    daemon.docker(words).ok();
    daemon.docker("volume create store").ok();
    let same = |words: &[&str]| {
        let (theirs, ours) = (daemon.docker(words), daemon.corten(words));
        assert_eq!((theirs.text(), theirs.code), (ours.text(), ours.code), "{words:?}");
    };
    for template in [
        "{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}",
        "{{.Config.Healthcheck}} {{.HostConfig.Init}} {{.Config.StopTimeout}} {{.HostConfig.PidsLimit}}",
        "{{.ExecIDs}} {{.HostConfig.CapAdd}} {{len .HostConfig.ExtraHosts}} {{.HostConfig.Sysctls}}",
        "{{.Config.Labels.nothing}} {{index .Config.Labels \"nothing\"}} {{index .Config.Labels \"a.b\"}}",
        "{{range .Mounts}}{{.Type}} {{.Name}}{{.Driver}} {{.Destination}}{{end}}",
        "{{range $port, $bindings := .NetworkSettings.Ports}}{{$port}}{{end}}{{.NetworkSettings.Ports}}",
        "{{range .NetworkSettings.Networks}}{{.Aliases}} {{.DriverOpts}} {{.IPAMConfig}}{{end}}",
        "{{json .HostConfig.CapAdd}} {{json .State.Health}} {{json .Config.ExposedPorts}} {{json .Mounts}}",
        "{{.Config.ExposedPorts}} {{.HostConfig.Tmpfs}} {{.HostConfig.Mounts}} {{.SizeRw}}",
    ] {
        same(&["inspect", "-f", template, "box"]);
    }
    for template in [
        "{{.Config.Labels}} {{.Config.Healthcheck}} {{.Config.ExposedPorts}} {{.RepoDigests}} {{.Variant}}",
        "{{.Author}}|{{.Config.Volumes}} {{.Config.OnBuild}}",
    ] {
        same(&["image", "inspect", "-f", template, "busybox"]);
    }
    same(&[
        "volume",
        "inspect",
        "-f",
        "{{.Labels}} {{.Options}} {{.Status}} {{.UsageData}}",
        "store",
    ]);
    same(&[
        "network",
        "inspect",
        "-f",
        "{{.Labels}} {{.IPAM.Options}} {{.Options.nothing}}",
        "none",
    ]);
    same(&["inspect", "-f", "{{.Labels}} {{.Labels.x}}", "store"]);
    let attribute = "{{.Action}} {{.Actor.Attributes.exitCode}}";
    same(&["events", "--since", "0", "--until", "1", "--format", attribute]);
    let past = [
        "events",
        "--since",
        "10m",
        "--until",
        "0s",
        "--filter",
        "type=volume",
        "--format",
        attribute,
    ];
    assert_eq!(daemon.corten(past).ok(), "create <no value>");
    same(&["ps", "--format", "table {{.Names}}\t{{.Label \"a.b\"}}"]);
    same(&[
        "info",
        "-f",
        "{{.ClientInfo.Debug}} {{.ClientInfo.Os}} {{.ClientInfo.Context}}",
    ]);
    same(&["version", "-f", "{{.Client.Platform}} {{.Client.Os}} {{.Server.Os}}"]);
    for words in [
        ["inspect", "-f", "{{", "box"].as_slice(),
        &["events", "--until", "1", "--format={{"],
        &["info", "-f", "{{"],
        &["version", "-f", "{{"],
        &["context", "inspect", "-f", "{{", "default"],
    ] {
        assert_eq!(daemon.corten(words).code, daemon.docker(words).code, "{words:?}");
    }
}

#[test]
fn both_clients_fail_the_same() {
    let daemon = daemon();
    for words in [
        "inspect nothing",
        "rm nothing",
        "start nothing",
        "logs nothing",
        "rmi nothing",
        "wait nothing",
        "kill nothing",
        "tag nothing x",
        "top nothing",
        "system prune -f --volumes --filter until=1h",
        "container prune -f --filter until=perhaps",
        "kill -s NOTHING nothing",
        "exec -w relative nothing true",
        "events --since 2 --until 1",
    ] {
        let (theirs, ours) = (daemon.docker(words), daemon.corten(words));
        assert_eq!(theirs.code, ours.code, "{words}: {ours:?}");
        assert_eq!(theirs.error(), ours.error(), "{words}");
    }
}

#[test]
fn the_verbs_of_life_work_by_it_alone() {
    let daemon = daemon();
    let id = daemon
        .corten([
            "create",
            "--name",
            "box",
            "--network",
            "none",
            "busybox",
            "sh",
            "-c",
            WAIT,
        ])
        .ok();
    for verb in [
        "start box",
        "pause box",
        "unpause box",
        "restart -t 1 box",
        "rename box other",
        "stop other",
        "start other",
        "kill other",
    ] {
        daemon.corten(verb).ok();
    }
    assert_eq!(daemon.corten("wait other").ok(), "137");
    assert_eq!(daemon.corten("rm other").ok(), "other");
    assert!(!daemon.corten("ps -aq --no-trunc").ok().contains(&id));
    daemon.corten("container prune -f").ok();
    daemon.corten("image prune -f").ok();
    daemon.corten("rmi busybox").ok();
    let info = daemon.corten("info").ok();
    assert!(info.contains(" Firewall Backend: nftables\n  FlowTable: "), "{info}");
    daemon.corten("version").ok();
    daemon.assert_nothing_remains();
}

#[test]
fn it_is_docker_when_it_is_called_so() {
    let daemon = daemon();
    let link = daemon.root().join("docker-link");
    fs::create_dir(&link).unwrap();
    let name = link.join("docker");
    let binary = std::env::var("CORTEN_TEST_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_corten").to_owned());
    std::os::unix::fs::symlink(binary, &name).unwrap();
    let host = format!("unix://{}", daemon.socket().display());
    let output = run(Command::new(&name).args([
        "-H",
        &host,
        "run",
        "--rm",
        "--network",
        "none",
        "busybox",
        "echo",
        "as docker",
    ]));
    assert_eq!(output.ok(), "as docker");
}

#[test]
fn help_and_version_need_no_daemon() {
    let daemon = setup().start();
    for words in [
        "--help",
        "--version",
        "run --help",
        "container --help",
        "image --help",
        "daemon --help",
    ] {
        let mut command = daemon.corten_command(words);
        let output = run(command.env("DOCKER_HOST", "unix:///no/such/socket"));
        assert!(!output.clone().ok().is_empty(), "{output:?}");
    }
}

#[test]
fn without_a_daemon_it_says_where_it_looked() {
    let daemon = setup().start();
    let mut command = daemon.corten_command("ps");
    let error = run(command.env("DOCKER_HOST", "unix:///no/such/socket")).fails(1);
    assert!(error.contains("unix:///no/such/socket"), "{error}");
}

#[test]
fn an_unknown_command_or_flag_is_refused_with_a_hint() {
    let daemon = setup().start();
    let output = daemon.corten("no-such-command");
    assert_ne!(output.code, 0);
    assert!(output.error().contains("no-such-command"), "{output:?}");
    let output = daemon.corten("ps --no-such-flag");
    assert_eq!(output.code, 125, "{output:?}");
}

#[test]
fn a_daemon_is_started_when_none_answers() {
    // In a world of its own, which takes the daemon with it: the default socket and data root are the machine's.
    let script = "mount -t tmpfs none /run && mount -t tmpfs none /var/lib && \"$0\" version && \"$0\" images -q && ls /var/lib/corten";
    let binary = std::env::var("CORTEN_TEST_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_corten").to_owned());
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "--net",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "sh",
        "-c",
        script,
        &binary,
    ]);
    let printed = run(command.env_remove("DOCKER_HOST").env_remove("DOCKER_CONTEXT")).ok();
    assert!(printed.contains("Server") && printed.contains("corten.db"), "{printed}");
}
