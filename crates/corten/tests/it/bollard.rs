//! A client in Rust, bollard, whose types say which members an answer has and of which kind.
//!
//! An answer of another shape is an error to it.
use std::{collections::HashMap, future::Future, time::Duration};

use bollard::{
    API_DEFAULT_VERSION, Docker, body_full,
    container::LogOutput,
    errors::Error,
    exec::{CreateExecOptions, ResizeExecOptions, StartExecOptions, StartExecResults},
    models::{
        ChangeType, ContainerConfig, ContainerCreateBody, ContainerStateStatusEnum, ContainerSummaryStateEnum,
        ContainerUpdateBody, EndpointIpamConfig, EndpointSettings, EventMessageTypeEnum, HealthConfig,
        HealthStatusEnum, HostConfig, Ipam, IpamConfig, NetworkConnectRequest, NetworkCreateRequest,
        NetworkDisconnectRequest, PortBinding, VolumeCreateRequest,
    },
    query_parameters::{
        AttachContainerOptionsBuilder, CommitContainerOptionsBuilder, ContainerArchiveInfoOptionsBuilder,
        CreateContainerOptionsBuilder, DataUsageOptions, DownloadFromContainerOptionsBuilder, EventsOptionsBuilder,
        ImportImageOptions, KillContainerOptionsBuilder, ListContainersOptionsBuilder, ListImagesOptions,
        ListNetworksOptionsBuilder, ListVolumesOptions, LogsOptionsBuilder, PruneContainersOptions,
        PruneImagesOptionsBuilder, PruneNetworksOptions, PruneVolumesOptionsBuilder, RemoveContainerOptionsBuilder,
        RemoveImageOptions, RemoveVolumeOptions, RenameContainerOptionsBuilder, ResizeContainerTTYOptionsBuilder,
        StatsOptionsBuilder, TagImageOptionsBuilder, UploadToContainerOptionsBuilder, WaitContainerOptionsBuilder,
    },
};
use corten_testkit::{
    archive::Tar,
    daemon::{Arguments, Daemon},
    image,
    wait::PATIENCE,
};
use futures_util::{StreamExt, TryStreamExt};
use tokio::io::AsyncWriteExt;

use crate::{WAIT, daemon};

/// A client that has agreed on a version with the daemon.
async fn connect(daemon: &Daemon) -> Docker {
    let socket = daemon.socket();
    let client = Docker::connect_with_unix(socket.to_str().unwrap(), PATIENCE.as_secs(), API_DEFAULT_VERSION).unwrap();
    client.negotiate_version().await.unwrap()
}

