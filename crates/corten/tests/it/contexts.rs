//! Contexts, other hosts' daemons, and what shells and readers of manuals get.
use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use corten_testkit::{
    command::{Output, run, run_with_input},
    daemon::{Arguments, Daemon},
};

use crate::{daemon, setup};

/// Either client with a directory of settings of its own.
struct Client<'a> {
    daemon: &'a Daemon,
    directory: &'a Path,
    corten: bool,
}

impl Client<'_> {
    fn command(&self, words: impl Arguments) -> Command {
        let mut command = match self.corten {
            true => self.daemon.corten_command(words),
            false => self.daemon.docker_command(words),
        };
        command.env_remove("DOCKER_HOST").env("DOCKER_CONFIG", self.directory);
        command
    }

    #[track_caller]
    fn run(&self, words: impl Arguments) -> Output {
        run(&mut self.command(words))
    }
}

#[test]
fn both_clients_say_the_same_about_contexts() {
    let daemon = setup().start();
    let socket = format!("host=unix://{}", daemon.socket().display());
    let transcript = |corten: bool| {
        let directory = tempfile::tempdir().unwrap();
        let client = Client {
            daemon: &daemon,
            directory: directory.path(),
            corten,
        };
        let archive = directory.path().join("foo.tar");
        let archive = archive.to_str().unwrap();
        let lines: Vec<Vec<&str>> = vec![
            vec!["context", "create", "foo", "--description", "a b", "--docker", &socket],
            vec!["context", "create", "foo", "--docker", &socket],
            vec!["context", "create", "b@d"],
            vec!["context", "create", "default"],
            vec!["context", "create", "bar", "--docker", "bad=1"],
            vec!["context", "create", "bar", "--docker", "host=junk"],
            vec!["context", "create", "far", "--docker", "host=ssh://me@example.test"],
            vec!["context", "create", "copy", "--from", "far"],
            vec![
                "context",
                "create",
                "copy2",
                "--from",
                "far",
                "--docker",
                "host=unix:///x",
            ],
            vec!["context", "ls", "-q"],
            // The default daemons are two.
            vec![
                "context",
                "ls",
                "--format",
                "table {{.Name}}{{if .Current}} *{{end}}\t{{.Description}}\t{{.Error}}",
            ],
            vec!["context", "ls", "--format", "{{json .Description}}"],
            vec!["context", "inspect", "-f", "{{json .Storage}}", "default"],
            vec!["context", "ls", "--format", "{{.Name}} {{.Current}} {{.Description}}"],
            vec!["context", "inspect", "foo"],
            vec!["context", "inspect", "-f", "{{.Endpoints.docker.Host}}", "far"],
            vec!["context", "inspect", "nope"],
            vec!["context", "update", "far", "--description", "away"],
            vec!["context", "update", "nope"],
            vec!["context", "use", "nope"],
            vec!["context", "use", "foo"],
            vec!["context", "show"],
            vec!["context", "rm", "foo"],
            vec!["version", "--format", "{{.Server.Os}}"],
            vec!["context", "export", "foo", archive],
            vec!["context", "export", "foo", archive],
            vec!["context", "import", "again", archive],
            vec!["context", "import", "again", archive],
            vec!["--context", "again", "version", "--format", "{{.Server.Os}}"],
            vec!["--context", "nope", "ps"],
            vec!["-H", "unix:///x", "--context", "foo", "ps"],
            vec!["context", "use", "default"],
            vec!["context", "rm", "default"],
            vec!["context", "rm", "foo", "copy", "nope"],
            vec!["context", "ls", "-q"],
        ];
        let own = directory.path().to_str().unwrap().to_owned();
        lines
            .into_iter()
            .map(|words| {
                let line = words.join(" ").replace(&own, "DIR");
                let output = client.run(words.as_slice());
                let text = format!("{}\n{}", output.text(), output.error());
                (line, output.code, text.replace(&own, "DIR"))
            })
            .collect::<Vec<_>>()
    };
    for (theirs, ours) in transcript(false).into_iter().zip(transcript(true)) {
        assert_eq!(theirs, ours);
    }
}

