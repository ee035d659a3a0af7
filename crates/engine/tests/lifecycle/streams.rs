//! Attach and logs: every byte arrives, once, in order, on its stream.
use corten_engine::container::view::{AttachOptions, LogsOptions};
use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{World, shell};

crate::tests![
    attached_before_the_start_sees_everything,
    standard_input_ends_when_the_client_ends_it,
    logs_are_framed_tailed_and_followed,
];

fn all() -> AttachOptions {
    AttachOptions {
        stdin: true,
        stdout: true,
        stderr: true,
        stream: true,
        ..AttachOptions::default()
    }
}

async fn attached_before_the_start_sees_everything() {
    let world = World::new().await;
    let containers = world.engine().containers();
    for _ in 0..20 {
        let id = world.create(shell("echo out; echo err >&2")).await;
        let attachment = containers.attach(&id, all()).await.expect("attached");
        assert!(!attachment.tty());
        let (client, server) = tokio::io::duplex(1 << 16);
        let copy = tokio::spawn(attachment.run(server, std::future::pending()));
        containers.start(&id).await.expect("started");
        let (mut reader, _writer) = tokio::io::split(client);
        let mut output = Vec::new();
        reader.read_to_end(&mut output).await.expect("readable");
        copy.await.expect("ends");
        let text = String::from_utf8_lossy(&output);
        assert!(
            text.contains("\u{1}\0\0\0\0\0\0\u{4}out\n") && text.contains("\u{2}\0\0\0\0\0\0\u{4}err\n"),
            "{text:?}"
        );
        world.remove(&id).await;
    }
    world.assert_clean();
}

async fn standard_input_ends_when_the_client_ends_it() {
    let world = World::new().await;
    let containers = world.engine().containers();
    let mut options = shell("busybox=/bin/busybox; $busybox cat | $busybox wc -c");
    options.config.open_stdin = true;
    options.config.stdin_once = true;
    let id = world.create(options).await;
    let attachment = containers.attach(&id, all()).await.expect("attached");
    let (client, server) = tokio::io::duplex(1 << 16);
    tokio::spawn(attachment.run(server, std::future::pending()));
    containers.start(&id).await.expect("started");
    let (mut reader, mut writer) = tokio::io::split(client);
    let sender = tokio::spawn(async move {
        let block = vec![7_u8; 1 << 20];
        for _ in 0..4 {
            writer.write_all(&block).await.expect("taken");
        }
        writer.shutdown().await.expect("ended");
        writer
    });
    let mut output = Vec::new();
    reader.read_to_end(&mut output).await.expect("readable");
    sender.await.expect("sent");
    assert_eq!(String::from_utf8_lossy(&output[8..]).trim(), (4 << 20).to_string());
    world.remove(&id).await;
}

async fn read(world: &World, id: &str, options: LogsOptions) -> String {
    let mut stream = world.engine().containers().logs(id, options).await.expect("opened");
    let mut output = Vec::new();
    while let Some(chunk) = stream.next().await {
        output.extend_from_slice(&chunk.expect("readable"));
    }
    // Without the headers.
    let mut text = String::new();
    let mut rest = output.as_slice();
    while let Some((header, after)) = rest.split_at_checked(8) {
        let length = u32::from_be_bytes(header[4..].try_into().expect("four")) as usize;
        text.push_str(&String::from_utf8_lossy(&after[..length]));
        rest = &after[length..];
    }
    text
}

async fn logs_are_framed_tailed_and_followed() {
    let world = World::new().await;
    let id = world
        .start(shell("for i in 1 2 3; do echo $i; done; sleep 0.5; echo last >&2"))
        .await;
    let both = LogsOptions {
        stdout: true,
        stderr: true,
        ..LogsOptions::default()
    };
    let followed = read(
        &world,
        &id,
        LogsOptions {
            follow: true,
            ..both.clone()
        },
    )
    .await;
    assert_eq!(followed, "1\n2\n3\nlast\n");
    assert_eq!(
        read(
            &world,
            &id,
            LogsOptions {
                tail: Some(2),
                ..both.clone()
            }
        )
        .await,
        "3\nlast\n"
    );
    assert_eq!(
        read(
            &world,
            &id,
            LogsOptions {
                stderr: false,
                ..both.clone()
            }
        )
        .await,
        "1\n2\n3\n"
    );
    assert_eq!(
        read(&world, &id, LogsOptions { follow: true, ..both }).await,
        "1\n2\n3\nlast\n"
    );
    world.remove(&id).await;
}