/// What a container of busybox is made of.
fn body(command: impl Arguments) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some("busybox".to_owned()),
        cmd: Some(command.words()),
        host_config: Some(HostConfig {
            network_mode: Some("none".to_owned()),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

/// Makes a container and starts it; its id.
async fn up(client: &Docker, name: &str, body: ContainerCreateBody) -> String {
    let options = CreateContainerOptionsBuilder::new().name(name).build();
    let created = client.create_container(Some(options), body).await.unwrap();
    assert_eq!(created.warnings, [""; 0]);
    client.start_container(name, None).await.unwrap();
    created.id
}

async fn remove(client: &Docker, name: &str) {
    let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    client.remove_container(name, Some(options)).await.unwrap();
}

/// Asks until the answer is yes.
async fn until<F: Future<Output = bool>>(what: &str, ask: impl Fn() -> F) {
    let asked = async {
        while !ask().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked)
        .await
        .unwrap_or_else(|_| panic!("waited in vain: {what}"));
}

fn out(text: &'static str) -> LogOutput {
    LogOutput::StdOut { message: text.into() }
}

fn err(text: &'static str) -> LogOutput {
    LogOutput::StdErr { message: text.into() }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, Error>, status: u16, words: &str) {
    match answer {
        Err(Error::DockerResponseServerError { status_code, message }) => {
            assert_eq!((status_code, message.as_str()), (status, words));
        }
        other => panic!("not refused: {other:?}"),
    }
}

fn map<const N: usize>(pairs: [(&str, &str); N]) -> HashMap<String, String> {
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

#[tokio::test]
async fn a_container_is_made_attached_to_started_and_waited_for() {
    let daemon = daemon();
    let client = connect(&daemon).await;
    let script = "read word; echo out $word; echo err >&2; exit 3";
    let body = ContainerCreateBody {
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        open_stdin: Some(true),
        stdin_once: Some(true),
        env: Some(vec!["A=b".to_owned()]),
        labels: Some(map([("a.b", "c")])),
        exposed_ports: Some(vec!["80/tcp".to_owned()]),
        volumes: Some(vec!["/data".to_owned()]),
        ..body(["sh", "-c", script])
    };
    let options = CreateContainerOptionsBuilder::new().name("box").build();
    let created = client.create_container(Some(options), body.clone()).await.unwrap();
    assert_eq!((created.id.len(), created.warnings), (64, Vec::new()));
    let options = CreateContainerOptionsBuilder::new().name("box").build();
    let words = format!(
        "Conflict. The container name \"/box\" is already in use by container \"{}\". You have to remove (or rename) \
         that container to be able to reuse that name.",
        created.id
    );
    refused(client.create_container(Some(options), body).await, 409, &words);

    let options = AttachContainerOptionsBuilder::new()
        .stream(true)
        .stdin(true)
        .stdout(true)
        .stderr(true);
    let mut streams = client.attach_container("box", Some(options.build())).await.unwrap();
    let state = client.inspect_container("box", None).await.unwrap().state.unwrap();
    assert_eq!(state.status, Some(ContainerStateStatusEnum::CREATED));
    client.start_container("box", None).await.unwrap();
    streams.input.write_all(b"word\n").await.unwrap();
    let mut output: Vec<_> = streams.output.try_collect().await.unwrap();
    output.sort_by_key(|chunk| matches!(chunk, LogOutput::StdErr { .. }));
    assert_eq!(output, [out("out word\n"), err("err\n")]);
    let options = WaitContainerOptionsBuilder::new().condition("not-running").build();
    let ended = client.wait_container("box", Some(options)).next().await.unwrap();
    assert!(
        matches!(&ended, Err(Error::DockerContainerWaitError { error, code: 3 }) if error.is_empty()),
        "{ended:?}"
    );
    let options = LogsOptionsBuilder::new().stdout(true).stderr(true).build();
    let mut logged: Vec<_> = client.logs("box", Some(options)).try_collect().await.unwrap();
    logged.sort_by_key(|chunk| matches!(chunk, LogOutput::StdErr { .. }));
    assert_eq!(logged, output);

    let inspected = client.inspect_container("box", None).await.unwrap();
    let (state, config) = (inspected.state.unwrap(), inspected.config.unwrap());
    assert_eq!(
        (state.status, state.exit_code),
        (Some(ContainerStateStatusEnum::EXITED), Some(3))
    );
    assert_eq!((state.running, state.pid, state.health), (Some(false), Some(0), None));
    assert_eq!(inspected.name.as_deref(), Some("/box"));
    assert_eq!(config.cmd, Some(["sh", "-c", script].words()));
    assert_eq!(config.labels, Some(map([("a.b", "c")])));
    assert_eq!(config.exposed_ports, Some(vec!["80/tcp".to_owned()]));
    assert!(config.env.unwrap().contains(&"A=b".to_owned()));
    let mounts = inspected.mounts.unwrap();
    assert_eq!(mounts[0].typ.as_deref(), Some("volume"));
    assert_eq!(
        (mounts[0].destination.as_deref(), mounts[0].rw),
        (Some("/data"), Some(true))
    );
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
    assert!((now - 300..=now).contains(&inspected.created.unwrap().unix_timestamp()));

    let options = ListContainersOptionsBuilder::new().all(true).size(true);
    let listed = client.list_containers(Some(options.filters(&HashMap::from([("name", vec!["box"])])).build()));
    let listed = listed.await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].names, Some(vec!["/box".to_owned()]));
    assert_eq!(listed[0].state, Some(ContainerSummaryStateEnum::EXITED));
    assert!(listed[0].size_root_fs.unwrap() > 1 << 20);
    let pruned = client.prune_containers(None::<PruneContainersOptions>).await.unwrap();
    assert_eq!(pruned.containers_deleted, Some(vec![created.id]));
    refused(
        client.inspect_container("box", None).await,
        404,
        "No such container: box",
    );
    daemon.assert_nothing_remains();
}

#[tokio::test]
async fn a_running_container_is_looked_at_changed_and_ended() {
    let daemon = daemon();
    let client = connect(&daemon).await;
    let body = ContainerCreateBody {
        healthcheck: Some(HealthConfig {
            test: Some(["CMD-SHELL", "echo fine"].words()),
            interval: Some(50_000_000),
            ..HealthConfig::default()
        }),
        host_config: Some(HostConfig {
            port_bindings: Some(HashMap::from([(
                "80/tcp".to_owned(),
                Some(vec![PortBinding {
                    host_ip: Some("127.0.0.1".to_owned()),
                    host_port: Some("8080".to_owned()),
                }]),
            )])),
            ..HostConfig::default()
        }),
        ..body(["sh", "-c", WAIT])
    };
    let id = up(&client, "box", body).await;
    until("it is healthy", async || {
        let state = client.inspect_container("box", None).await.unwrap().state.unwrap();
        state.health.unwrap().status == Some(HealthStatusEnum::HEALTHY)
    })
    .await;
    let inspected = client.inspect_container("box", None).await.unwrap();
    let check = inspected.state.unwrap().health.unwrap().log.unwrap().pop().unwrap();
    assert_eq!((check.exit_code, check.output.as_deref()), (Some(0), Some("fine\n")));
    assert!(check.start.unwrap() <= check.end.unwrap());
    let settings = inspected.network_settings.unwrap();
    let bound = settings.ports.unwrap()["80/tcp"].clone().unwrap();
    assert_eq!(bound[0].host_port.as_deref(), Some("8080"));
    assert_eq!(settings.networks.unwrap()["bridge"].ip_prefix_len, Some(16));

    // What it uses: one sample, two, and a stream of them.
    for one_shot in [true, false] {
        let options = StatsOptionsBuilder::new().stream(false).one_shot(one_shot).build();
        let samples: Vec<_> = client.stats("box", Some(options)).try_collect().await.unwrap();
        assert_eq!(samples.len(), 1);
        let sample = &samples[0];
        assert_eq!((sample.id.as_ref(), sample.name.as_deref()), (Some(&id), Some("/box")));
        assert!(sample.memory_stats.as_ref().unwrap().usage.unwrap() > 0);
        assert!(
            sample
                .cpu_stats
                .as_ref()
                .unwrap()
                .cpu_usage
                .as_ref()
                .unwrap()
                .total_usage
                .unwrap()
                > 0
        );
        assert!(sample.pids_stats.as_ref().unwrap().current.unwrap() >= 1);
        assert!(sample.networks.as_ref().unwrap().contains_key("eth0"));
    }
    let options = StatsOptionsBuilder::new().stream(true).build();
    let samples: Vec<_> = client.stats("box", Some(options)).take(2).try_collect().await.unwrap();
    assert_eq!(samples[0].read, samples[1].preread);
    let top = client.top_processes("box", None).await.unwrap();
    assert_eq!(top.titles.unwrap()[..2], ["UID", "PID"]);
    assert!(
        top.processes
            .unwrap()
            .iter()
            .any(|columns| columns.last().unwrap().starts_with("sh -c "))
    );

    let limits = ContainerUpdateBody {
        memory: Some(64 << 20),
        memory_swap: Some(64 << 20),
        pids_limit: Some(77),
        ..ContainerUpdateBody::default()
    };
    client.update_container("box", limits).await.unwrap();
    let host = client
        .inspect_container("box", None)
        .await
        .unwrap()
        .host_config
        .unwrap();
    assert_eq!((host.memory, host.pids_limit), (Some(64 << 20), Some(77)));

    let status = async |name: &str| {
        client
            .inspect_container(name, None)
            .await
            .unwrap()
            .state
            .unwrap()
            .status
            .unwrap()
    };
    client.pause_container("box").await.unwrap();
    assert_eq!(status("box").await, ContainerStateStatusEnum::PAUSED);
    client.unpause_container("box").await.unwrap();
    let options = RenameContainerOptionsBuilder::new().name("crate").build();
    client.rename_container("box", options).await.unwrap();
    client.restart_container("crate", None).await.unwrap();
    assert_eq!(status("crate").await, ContainerStateStatusEnum::RUNNING);
    client.stop_container("crate", None).await.unwrap();
    assert_eq!(status("crate").await, ContainerStateStatusEnum::EXITED);
    // What is so already is no error.
    client.stop_container("crate", None).await.unwrap();
    client.start_container("crate", None).await.unwrap();
    client.start_container("crate", None).await.unwrap();
    let options = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
    client.kill_container("crate", Some(options)).await.unwrap();
    let state = client.inspect_container("crate", None).await.unwrap().state.unwrap();
    assert_eq!(
        (state.status, state.exit_code),
        (Some(ContainerStateStatusEnum::EXITED), Some(137))
    );
    remove(&client, "crate").await;
    daemon.assert_nothing_remains();
}

#[tokio::test]
async fn execs_have_streams_terminals_and_ends() {
    let daemon = daemon();
    let client = connect(&daemon).await;
    up(&client, "box", body(["sh", "-c", WAIT])).await;
    let script = "read word; echo got $word $A in $(pwd) as $(id -u); echo err >&2; exit 4";
    let options = CreateExecOptions {
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(["sh", "-c", script].words()),
        env: Some(vec!["A=b".to_owned()]),
        user: Some("1000".to_owned()),
        working_dir: Some("/tmp".to_owned()),
        ..CreateExecOptions::default()
    };
    let exec = client.create_exec("box", options).await.unwrap().id;
    let StartExecResults::Attached { output, mut input } = client.start_exec(&exec, None).await.unwrap() else {
        panic!("not attached");
    };
    input.write_all(b"word\n").await.unwrap();
    let mut output: Vec<_> = output.try_collect().await.unwrap();
    output.sort_by_key(|chunk| matches!(chunk, LogOutput::StdErr { .. }));
    assert_eq!(output, [out("got word b in /tmp as 1000\n"), err("err\n")]);
    let ended = client.inspect_exec(&exec).await.unwrap();
    assert_eq!((ended.running, ended.exit_code), (Some(false), Some(4)));
    assert_eq!(ended.process_config.unwrap().arguments, Some(["-c", script].words()));

    let options = CreateExecOptions {
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        tty: Some(true),
        cmd: Some(["sh", "-c", "read go; stty size"].words()),
        ..CreateExecOptions::default()
    };
    let exec = client.create_exec("box", options).await.unwrap().id;
    let start = StartExecOptions {
        tty: true,
        ..StartExecOptions::default()
    };
    let StartExecResults::Attached { output, mut input } = client.start_exec(&exec, Some(start)).await.unwrap() else {
        panic!("not attached");
    };
    let size = ResizeExecOptions { height: 33, width: 99 };
    client.resize_exec(&exec, size).await.unwrap();
    input.write_all(b"go\n").await.unwrap();
    let shown: Vec<_> = output.try_collect().await.unwrap();
    let shown: String = shown.iter().map(ToString::to_string).collect();
    assert!(shown.ends_with("33 99\r\n"), "{shown:?}");

    let options = CreateExecOptions {
        cmd: Some(["touch", "/tmp/touched"].words()),
        ..CreateExecOptions::default()
    };
    let exec = client.create_exec("box", options).await.unwrap().id;
    let start = StartExecOptions {
        detach: true,
        ..StartExecOptions::default()
    };
    client.start_exec(&exec, Some(start)).await.unwrap();
    until("it has ended", async || {
        client.inspect_exec(&exec).await.unwrap().running == Some(false)
    })
    .await;
    let touched = client.container_changes("box").await.unwrap().unwrap();
    let touched = touched.iter().find(|change| change.path == "/tmp/touched").unwrap();
    assert_eq!(touched.kind, ChangeType::_1);
    let nothing = client
        .create_exec("nothing", CreateExecOptions::<String>::default())
        .await;
    refused(nothing, 404, "No such container: nothing");
    remove(&client, "box").await;
    daemon.assert_nothing_remains();
}

#[tokio::test]
async fn who_waits_is_told_of_the_next_end_and_of_the_removal() {
    let daemon = daemon();
    let client = connect(&daemon).await;
    let mut short = body(["sh", "-c", "for i in 1 2 3; do echo $i; done; read go"]);
    (short.open_stdin, short.tty) = (Some(true), Some(true));
    short.host_config.as_mut().unwrap().auto_remove = Some(true);
    up(&client, "box", short).await;
    let options = ResizeContainerTTYOptionsBuilder::new().h(33).w(99).build();
    client.resize_container_tty("box", options).await.unwrap();
    until("three lines are there", async || {
        let options = LogsOptionsBuilder::new().stdout(true).tail("2").build();
        let lines: Vec<_> = client.logs("box", Some(options)).try_collect().await.unwrap();
        lines.iter().map(ToString::to_string).collect::<String>() == "2\r\n3\r\n"
    })
    .await;
    let options = AttachContainerOptionsBuilder::new()
        .stream(true)
        .stdin(true)
        .stdout(true)
        .logs(true);
    let mut streams = client.attach_container("box", Some(options.build())).await.unwrap();
    let wait = |condition| {
        let options = WaitContainerOptionsBuilder::new().condition(condition).build();
        client.wait_container("box", Some(options)).try_collect::<Vec<_>>()
    };
    let typed = async {
        let waits = async || daemon.log().matches("/wait\" status=200").count() == 2;
        until("both waits are asked for before the end", waits).await;
        streams.input.write_all(b"go\n").await.unwrap();
        let shown: Vec<_> = streams.output.try_collect().await.unwrap();
        shown.iter().map(ToString::to_string).collect::<String>()
    };
    let (next, removed, shown) = tokio::join!(wait("next-exit"), wait("removed"), typed);
    assert_eq!((next.unwrap()[0].status_code, removed.unwrap()[0].status_code), (0, 0));
    assert_eq!(shown, "1\r\n2\r\n3\r\ngo\r\n");
    let error = "cannot kill container: box: No such container: box";
    refused(client.kill_container("box", None).await, 404, error);
    daemon.assert_nothing_remains();
}

#[tokio::test]
async fn events_are_told_as_they_happen_and_afterwards() {
    let daemon = daemon();
    let client = connect(&daemon).await;
    up(&client, "box", body("true")).await;
    let ended = client.wait_container("box", None).next().await.unwrap().unwrap();
    assert_eq!((ended.status_code, ended.error), (0, None));
    let filters = HashMap::from([("type", vec!["container", "volume"])]);
    let options = EventsOptionsBuilder::new().since("0").filters(&filters).build();
    let mut events = std::pin::pin!(client.events(Some(options)));
    let mut actions = Vec::new();
    while actions.last().is_none_or(|last| last != "die") {
        let event = events.try_next().await.unwrap().unwrap();
        assert_eq!(event.typ, Some(EventMessageTypeEnum::CONTAINER));
        assert_eq!(event.actor.unwrap().attributes.unwrap()["name"], "box");
        assert_eq!(event.time_nano.unwrap() / 1_000_000_000, event.time.unwrap());
        actions.push(event.action.unwrap());
    }
    assert_eq!(actions, ["create", "start", "die"]);
    // The stream has begun, so that nothing is missed from here on.
    let volume = VolumeCreateRequest {
        name: Some("data".to_owned()),
        ..VolumeCreateRequest::default()
    };
    client.create_volume(volume).await.unwrap();
    let event = events.try_next().await.unwrap().unwrap();
    assert_eq!(
        (event.typ, event.action.as_deref()),
        (Some(EventMessageTypeEnum::VOLUME), Some("create"))
    );
    assert_eq!(event.actor.unwrap().id.as_deref(), Some("data"));
}

#[tokio::test]
async fn files_go_up_and_come_down_and_become_an_image() {
    let daemon = daemon();
    let client = connect(&daemon).await;
    up(&client, "box", body(["sh", "-c", WAIT])).await;
    let archive = Tar::new()
        .directory("made/", 0o750)
        .file("made/file", 0o640, b"content\n")
        .symlink("made/link", "file")
        .finish();
    let options = UploadToContainerOptionsBuilder::new().path("/tmp").build();
    let upload = client.upload_to_container("box", Some(options), body_full(archive.into()));
    upload.await.unwrap();
    let options = |path| ContainerArchiveInfoOptionsBuilder::new().path(path).build();
    let file = client.get_container_archive_info("box", Some(options("/tmp/made/file")));
    let file = file.await.unwrap();
    assert_eq!((file.name.as_str(), file.size, file.file_mode), ("file", 8, 0o640));
    let link = client.get_container_archive_info("box", Some(options("/tmp/made/link")));
    assert!(link.await.unwrap().link_target.ends_with("/tmp/made/file"));
    let download = |path| {
        let options = DownloadFromContainerOptionsBuilder::new().path(path).build();
        client
            .download_from_container("box", Some(options))
            .try_collect::<Vec<_>>()
    };
    let down = download("/tmp/made").await.unwrap().concat();
    assert!(down.windows(8).any(|window| window == b"content\n"));
    refused(
        download("/nothing").await,
        404,
        "Could not find the file /nothing in container box",
    );
    let exported: Vec<_> = client.export_container("box").try_collect().await.unwrap();
    assert!(exported.concat().windows(8).any(|window| window == b"content\n"));

    let options = CommitContainerOptionsBuilder::new()
        .container("box")
        .repo("made")
        .tag("1");
    let config = ContainerConfig {
        cmd: Some(["cat", "/tmp/made/link"].words()),
        labels: Some(map([("made", "here")])),
        ..ContainerConfig::default()
    };
    let committed = client
        .commit_container(options.comment("by hand").author("me").build(), config)
        .await;
    let committed = committed.unwrap().id;
    remove(&client, "box").await;
    let inspected = client.inspect_image("made:1").await.unwrap();
    assert_eq!(inspected.id.as_ref(), Some(&committed));
    assert_eq!(
        (inspected.author.as_deref(), inspected.os.as_deref()),
        (Some("me"), Some("linux"))
    );
    assert_eq!(inspected.config.unwrap().cmd, Some(["cat", "/tmp/made/link"].words()));
    assert_eq!(inspected.root_fs.unwrap().layers.unwrap().len(), 2);
    let history = client.image_history("made:1").await.unwrap();
    assert_eq!(
        (history[0].comment.as_str(), &history[0].tags[..]),
        ("by hand", &["made:1".to_owned()][..])
    );
    let made = ContainerCreateBody {
        image: Some("made:1".to_owned()),
        ..body("cat /tmp/made/link")
    };
    up(&client, "copy", made).await;
    let options = LogsOptionsBuilder::new().stdout(true).follow(true).build();
    let said: Vec<_> = client.logs("copy", Some(options)).try_collect().await.unwrap();
    assert_eq!(said, [out("content\n")]);
    remove(&client, "copy").await;

    let options = TagImageOptionsBuilder::new().repo("made").tag("2").build();
    client.tag_image("made:1", Some(options)).await.unwrap();
    let saved: Vec<_> = client.export_image("made:2").try_collect().await.unwrap();
    let images = client.list_images(None::<ListImagesOptions>).await.unwrap();
    let made = images.iter().find(|image| image.id == committed).unwrap();
    assert_eq!(made.repo_tags, ["made:1", "made:2"]);
    assert_eq!((made.containers, made.labels["made"].as_str()), (0, "here"));
    for tag in ["made:1", "made:2"] {
        let gone = client
            .remove_image(tag, None::<RemoveImageOptions>, None)
            .await
            .unwrap();
        assert_eq!(gone[0].untagged.as_deref(), Some(tag));
    }
    let saved = body_full(saved.concat().into());
    let told: Vec<_> = client
        .import_image(ImportImageOptions::default(), saved, None)
        .try_collect()
        .await
        .unwrap();
    assert!(
        told.iter()
            .any(|line| line.stream.as_deref() == Some("Loaded image: made:2\n")),
        "{told:?}"
    );
    assert_eq!(client.inspect_image("made:2").await.unwrap().id, Some(committed));
    let filters = HashMap::from([("dangling", vec!["false"])]);
    let options = PruneImagesOptionsBuilder::new().filters(&filters).build();
    let pruned = client.prune_images(Some(options)).await.unwrap();
    let pruned = pruned.images_deleted.unwrap();
    assert!(
        pruned.iter().any(|item| item.untagged.as_deref() == Some("made:2")),
        "{pruned:?}"
    );
    refused(client.inspect_image("made:2").await, 404, "No such image: made:2");
}

#[tokio::test]
async fn networks_are_made_joined_left_and_pruned() {
    let daemon = daemon();
    let client = connect(&daemon).await;
    let config = IpamConfig {
        subnet: Some("10.88.0.0/24".to_owned()),
        gateway: Some("10.88.0.254".to_owned()),
        ..IpamConfig::default()
    };
    let request = NetworkCreateRequest {
        name: "lane".to_owned(),
        driver: Some("bridge".to_owned()),
        ipam: Some(Ipam {
            config: Some(vec![config.clone()]),
            ..Ipam::default()
        }),
        labels: Some(map([("room", "cellar")])),
        options: Some(map([("com.docker.network.driver.mtu", "1400")])),
        ..NetworkCreateRequest::default()
    };
    let made = client.create_network(request).await.unwrap();
    assert_eq!(made.warning, "");
    let filters = HashMap::from([("label", vec!["room=cellar"])]);
    let options = ListNetworksOptionsBuilder::new().filters(&filters).build();
    let listed = client.list_networks(Some(options)).await.unwrap();
    assert_eq!((listed.len(), listed[0].id.as_ref()), (1, Some(&made.id)));

    let mut joining = body(["sh", "-c", WAIT]);
    joining.host_config = None;
    let id = up(&client, "box", joining).await;
    let endpoint = EndpointSettings {
        aliases: Some(vec!["crate".to_owned()]),
        ipam_config: Some(EndpointIpamConfig {
            ipv4_address: Some("10.88.0.7".to_owned()),
            ..EndpointIpamConfig::default()
        }),
        ..EndpointSettings::default()
    };
    let join = NetworkConnectRequest {
        container: "box".to_owned(),
        endpoint_config: Some(endpoint),
    };
    client.connect_network("lane", join).await.unwrap();
    let network = client.inspect_network("lane", None).await.unwrap();
    assert_eq!(network.ipam.unwrap().config, Some(vec![config]));
    assert_eq!((network.internal, network.enable_ipv6), (Some(false), Some(false)));
    assert!(network.created.unwrap().unix_timestamp() > 0);
    assert_eq!(
        network.containers.unwrap()[&id].ipv4_address.as_deref(),
        Some("10.88.0.7/24")
    );
    let inspected = client.inspect_container("box", None).await.unwrap();
    let endpoint = &inspected.network_settings.unwrap().networks.unwrap()["lane"];
    assert_eq!(endpoint.gateway.as_deref(), Some("10.88.0.254"));
    assert!(endpoint.dns_names.as_ref().unwrap().contains(&"crate".to_owned()));
    let words = format!(
        "error while removing network: network lane id {} has active endpoints (name:\"box\" id:\"{}\")",
        made.id,
        &id[..12]
    );
    refused(client.remove_network("lane").await, 403, &words);
    client.disconnect_network("lane", leave("box")).await.unwrap();
    let pruned = client.prune_networks(None::<PruneNetworksOptions>).await.unwrap();
    assert_eq!(pruned.networks_deleted, Some(vec!["lane".to_owned()]));
    refused(
        client.inspect_network("lane", None).await,
        404,
        "network lane not found",
    );
}

fn leave(container: &str) -> NetworkDisconnectRequest {
    NetworkDisconnectRequest {
        container: container.to_owned(),
        force: None,
    }
}

#[tokio::test]
async fn volumes_are_made_used_and_pruned() {
    let daemon = daemon();
    let client = connect(&daemon).await;
    let request = VolumeCreateRequest {
        name: Some("data".to_owned()),
        labels: Some(map([("keep", "no")])),
        ..VolumeCreateRequest::default()
    };
    let made = client.create_volume(request).await.unwrap();
    assert_eq!((made.driver.as_str(), &made.labels), ("local", &map([("keep", "no")])));
    assert!(made.created_at.unwrap().unix_timestamp() > 0);
    let mut user = body(["sh", "-c", "echo kept >/data/file"]);
    user.host_config.as_mut().unwrap().binds = Some(vec!["data:/data".to_owned()]);
    up(&client, "box", user).await;
    client
        .wait_container("box", None)
        .try_collect::<Vec<_>>()
        .await
        .unwrap();
    let inspected = client.inspect_volume("data").await.unwrap();
    assert_eq!(
        std::fs::read_to_string(format!("{}/file", inspected.mountpoint)).unwrap(),
        "kept\n"
    );
    let listed = client.list_volumes(None::<ListVolumesOptions>).await.unwrap();
    assert_eq!(listed.volumes.unwrap().len(), 1);
    let id = client.inspect_container("box", None).await.unwrap().id.unwrap();
    let in_use = client.remove_volume("data", None::<RemoveVolumeOptions>).await;
    refused(in_use, 409, &format!("remove data: volume is in use - [{id}]"));
    remove(&client, "box").await;
    let options = PruneVolumesOptionsBuilder::new().filters(&HashMap::from([("all", vec!["true"])]));
    let pruned = client.prune_volumes(Some(options.build())).await.unwrap();
    assert_eq!(pruned.volumes_deleted, Some(vec!["data".to_owned()]));
    assert!(pruned.space_reclaimed.unwrap() >= 5);
    refused(client.inspect_volume("data").await, 404, "get data: no such volume");
}

#[tokio::test]
async fn the_daemon_says_what_it_is_and_what_it_keeps() {
    let daemon = daemon();
    let client = connect(&daemon).await;
    assert_eq!(client.ping().await.unwrap(), "OK");
    let version = client.version().await.unwrap();
    assert_eq!(version.os.as_deref(), Some("linux"));
    assert_eq!(version.api_version, Some(client.client_version().to_string()));
    let info = client.info().await.unwrap();
    assert_eq!((info.images, info.containers), (Some(1), Some(0)));
    assert_eq!(info.docker_root_dir.as_deref(), daemon.data_root().to_str());
    assert!(info.mem_total.unwrap() > 0 && info.ncpu.unwrap() > 0);
    // Before 1.52 the answer has other members than bollard's, so that it finds none of them; it still is a document.
    client.df(None::<DataUsageOptions>).await.unwrap();
    let images = client.list_images(None::<ListImagesOptions>).await.unwrap();
    assert_eq!(images[0].id, image::busybox().id());
}