#[test]
fn what_is_told_of_the_client_names_the_context_in_use() {
    let daemon = crate::daemon();
    let socket = format!("host=unix://{}", daemon.socket().display());
    daemon.corten(["context", "create", "mine", "--docker", &socket]).ok();
    for words in [
        ["--context", "mine", "version", "--format", "{{.Client.Context}}"].as_slice(),
        &["--context", "mine", "version"],
        &["--context", "mine", "info"],
    ] {
        let text = run(daemon.corten_command(words).env_remove("DOCKER_HOST")).ok();
        assert!(text.contains("mine"), "{words:?}: {text}");
    }
}

#[test]
fn a_context_in_a_zip_file_is_imported_as_well() {
    let daemon = setup().start();
    let directory = tempfile::tempdir().unwrap();
    let meta = r#"{"Name":"x","Metadata":{"Description":"zipped"},"Endpoints":{"docker":{"Host":"tcp://h:1","SkipTLSVerify":false}}}"#;
    // As the standard library of Python writes it: deflated, with a directory's entry.
    let script = "import sys, zipfile\n\
                  z = zipfile.ZipFile(sys.argv[1], 'w', zipfile.ZIP_DEFLATED)\n\
                  z.writestr('meta.json', sys.argv[2])\n\
                  z.writestr('tls/', '')\n\
                  z.writestr('tls/docker/ca.pem', 'authority' * 100)\n";
    let archive = directory.path().join("context.zip");
    let archive = archive.to_str().unwrap();
    run(Command::new("python3").args(["-c", script, archive, meta])).ok();
    let inspected = [false, true].map(|corten| {
        let home = tempfile::tempdir().unwrap();
        let client = Client {
            daemon: &daemon,
            directory: home.path(),
            corten,
        };
        client.run(["context", "import", "far", archive]).ok();
        let words = [
            "context",
            "inspect",
            "-f",
            "{{json .Endpoints}} {{json .TLSMaterial}}",
            "far",
        ];
        let described = client.run("context ls --format {{.Name}}~{{.Description}}").ok();
        assert!(described.contains("far~zipped"), "{described}");
        client.run(words).ok()
    });
    assert_eq!(inspected[0], inspected[1]);
    assert!(
        inspected[0].contains("tcp://h:1") && inspected[0].contains("ca.pem"),
        "{}",
        inspected[0]
    );
}

#[test]
fn docker_uses_a_context_that_corten_made_and_the_other_way_round() {
    let daemon = setup().start();
    let directory = tempfile::tempdir().unwrap();
    let client = |corten| Client {
        daemon: &daemon,
        directory: directory.path(),
        corten,
    };
    let host = format!("host=unix://{}", daemon.socket().display());
    for (maker, user, name) in [(true, false, "ours"), (false, true, "theirs")] {
        client(maker).run(["context", "create", name, "--docker", &host]).ok();
        client(maker).run(["context", "use", name]).ok();
        assert_eq!(client(user).run("context show").ok(), name);
        assert_eq!(client(user).run("info --format {{.OSType}}").ok(), "linux");
    }
}

#[test]
fn ssh_carries_a_connection_both_ways() {
    let daemon = daemon();
    // What sshd would do: a shell on the other host, here with a daemon that only that shell is told of.
    let directory = tempfile::tempdir().unwrap();
    let corten = daemon.corten_command("").get_program().to_owned();
    let script = format!(
        "#!/bin/sh\necho \"$@\" >>{dir}/calls\nfor last; do :; done\n\
         export PATH={dir}/bin:$PATH DOCKER_HOST=unix://{socket}\nexec sh -c \"$last\"\n",
        dir = directory.path().display(),
        socket = daemon.socket().display()
    );
    fs::create_dir(directory.path().join("bin")).unwrap();
    std::os::unix::fs::symlink(corten, directory.path().join("bin/corten")).unwrap();
    let ssh = directory.path().join("ssh");
    fs::write(&ssh, script).unwrap();
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap());
    let over_ssh = |mut command: Command, input: &[u8]| {
        command.env("PATH", &path).env("DOCKER_HOST", "ssh://me@box:2222");
        run_with_input(&mut command, input)
    };
    assert_eq!(over_ssh(daemon.corten_command("images -q"), b"").ok().len(), 12);
    let words = "run --rm -i --network none busybox sha256sum";
    let input = vec![7; 3 << 20];
    let direct = daemon.docker_with_input(words, &input).ok();
    assert_eq!(over_ssh(daemon.corten_command(words), &input).ok(), direct);
    let calls = fs::read_to_string(directory.path().join("calls")).unwrap();
    assert!(
        calls.starts_with("-T -o ConnectTimeout=30 -l me -p 2222 -- box if command -v corten"),
        "{calls}"
    );
    // And Docker's client through our end.
    fs::write(
        &ssh,
        format!(
            "#!/bin/sh\nexec env DOCKER_HOST=unix://{} {}/bin/corten system dial-stdio\n",
            daemon.socket().display(),
            directory.path().display()
        ),
    )
    .unwrap();
    assert_eq!(over_ssh(daemon.docker_command(words), &input).ok(), direct);
}

