//! Containers of a real image: what the image says holds, and its files are where volumes begin.
use std::{fs::File, os::unix::fs::MetadataExt, process::Command};

use corten_engine::{
    container::view::{AttachOptions, CreateOptions, LogsOptions},
    image::view::ImportOptions,
};
use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{BUSYBOX, World};

crate::tests![
    a_missing_image_is_named_as_docker_names_it,
    the_image_gives_what_the_user_does_not,
    a_new_volume_begins_with_the_images_files,
    memory_runs_out_and_the_kernel_is_blamed,
    a_terminal_is_resized_and_left_by_its_keys,
    a_read_only_root_has_writable_places,
];

/// Busybox, users, and a directory that wants to be a volume.
async fn import(world: &World) {
    let root = world.directory.path().join("root");
    for directory in ["bin", "etc", "data/deep"] {
        std::fs::create_dir_all(root.join(directory)).expect("made");
    }
    std::fs::copy(BUSYBOX, root.join("bin/busybox")).expect("copied");
    for applet in ["sh", "id", "cat", "ls", "sleep", "tail", "stty", "pwd", "touch"] {
        let _ = std::os::unix::fs::symlink("busybox", root.join("bin").join(applet));
    }
    std::fs::write(
        root.join("etc/passwd"),
        "root:x:0:0::/root:/bin/sh\nmaria:x:1234:1234::/home/maria:/bin/sh\n",
    )
    .expect("written");
    std::fs::write(root.join("etc/group"), "root:x:0:\nmaria:x:1234:\nteam:x:77:maria\n").expect("written");
    std::fs::write(root.join("data/deep/file"), "from the image").expect("written");
    std::os::unix::fs::chown(root.join("data/deep/file"), Some(1234), Some(77)).expect("owned");
    std::os::unix::fs::symlink("/etc/passwd", root.join("data/link")).expect("linked");
    let archive = world.directory.path().join("root.tar");
    let tar = Command::new("tar")
        .arg("-C")
        .arg(&root)
        .arg("-cf")
        .arg(&archive)
        .arg(".")
        .status()
        .expect("tar");
    assert!(tar.success());
    let options = ImportOptions {
        reference: Some("box:1".to_owned()),
        changes: [
            "CMD [\"/bin/id\"]",
            "ENV COLOR=green SIZE=1",
            "USER maria",
            "VOLUME /data",
            "LABEL tier=test",
        ]
        .map(str::to_owned)
        .to_vec(),
        ..ImportOptions::default()
    };
    let (progress, _told) = tokio::sync::mpsc::channel(64);
    let file = File::open(&archive).expect("readable");
    world
        .engine()
        .images()
        .import(file, options, progress)
        .await
        .expect("imported");
}

fn options(script: Option<&str>) -> CreateOptions {
    let mut options = CreateOptions::default();
    options.config.image = "box:1".to_owned();
    options.config.cmd = script.map(|script| ["/bin/sh", "-c", script].map(str::to_owned).to_vec());
    options.host_config.network_mode = "none".to_owned();
    options
}

/// Runs it; answers with the exit code and everything that it printed.
async fn run(world: &World, options: CreateOptions) -> (String, i64, String) {
    let containers = world.engine().containers();
    let id = containers.create(options).await.expect("created").id;
    let end = containers
        .wait(&id, corten_engine::container::view::WaitCondition::NextExit)
        .await
        .expect("waiting");
    containers.start(&id).await.expect("started");
    let end = end.await;
    let both = LogsOptions {
        stdout: true,
        stderr: true,
        ..LogsOptions::default()
    };
    let mut logs = containers.logs(&id, both).await.expect("opened");
    let mut text = String::new();
    while let Some(chunk) = logs.next().await {
        let chunk = chunk.expect("readable");
        let mut rest = &chunk[..];
        while let Some((header, after)) = rest.split_at_checked(8) {
            let length = u32::from_be_bytes(header[4..].try_into().expect("four")) as usize;
            text.push_str(&String::from_utf8_lossy(&after[..length]));
            rest = &after[length..];
        }
    }
    (id, end.exit_code, text)
}

async fn a_missing_image_is_named_as_docker_names_it() {
    let world = World::new().await;
    let error = world.engine().containers().create(CreateOptions {
        config: corten_api::types::container::ContainerConfig {
            image: "nothing".to_owned(),
            ..Default::default()
        },
        host_config: corten_api::types::container::HostConfig {
            network_mode: "none".to_owned(),
            ..Default::default()
        },
        ..CreateOptions::default()
    });
    assert_eq!(
        error.await.expect_err("missing").to_string(),
        "No such image: nothing:latest"
    );
}

