//! Projects of Compose: `tests/shop` with much of what people write into such files, `tests/rare` with what few do.
use std::{fs, path::PathBuf, process::Command, thread};

use corten_testkit::{
    command::{Output, run},
    daemon::{Arguments, Daemon},
    follower::Follower,
    wait::wait_until,
};
use serde_json::{Value, json};

use crate::{compose::containers, daemon};

const PROJECTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");

/// A copy of a project, and a daemon for it.
struct Project {
    daemon: Daemon,
    name: &'static str,
    files: &'static [&'static str],
}

impl Project {
    /// `tests/shop`, as it is where it matters.
    fn new() -> Project {
        let project = Project::of("shop", &["-f", "compose.yaml", "-f", "compose.production.yaml"]);
        project.daemon.docker("volume create shop-archive").ok();
        project
    }

    fn of(name: &'static str, files: &'static [&'static str]) -> Project {
        let daemon = daemon();
        run(Command::new("cp")
            .args(["-r", &format!("{PROJECTS}/{name}")])
            .arg(daemon.root()))
        .ok();
        Project { daemon, name, files }
    }

    fn directory(&self) -> PathBuf {
        self.daemon.root().join(self.name)
    }

    fn command(&self, arguments: impl Arguments) -> Command {
        let mut words = [&["compose", "--ansi", "never"], self.files].concat().words();
        words.extend(arguments.words());
        let mut command = self.daemon.docker_command(words);
        command
            .current_dir(self.directory())
            .env("API_TOKEN", "a token of the environment")
            .env("PASSED", "through");
        command
    }

    /// `docker compose FILES ARGUMENTS`
    #[track_caller]
    fn compose(&self, arguments: impl Arguments) -> Output {
        run(&mut self.command(arguments))
    }

    /// A script in the first container of a service.
    #[track_caller]
    fn exec(&self, service: &str, script: &str) -> String {
        self.compose(["exec", "-T", service, "sh", "-c", script]).ok()
    }

    fn inspect(&self, container: &str) -> Value {
        self.daemon.inspect(&format!("shop-{container}"))
    }

    /// Puts something else into a file of the project.
    fn change(&self, file: &str, from: &str, to: &str) {
        let path = self.directory().join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} has no {from:?}");
        fs::write(path, text.replace(from, to)).unwrap();
    }

    /// Names and ids of all containers, sorted.
    fn ids(&self) -> Vec<(String, String)> {
        let listed = self.daemon.docker("ps -a --no-trunc --format {{.Names}}={{.ID}}").ok();
        let pairs = listed.lines().map(|line| line.split_once('=').unwrap());
        let mut ids: Vec<_> = pairs.map(|(name, id)| (name.to_owned(), id.to_owned())).collect();
        ids.sort();
        ids
    }

    /// What happened to containers: `db-1 start`, in its order.
    fn history(&self) -> Vec<String> {
        let events = self.daemon.events(&json!({"type": ["container"]}));
        let told = events.iter().map(|event| {
            let name = event["Actor"]["Attributes"]["name"].as_str().unwrap();
            let name = name.strip_prefix("shop-").unwrap_or(name);
            format!("{name} {}", event["Action"].as_str().unwrap())
        });
        told.collect()
    }
}