#[test]
fn addresses_that_lead_nowhere_are_named() {
    let daemon = setup().start();
    let fails = |address: &str| {
        let mut command = daemon.corten_command(["ps"]);
        command.env("DOCKER_HOST", address);
        run(&mut command).fails(1)
    };
    assert!(fails("unix:///nowhere.sock").contains("unix:///nowhere.sock"));
    assert!(fails("junk").contains("unable to parse docker host `junk`"));
    assert!(fails("ssh://-oProxyCommand=x").contains("no host specified"));
    let mut command = daemon.corten_command(["--tlsverify", "ps"]);
    command.env("DOCKER_HOST", "tcp://127.0.0.1:1");
    let text = run(&mut command).fails(1);
    assert!(text.contains("tcp://127.0.0.1:1"), "{text}");
}

/// What bash offers for the last word of a line.
fn completed(daemon: &Daemon, script: &Path, line: &[&str]) -> Vec<String> {
    let words = line
        .iter()
        .map(|word| format!("'{word}'"))
        .collect::<Vec<_>>()
        .join(" ");
    let text = format!(
        "source {}; COMP_WORDS=({words}); COMP_CWORD={}; _corten; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        script.display(),
        line.len() - 1
    );
    let program = daemon.corten_command("");
    let directory = daemon.root().join("bin");
    fs::create_dir_all(&directory).unwrap();
    let link = directory.join("corten");
    if !link.exists() {
        std::os::unix::fs::symlink(program.get_program(), &link).unwrap();
    }
    let mut command = Command::new("bash");
    command.args(["-c", &text]);
    command.env(
        "PATH",
        format!("{}:{}", directory.display(), std::env::var("PATH").unwrap()),
    );
    command.env("DOCKER_HOST", format!("unix://{}", daemon.socket().display()));
    run(&mut command).ok().lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_flags_and_names() {
    let daemon = daemon();
    daemon
        .docker("create --name completed-box --network none busybox true")
        .ok();
    let script = daemon.root().join("corten.bash");
    fs::write(&script, daemon.corten("completion bash").ok()).unwrap();
    let complete = |line: &[&str]| completed(&daemon, &script, line);
    assert_eq!(complete(&["corten", "net"]), ["network"]);
    assert_eq!(complete(&["corten", "network", "con"]), ["connect"]);
    assert_eq!(complete(&["corten", "run", "--netw"]), ["--network", "--network-alias"]);
    assert_eq!(complete(&["corten", "container", "start", "comp"]), ["completed-box"]);
    assert_eq!(complete(&["corten", "rm", "-f", "comp"]), ["completed-box"]);
    assert_eq!(complete(&["corten", "rmi", "busy"]), ["busybox:latest"]);
    assert_eq!(complete(&["corten", "network", "rm", "brid"]), ["bridge"]);
    assert!(daemon.corten("completion csh").fails(1).contains("bash|fish|zsh"));
    for shell in ["fish", "zsh"] {
        assert!(daemon.corten(["completion", shell]).ok().contains("__names"));
    }
}

#[test]
fn manual_pages_say_what_the_help_says() {
    let daemon = setup().start();
    let directory = daemon.root().join("man");
    daemon.corten(["manual", directory.to_str().unwrap()]).ok();
    let page = fs::read_to_string(directory.join("corten-run.1")).unwrap();
    let help = daemon.corten("run --help").ok();
    for flag in ["--memory", "--network", "--rm"] {
        assert!(help.contains(flag));
        assert!(page.contains(&flag.replace('-', "\\-")), "{flag}");
    }
    let overview = fs::read_to_string(directory.join("corten.1")).unwrap();
    assert!(overview.contains(".B network"), "{overview}");
    assert!(directory.join("corten-network-connect.1").exists());
}
