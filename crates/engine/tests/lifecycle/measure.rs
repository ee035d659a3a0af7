//! What a container costs through the engine's verbs: `cargo test -p corten-engine --test lifecycle -- --measure`.
//!
//! Prints, and asserts nothing: figures depend on the machine, and belong into docs/performance.md with their command.
use std::time::{Duration, Instant};

use corten_api::types::container::PortBinding;
use corten_engine::container::view::WaitCondition;

use crate::world::{World, shell};

pub async fn measure() {
    let world = World::new().await;
    for (label, network, ports) in [
        ("no network", "none", 0),
        ("bridge", "bridge", 0),
        ("bridge, 1 port", "bridge", 1),
        ("bridge, 100 ports", "bridge", 100),
    ] {
        println!("{label}:");
        one_by_one(&world, network, ports).await;
    }
    let begin = Instant::now();
    let mut running = Vec::new();
    for _ in 0..8 {
        let engine = world.engine().clone();
        running.push(tokio::spawn(async move {
            let mut ids = Vec::new();
            for _ in 0..7 {
                let base = Default::default();
                let created = engine
                    .containers()
                    .create_on(base, shell("sleep 100"))
                    .await
                    .expect("created");
                engine.containers().start(&created.id).await.expect("started");
                ids.push(created.id);
            }
            ids
        }));
    }
    let mut ids = Vec::new();
    for task in running {
        ids.extend(task.await.expect("no panic"));
    }
    let spent = begin.elapsed();
    println!(
        "{} started 8 at a time: {spent:?}, {:.0}/s",
        ids.len(),
        ids.len() as f64 / spent.as_secs_f64()
    );
    let begin = Instant::now();
    for id in &ids {
        world.remove(id).await;
    }
    println!("{} removed by force: {:?}", ids.len(), begin.elapsed());
}

async fn one_by_one(world: &World, network: &str, ports: u16) {
    let containers = world.engine().containers();
    let mut laps: Vec<[Duration; 4]> = Vec::new();
    for _ in 0..60 {
        let mut options = shell("");
        options.config.cmd = Some(["/bin/busybox", "true"].map(str::to_owned).to_vec());
        options.host_config.auto_remove = true;
        options.host_config.network_mode = network.to_owned();
        let published = (0..ports).map(|port| {
            let binding = PortBinding {
                host_ip: String::new(),
                host_port: (20_000 + port).to_string(),
            };
            (format!("{}/tcp", 1 + port), Some(vec![binding]))
        });
        options.host_config.port_bindings = Some(published.collect());
        let begin = Instant::now();
        let id = world.create(options).await;
        let created = Instant::now();
        let end = containers.wait(&id, WaitCondition::Removed).await.expect("waiting");
        containers.start(&id).await.expect("started");
        let started = Instant::now();
        end.await;
        let ended = Instant::now();
        laps.push([created - begin, started - created, ended - started, ended - begin]);
    }
    for (index, name) in ["create", "start", "exit and removal", "whole"].into_iter().enumerate() {
        let mut times: Vec<Duration> = laps.iter().skip(5).map(|lap| lap[index]).collect();
        times.sort();
        println!(
            "  {name}: min {:?}, median {:?}, max {:?}",
            times[0],
            times[times.len() / 2],
            times[times.len() - 1]
        );
    }
}