/// A line of JSON for each.
#[track_caller]
fn rows(output: Output) -> Vec<Value> {
    let text = output.ok();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

#[test]
fn services_come_up_in_the_order_of_what_they_wait_for() {
    let project = Project::new();
    project.compose("up -d --wait").ok();
    let history = project.history();
    let place = |event: &str| {
        let found = history.iter().position(|told| told == event);
        found.unwrap_or_else(|| panic!("{event} is not among {history:#?}"))
    };
    assert!(place("migrate-1 die") < place("db-1 start"), "{history:#?}");
    assert!(
        place("db-1 health_status: healthy") < place("web-1 start"),
        "{history:#?}"
    );
    assert!(place("cache-1 start") < place("web-1 start"), "{history:#?}");
    assert!(place("cache-1 start") < place("worker-2 start"), "{history:#?}");
    assert_eq!(project.inspect("migrate-1")["State"]["ExitCode"], 0);
    // `--wait` came back when all were well; the page is what the database had when the web server started.
    assert_eq!(project.inspect("web-1")["State"]["Health"]["Status"], "healthy");
    let host = project.daemon.network();
    assert_eq!(
        host.http("127.0.0.1:8080", "/index.html"),
        (200, "production: schema 7\n".to_owned())
    );
    let states = rows(project.compose("ps -a --format json"));
    let mut states: Vec<_> = states
        .iter()
        .map(|row| [&row["Service"], &row["State"], &row["Health"]].map(|text| text.as_str().unwrap()))
        .collect();
    states.sort_unstable();
    let expected = [
        ["cache", "running", ""],
        ["db", "running", "healthy"],
        ["migrate", "exited", ""],
        ["web", "running", "healthy"],
        ["worker", "running", ""],
        ["worker", "running", ""],
    ];
    assert_eq!(states, expected);
    // Down: those that wait for others go before them.
    project.compose("down -v --remove-orphans").ok();
    let history = project.history();
    let last = |event: &str| history.iter().rposition(|told| told == event).unwrap();
    assert!(last("web-1 destroy") < last("db-1 die"), "{history:#?}");
    assert_eq!(project.daemon.docker("volume ls -q").ok(), "shop-archive");
    assert_eq!(project.daemon.docker("network ls -q -f type=custom").ok(), "");
    project.daemon.assert_nothing_remains();
}

#[test]
fn what_the_files_say_of_a_service_holds_in_its_containers() {
    let project = Project::new();
    project.compose("up -d --wait").ok();

    // The second file's word counts, and what is a list or a mapping grows.
    let web = project.inspect("web-1");
    let host = &web["HostConfig"];
    assert_eq!(host["Memory"], 64 << 20);
    assert_eq!(host["MemoryReservation"], 16 << 20);
    assert_eq!(host["NanoCpus"], 500_000_000);
    assert_eq!(host["PidsLimit"], 50);
    assert_eq!(host["RestartPolicy"]["Name"], "unless-stopped");
    assert_eq!(host["LogConfig"]["Config"]["tag"], "{{.Name}}");
    assert_eq!(
        (&host["Init"], &web["Config"]["StopTimeout"]),
        (&json!(true), &json!(5))
    );
    assert_eq!(web["Config"]["StopSignal"], "SIGINT");
    assert_eq!(web["Config"]["Labels"]["shop.quote"], r#"a "b" = c"#);
    let depends_on = &web["Config"]["Labels"]["com.docker.compose.depends_on"];
    for dependency in ["cache:service_started:false", "db:service_healthy:true"] {
        let mut all = depends_on.as_str().unwrap().split(',');
        assert!(all.any(|one| one == dependency), "{depends_on}");
    }
    let healthcheck = &web["Config"]["Healthcheck"];
    assert_eq!(healthcheck["StartInterval"], 100_000_000);
    assert_eq!(healthcheck["StartPeriod"], 30_000_000_000_u64);
    assert_eq!(
        project.exec("web", "echo $STAGE $ONLY in $(pwd); tr '\\0' ' ' </proc/1/cmdline"),
        "production production in /tmp\n/sbin/docker-init -- sh /app/web.sh "
    );
    let hosts = project.exec("web", "cat /etc/hosts");
    assert!(
        hosts.contains("192.0.2.9\tpay.example") && hosts.contains("\thost.docker.internal"),
        "{hosts}"
    );

    // Files: configs and secrets from files are binds, those with content are copied in before the start.
    assert_eq!(
        project.exec(
            "web",
            "cat /etc/site.conf /etc/motd /run/secrets/db_password /run/secrets/api_token"
        ),
        "listen 8080\nWelcome to staging\nswordfish\na token of the environment"
    );
    assert_eq!(
        project.exec("web", "stat -c '%a %u:%g' /etc/motd /run/secrets/api_token"),
        "440 1000:1000\n400 0:0"
    );
    let writable = "for place in /app /scratch /var/lib/web /etc/site.conf; do
        test -d $place && place=$place/new
        (echo x >>$place) 2>/dev/null && echo $place; done; true";
    assert_eq!(project.exec("web", writable), "/scratch/new\n/var/lib/web/new");
    assert_eq!(
        project.exec("web", "df /scratch | awk 'END { print $1, $2 }'"),
        "tmpfs 1024"
    );
    let full = "dd if=/dev/zero of=/scratch/full bs=64k count=32 2>&1 | grep -o 'No space.*'";
    assert_eq!(project.exec("web", full), "No space left on device");

    // Rights and limits.
    let cache = "id; ulimit -n; ulimit -Hn; ulimit -u
        cat /proc/sys/net/ipv4/ip_local_port_range /proc/sys/net/core/somaxconn /proc/self/oom_score_adj
        grep -E 'CapBnd|NoNewPrivs' /proc/self/status; df /cache /dev/shm | awk '/^(tmpfs|shm)/ { print $2 }'
        touch /x 2>&1; touch /cache/x && stat -c %a /cache";
    assert_eq!(
        project.exec("cache", cache),
        "uid=1000(app) gid=1000(app) groups=29(audio),1000(app)\n500\n1000\n200\n20000\t30000\n77\n200\n\
         CapBnd:\t0000000000000401\nNoNewPrivs:\t1\n2048\n8192\ntouch: /x: Read-only file system\n700"
    );
    let cache = project.inspect("cache-1");
    assert_eq!(
        cache["HostConfig"]["RestartPolicy"],
        json!({"Name": "on-failure", "MaximumRetryCount": 3})
    );
    assert_eq!(cache["HostConfig"]["LogConfig"]["Type"], "local");

    // Environment files, and what stands beside them.
    let database = project.exec(
        "db",
        "hostname; echo \"$SCHEMA,$QUOTED,${EMPTY-unset},$STAGE\"; ls /archive; touch /archive/x 2>&1; true",
    );
    assert_eq!(
        database,
        "db-host\n8,two words,,staging\ntouch: /archive/x: Read-only file system"
    );

    // Networks: a fixed address, aliases on one network alone, and one without a way out.
    let back = &project.inspect("db-1")["NetworkSettings"]["Networks"]["shop_back"];
    assert_eq!(back["IPAddress"], "10.77.0.10");
    let worker = project.daemon.network_of("shop-worker-1");
    for name in ["db", "database", "sql", "shop-db-1"] {
        assert_eq!(worker.addresses_of(name), ["10.77.0.10"], "{name}");
    }
    assert_eq!(worker.addresses_of("shop"), worker.addresses_of("web"));
    let back = project.daemon.docker("network inspect shop_back").json();
    assert_eq!(
        (
            &back[0]["Internal"],
            back[0]["Containers"].as_object().map(|all| all.len())
        ),
        (&json!(true), Some(5))
    );
    assert_eq!(worker.ip("route show default"), "");
    assert_eq!(project.inspect("migrate-1")["HostConfig"]["NetworkMode"], "none");
}

#[test]
fn everyday_commands_find_the_containers_of_a_service() {
    let project = Project::new();
    project.compose("up -d --wait").ok();
    let state = |service: &str| {
        let rows = rows(project.compose(&format!("ps -a --format json {service}")));
        rows.iter()
            .map(|row| row["State"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };

    // Into a container, and beside it.
    let script = "echo $A $(pwd) $(id -u); exit 7";
    let output = project.compose([
        "exec", "-T", "-e", "A=b", "-w", "/app", "-u", "1000", "web", "sh", "-c", script,
    ]);
    assert_eq!((output.code, output.text()), (7, "b /app 1000".to_owned()));
    let script = "echo run in $STAGE as $(hostname | wc -c); exit 3";
    let output = project.compose(["run", "--rm", "-T", "--no-deps", "worker", "sh", "-c", script]);
    assert_eq!((output.code, output.text()), (3, "run in staging as 13".to_owned()));
    assert_eq!(project.compose("run --rm -T probe").ok(), "production: schema 7");
    let mut counted = project.daemon.docker("ps -aq").ok().lines().count();
    assert_eq!(counted, 6, "nothing of a run is left");

    // Files in both directions, to every container of a service.
    let copy = project.directory().join("copy");
    let source = copy.to_str().unwrap();
    project.compose(["cp", "web:/etc/motd", source]).ok();
    assert_eq!(fs::read_to_string(&copy).unwrap(), "Welcome to staging\n");
    project.compose(["cp", source, "worker:/tmp/motd"]).ok();
    for index in ["1", "2"] {
        let words = ["exec", "-T", "--index", index, "worker", "cat", "/tmp/motd"];
        assert_eq!(project.compose(words).ok(), "Welcome to staging");
    }

    // What they print, and what they are.
    let log = project.compose("logs --no-color --no-log-prefix web").ok();
    assert!(log.ends_with("serving schema 7") && log.lines().count() == 1, "{log}");
    wait_until("both workers have said where they are", || {
        let log = project.compose("logs --no-color --tail 1 worker").ok();
        log.contains("worker-1  | worker on ") && log.contains("worker-2  | worker on ")
    });
    assert!(project.compose("top web").ok().contains("httpd -f -p 8080 -h /tmp/www"));
    assert_eq!(project.compose("port web 8080").ok(), "127.0.0.1:8080");
    let images = project.compose("images --format json web").json();
    assert_eq!(
        (&images[0]["Repository"], &images[0]["Tag"]),
        (&json!("busybox"), &json!("latest"))
    );
    let listed = project.compose("ls -a --format json").json();
    assert_eq!(
        (&listed[0]["Name"], &listed[0]["Status"]),
        (&json!("shop"), &json!("exited(1), running(5)"))
    );
    let usage = rows(project.compose("stats --no-stream --format json"));
    assert_eq!(usage.len(), 5);
    assert!(
        usage
            .iter()
            .all(|row| row["PIDs"] != "0" && row["MemUsage"].as_str().is_some_and(|usage| !usage.starts_with("0B"))),
        "{usage:?}"
    );
    let limited = usage.iter().find(|row| row["Name"] == "shop-web-1").unwrap();
    assert!(limited["MemUsage"].as_str().unwrap().ends_with(" / 64MiB"), "{limited}");

    // Their lives.
    let mut events = Follower::run(&mut project.command("events --json worker"));
    // It listens once it tells; until then it is given something to tell.
    thread::scope(|scope| {
        let first = scope.spawn(|| events.line());
        while !first.is_finished() {
            project.compose("pause worker").ok();
            assert_eq!(state("worker"), ["paused", "paused"]);
            project.compose("unpause worker").ok();
            assert_eq!(state("worker"), ["running", "running"]);
        }
        let first: Value = serde_json::from_str(&first.join().unwrap()).unwrap();
        assert_eq!(first["service"], "worker");
    });
    project.compose("kill -s KILL worker").ok();
    assert_eq!(state("worker"), ["exited", "exited"]);
    let died = std::iter::repeat_with(|| serde_json::from_str::<Value>(&events.line()).unwrap())
        .find(|event| event["action"] == "die")
        .unwrap();
    assert_eq!(died["attributes"]["exitCode"], "137");
    project.compose("start worker").ok();
    assert_eq!(state("worker"), ["running", "running"]);
    project.compose("stop worker").ok();
    assert_eq!(state("worker"), ["exited", "exited"]);
    project.compose("restart worker").ok();
    assert_eq!(state("worker"), ["running", "running"]);
    let waits = || project.daemon.log().matches("/wait\" status=200").count();
    let before = waits();
    let waiting = Follower::run(&mut project.command("wait cache"));
    wait_until("its request has been heard", || waits() > before);
    // With its policy, `on-failure`, it would come back: who stops it does not want that.
    project.compose("stop cache").ok();
    assert_eq!(waiting.wait(), 143);
    assert_eq!(state("cache"), ["exited"]);
    project.compose("rm -sf worker").ok();
    counted = project.daemon.docker("ps -aq").ok().lines().count();
    assert_eq!(counted, 4);
    project.compose("down -v").ok();
    project.daemon.assert_nothing_remains();
}

#[test]
fn only_what_changed_is_made_anew() {
    let project = Project::new();
    project.compose("up -d --wait").ok();
    let before = project.ids();
    let changed = |before: &[(String, String)]| {
        let after = project.ids();
        let names = after.iter().filter(|pair| !before.contains(pair));
        names.map(|(name, _)| name.replace("shop-", "")).collect::<Vec<_>>()
    };
    project.compose("up -d --wait").ok();
    assert_eq!(changed(&before), [""; 0]);

    // A volume without a name of its own goes over to the new container.
    project.exec("web", "echo kept >/var/lib/web/file");
    project.change("compose.production.yaml", "ONLY: production", "ONLY: another");
    project.compose("up -d --wait").ok();
    assert_eq!(changed(&before), ["web-1"]);
    assert_eq!(
        project.exec("web", "cat /var/lib/web/file; echo $ONLY"),
        "kept\nanother"
    );

    // Of those that depend on it, Compose makes new ones too, or does not: that depends on its version.
    let before = project.ids();
    project.change("compose.production.yaml", "nproc: 200", "nproc: 201");
    project.compose("up -d --wait").ok();
    let new = changed(&before);
    assert!(
        new.contains(&"cache-1".to_owned()) && !new.contains(&"db-1".to_owned()),
        "{new:?}"
    );
    assert_eq!(project.exec("cache", "ulimit -u"), "201");

    // More and fewer.
    let before = project.ids();
    project.compose("up -d --wait --scale worker=4").ok();
    assert_eq!(changed(&before), ["worker-3", "worker-4"]);
    assert_eq!(containers(&project.daemon, "worker").len(), 4);
    project.compose("up -d --wait").ok();
    let mut left = containers(&project.daemon, "worker");
    left.sort();
    assert_eq!(left, ["shop-worker-1", "shop-worker-2"]);

    // A service that is in the files no more is an orphan: it stays until somebody says so.
    project.change("compose.yaml", "\n  worker:\n", "\n  helper:\n");
    project.compose("up -d --wait").ok();
    assert_eq!(containers(&project.daemon, "worker").len(), 2);
    project.compose("up -d --wait --remove-orphans").ok();
    assert_eq!(containers(&project.daemon, "worker"), [""; 0]);
    assert_eq!(containers(&project.daemon, "helper").len(), 2);
    project.compose("down -v --remove-orphans").ok();
    project.daemon.assert_nothing_remains();
}

#[test]
fn a_restart_takes_along_who_asks_for_it() {
    let project = Project::new();
    project.compose("up -d --wait").ok();
    let started = |container: &str| project.inspect(container)["State"]["StartedAt"].clone();
    let before = ["db-1", "web-1", "worker-1"].map(started);
    project.compose("restart db").ok();
    // Compose does not wait here, so the web server meets a database that is not there yet; its policy brings it back.
    wait_until("the web server is well again", || {
        project.inspect("web-1")["State"]["Health"]["Status"] == "healthy"
    });
    let after = ["db-1", "web-1", "worker-1"].map(started);
    assert_ne!(before[0], after[0]);
    assert_ne!(before[1], after[1]);
    assert_eq!(before[2], after[2]);
}

#[test]
fn after_a_reboot_services_wait_for_each_other_as_they_did_first() {
    let mut project = Project::new();
    project.compose("up -d --wait").ok();
    project.daemon.reboot();
    project.daemon.start_process();
    wait_until("the web server is well again", || {
        project.inspect("web-1")["State"]["Health"]["Status"] == "healthy"
    });
    let history = project.history();
    let place = |event: &str| history.iter().position(|told| told == event);
    let (well, start) = (place("db-1 health_status: healthy"), place("web-1 start"));
    assert!(well.is_some() && well < start, "{history:#?}");
    // A web server that had come too early would have said so, and ended.
    let log = project.daemon.docker("logs shop-web-1").ok();
    assert_eq!(log, "serving schema 7\nserving schema 7");
}

#[test]
fn a_dependency_that_fails_is_told_and_nobody_starts_behind_it() {
    let project = Project::new();
    project.change("compose.yaml", r#"echo "schema $$SCHEMA" >/data/schema"#, "exit 4");
    let output = project.compose("up -d --wait");
    let said = output.fails(1);
    assert!(
        said.contains(r#"service "migrate" didn't complete successfully: exit 4"#),
        "{said}"
    );
    assert_eq!(project.inspect("db-1")["State"]["Status"], "created");
    assert_eq!(project.inspect("web-1")["State"]["Status"], "created");
    project.compose("down -v").ok();

    let project = Project::new();
    project.change(
        "compose.yaml",
        "start_period: 30s\n      start_interval: 100ms\n    secrets: [db",
        "timeout: 5s\n    secrets: [db",
    );
    project.change(
        "compose.yaml",
        "interval: 1s\n      timeout: 5s\n      retries: 3",
        "interval: 50ms\n      retries: 2",
    );
    project.change("compose.yaml", "127.0.0.1:5432", "127.0.0.1:9");
    let said = project.compose("up -d").fails(1);
    assert!(
        said.contains("dependency failed to start: container shop-db-1 is unhealthy"),
        "{said}"
    );
    assert_eq!(project.inspect("web-1")["State"]["Status"], "created");
    assert_eq!(project.inspect("db-1")["State"]["Status"], "running");
}

#[test]
fn what_few_files_say_holds_too() {
    let project = Project::of("rare", &[]);
    let compose = |arguments: &str| project.compose(arguments);
    compose("up -d").ok();
    let daemon = &project.daemon;
    let base = daemon.inspect("the-base");
    assert_eq!(base["HostConfig"]["Privileged"], true);
    assert_eq!(base["HostConfig"]["Annotations"], json!({"com.example.note": "yes"}));
    assert!(base["State"]["Health"].is_null());
    let endpoint = &base["NetworkSettings"]["Networks"]["rare_default"];
    let is_in = |key: &str, start: &str| endpoint[key].as_str().unwrap().starts_with(start);
    assert!(
        is_in("IPAddress", "10.66.0.") && is_in("GlobalIPv6Address", "fd66::"),
        "{endpoint}"
    );
    let script = "hostname -f; df /pool | awk 'END { print $1, $2 }'; stat -c %u /pool; ls -d /made";
    assert_eq!(
        project.exec("base", script),
        "base-host.example.test\ntmpfs 1024\n1000\n/made"
    );
    assert!(project.directory().join("made").is_dir());

    // Beside it: one network, one tree of processes, one set of queues, the same volumes.
    let ids = "for kind in net pid ipc; do readlink /proc/self/ns/$kind; done";
    assert_eq!(project.exec("base", ids), project.exec("beside", ids));
    assert_eq!(
        project.exec("beside", "hostname; cat /proc/1/comm; ls -d /pool /made"),
        "base-host\ndocker-init\n/made\n/pool"
    );

    let limits = daemon.inspect("rare-limits-1");
    assert_eq!(limits["Config"]["Labels"]["extended"], "true");
    let host = &limits["HostConfig"];
    assert_eq!(
        (&host["Memory"], &host["PidsLimit"], &host["CpuShares"]),
        (&json!(32 << 20), &json!(40), &json!(512))
    );
    assert_eq!((&host["CpuQuota"], &host["CpuPeriod"]), (&json!(25000), &json!(50000)));
    assert_eq!(
        host["RestartPolicy"],
        json!({"Name": "on-failure", "MaximumRetryCount": 2})
    );
    let script = "echo $PLAIN $PASSED in $(pwd); awk '/^(Seccomp|Cpus_allowed_list):/ { print $2 }' /proc/self/status; \
        stat -c %t:%T /dev/nothing; grep ^search /etc/resolv.conf; touch /x 2>&1; hostname";
    let own = run(&mut Command::new("hostname")).ok();
    assert_eq!(
        project.exec("limits", script),
        format!(
            "1 through in /tmp\n0\n0\n1:3\nsearch a.test b.test\n\
             touch: /x: Read-only file system\n{own}"
        )
    );
    let resolver = daemon.network_of("rare-limits-1");
    assert_eq!(
        resolver.addresses_of("alias").first(),
        endpoint["IPAddress"].as_str().map(str::to_owned).as_ref()
    );

    // With the signal that it asks for, and an exit code that its policy would not accept.
    daemon.wait_for_log("rare-limits-1", "ready");
    compose("stop limits").ok();
    assert_eq!(daemon.inspect("rare-limits-1")["State"]["ExitCode"], 5);
    assert!(compose("logs --no-log-prefix limits").ok().ends_with("told"));

    // In the foreground: until one has ended, or somebody presses ^C.
    let output = compose("--profile job up --abort-on-container-exit --exit-code-from oneshot");
    assert_eq!(output.code, 6, "{output:?}");
    assert!(output.text().contains("from the included file"), "{output:?}");
    for name in ["the-base", "rare-beside-1", "rare-limits-1"] {
        assert_eq!(daemon.status(name), "exited", "{name}");
    }
    let up = Follower::run(&mut project.command("up"));
    for name in ["the-base", "rare-beside-1", "rare-limits-1"] {
        daemon.wait_for_status(name, "running");
    }
    let attached = || daemon.log().matches("/attach\" status=101").count();
    wait_until("it has attached to all", || attached() >= 7);
    // For the third time; before, it would not hear the signal.
    wait_until("it listens", || {
        daemon.docker("logs rare-limits-1").ok().matches("ready").count() == 3
    });
    up.signal(rustix::process::Signal::INT);
    up.wait();
    for (name, code) in [("the-base", 143), ("rare-beside-1", 143), ("rare-limits-1", 5)] {
        let state = daemon.inspect(name)["State"].clone();
        assert_eq!(
            (&state["Status"], &state["ExitCode"]),
            (&json!("exited"), &json!(code)),
            "{name}"
        );
    }

    compose("up -d").ok();
    compose("scale limits=2").ok();
    assert_eq!(containers(daemon, "limits").len(), 2);
    compose("run -d --name once limits sleep 100").ok();
    assert_eq!(daemon.status("once"), "running");
    compose("--profile job down -v -t 1 --remove-orphans").ok();
    daemon.assert_nothing_remains();
    assert_eq!(daemon.docker("volume ls -q").ok(), "");
}