async fn the_image_gives_what_the_user_does_not() {
    let world = World::new().await;
    import(&world).await;
    let (id, code, text) = run(&world, options(None)).await;
    assert_eq!(
        (code, text.as_str()),
        (0, "uid=1234(maria) gid=1234(maria) groups=77(team),1234(maria)\n")
    );
    let view = world.engine().containers().inspect(&id).expect("known");
    assert_eq!(
        (view.image_name.as_str(), view.record.config.labels["tier"].as_str()),
        ("box:1", "test")
    );
    world.remove(&id).await;

    let mut own = options(Some("echo $COLOR $SIZE $HOSTNAME $HOME; pwd; id -u"));
    own.config.env = vec!["SIZE=2".to_owned()];
    own.config.hostname = "here".to_owned();
    own.config.user = "0".to_owned();
    own.config.working_dir = "/not/there/yet".to_owned();
    let (id, code, text) = run(&world, own).await;
    assert_eq!((code, text.as_str()), (0, "green 2 here /root\n/not/there/yet\n0\n"));
    world.remove(&id).await;
    world.assert_clean();
}

async fn a_new_volume_begins_with_the_images_files() {
    let world = World::new().await;
    import(&world).await;
    let mut first = options(Some("cat /data/deep/file; ls -l /data/link; exit 3"));
    first.host_config.binds = Some(vec!["store:/data".to_owned()]);
    let (id, code, text) = run(&world, first).await;
    assert_eq!(code, 3, "{text}");
    assert!(
        text.starts_with("from the image") && text.ends_with("-> /etc/passwd\n"),
        "{text}"
    );
    let file = world.directory.path().join("data/volumes/store/_data/deep/file");
    let metadata = std::fs::metadata(file).expect("copied");
    assert_eq!((metadata.uid(), metadata.gid()), (1234, 77));
    world.remove(&id).await;
    assert_eq!(world.names("data/volumes"), ["store"]);
}

async fn memory_runs_out_and_the_kernel_is_blamed() {
    let world = World::new().await;
    import(&world).await;
    let mut hungry = options(Some("tail /dev/zero"));
    hungry.host_config.memory = 16 << 20;
    let (_, mut events) = world.engine().events().subscribe(None);
    let (id, code, _) = run(&world, hungry).await;
    let state = world.engine().containers().inspect(&id).expect("known").state;
    assert_eq!((code, state.oom_killed), (137, true));
    let mut actions = Vec::new();
    while let Ok(event) = events.try_recv() {
        if event.kind == "container" {
            actions.push(event.action.clone());
        }
    }
    assert_eq!(actions, ["create", "start", "oom", "die"]);
    world.remove(&id).await;
    world.assert_clean();
}

async fn a_terminal_is_resized_and_left_by_its_keys() {
    let world = World::new().await;
    import(&world).await;
    let containers = world.engine().containers();
    let mut shell = options(None);
    shell.config.cmd = Some(vec!["/bin/sh".to_owned()]);
    (shell.config.tty, shell.config.open_stdin) = (true, true);
    shell.host_config.console_size = [33, 99];
    let id = containers.create(shell).await.expect("created").id;
    let all = AttachOptions {
        stdin: true,
        stdout: true,
        stderr: true,
        stream: true,
        ..AttachOptions::default()
    };
    let attachment = containers.attach(&id, all.clone()).await.expect("attached");
    let (client, server) = tokio::io::duplex(1 << 16);
    let copy = tokio::spawn(attachment.run(server, std::future::pending()));
    containers.start(&id).await.expect("started");
    let (mut reader, mut writer) = tokio::io::split(client);
    writer.write_all(b"stty size\n").await.expect("typed");
    read_until(&mut reader, "33 99").await;
    containers.resize(&id, 44, 120).await.expect("resized");
    writer.write_all(b"stty size\n").await.expect("typed");
    read_until(&mut reader, "44 120").await;
    writer.write_all(b"\x10\x11").await.expect("typed");
    copy.await.expect("left");
    assert_eq!(containers.inspect(&id).expect("known").state.phase.status(), "running");

    let attachment = containers.attach(&id, all).await.expect("attached again");
    let (client, server) = tokio::io::duplex(1 << 16);
    let copy = tokio::spawn(attachment.run(server, std::future::pending()));
    let (mut reader, mut writer) = tokio::io::split(client);
    writer.write_all(b"echo back $((40 + 2))\n").await.expect("typed");
    read_until(&mut reader, "back 42").await;
    writer.write_all(b"exit 5\n").await.expect("typed");
    copy.await.expect("ends");
    world.remove(&id).await;
    world.assert_clean();
}

async fn read_until(reader: &mut (impl AsyncReadExt + Unpin), text: &str) {
    let mut seen = Vec::new();
    let mut buffer = [0; 512];
    while !String::from_utf8_lossy(&seen).contains(text) {
        let count = reader.read(&mut buffer).await.expect("readable");
        assert!(count > 0, "ended before {text:?}: {:?}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..count]);
    }
}

async fn a_read_only_root_has_writable_places() {
    let world = World::new().await;
    import(&world).await;
    let mut own = options(Some(
        "touch /new && echo root; touch /tmp/new && echo tmpfs; touch /dev/shm/new && echo shm",
    ));
    own.config.user = "0".to_owned();
    own.host_config.readonly_rootfs = true;
    own.host_config.tmpfs = Some([("/tmp".to_owned(), "size=1m".to_owned())].into());
    let (id, code, text) = run(&world, own).await;
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("Read-only file system") && text.ends_with("tmpfs\nshm\n"),
        "{text}"
    );
    world.remove(&id).await;
    world.assert_clean();
}
