//! A process that is killed while it loads layers: the next one finds whole layers only, and no rubbish.
mod support;

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use corten_store::{
    content::digest,
    layer::write::{end, file_header, padding},
    store::Store,
};
use serde_json::json;
use support::{layout, names};

const CHILD: &str = "CORTEN_TEST_LOADS_INTO";

/// Files of a layer that differs from every other `number`.
fn layer(number: u32) -> Vec<u8> {
    let mut archive = Vec::new();
    for file in 0..40 {
        let bytes = format!("{number}-{file}-").into_bytes().repeat(500 + file * 100);
        archive.extend(file_header(&format!("d/{file}"), bytes.len() as u64));
        archive.extend_from_slice(&bytes);
        archive.extend(padding(bytes.len() as u64));
    }
    archive.extend(end());
    archive
}

/// Not a test of its own: what the other one runs and kills. Images come, and every other one goes.
#[test]
fn load_for_ever() {
    let Some(directory) = std::env::var_os(CHILD) else {
        return;
    };
    let store = Store::open(layout(Path::new(&directory))).unwrap();
    println!("open");
    for number in 0.. {
        let lease = store.lease();
        let bytes = layer(number);
        let compressed = zstd::encode_all(&bytes[..], 1).unwrap();
        let unpacked = store.unpack(&lease, &compressed[..], &mut |_| ()).unwrap();
        let configuration = json!({"architecture": "amd64", "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", unpacked.layer.id)]}});
        let image = store.put_image(configuration.to_string().as_bytes()).unwrap();
        store.name_image(&format!("app:{number}"), &image.id, 1).unwrap();
        drop(lease);
        let container = format!("c{number}");
        store
            .prepare_active(&container, &[format!("sha256:{}", unpacked.layer.id)])
            .unwrap();
        if number % 2 == 0 {
            store.remove_active(&container).unwrap();
            store.delete_image(&image.id).unwrap();
            store.collect().unwrap();
        }
    }
}

#[test]
fn a_kill_in_the_middle_of_loads_leaves_whole_layers_only() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..12_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["load_for_ever", "--exact", "--nocapture"])
            .env(CHILD, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().ends_with("open")));
        thread::sleep(Duration::from_millis(20 + round * 37));
        child.kill().unwrap();
        child.wait().unwrap();
        check(directory.path());
    }
}

fn check(directory: &Path) {
    let store = Store::open(layout(directory)).unwrap();
    let layout = store.layout();
    assert_eq!(names(&layout.ingest()), Vec::<String>::new());
    assert_eq!(names(&layout.staging()), Vec::<String>::new());
    let mut expected_layers = vec!["empty".to_owned()];
    let mut expected_blobs = Vec::new();
    for image in store.images() {
        expected_blobs.push(image.id.clone());
        assert_eq!(digest(&image.raw), image.id);
        for layer in &image.layers {
            expected_layers.push(layer.id.clone());
            expected_blobs.push(layer.id.clone());
            assert_eq!(digest(&store.content().read(&layer.id).unwrap()), layer.id);
            let files = layout.layer_files(&layer.id).join("d");
            let sizes = names(&files)
                .into_iter()
                .map(|name| fs::metadata(files.join(name)).unwrap().len());
            assert_eq!(sizes.sum::<u64>(), layer.size);
            assert_eq!(names(&files).len(), 40);
        }
    }
    // Layers of removed images stay under containers that were being removed.
    for container in store.actives().unwrap() {
        store.remove_active(&container).unwrap();
    }
    store.collect().unwrap();
    expected_layers.sort();
    expected_blobs.sort();
    expected_layers.dedup();
    assert_eq!(names(&layout.layers()), expected_layers);
    assert_eq!(names(&layout.blobs()), expected_blobs);
}

#[test]
fn layers_that_may_not_be_on_the_disk_are_made_again_after_a_reboot() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(layout(directory.path())).unwrap();
    let lease = store.lease();
    let layers: Vec<_> = (0..3)
        .map(|number| store.unpack(&lease, &layer(number)[..], &mut |_| ()).unwrap().layer)
        .collect();
    let image = |number: usize| {
        let configuration = json!({"architecture": "amd64", "os": "linux", "config": {"Cmd": [number.to_string()]},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", layers[number].id)]}});
        store.put_image(configuration.to_string().as_bytes()).unwrap()
    };
    let (torn, lost, settled) = (image(0), image(1), image(2));
    store.settle().unwrap();
    drop(lease);
    drop(store);
    // As a power cut leaves files that were not written out: empty.
    let database = rusqlite::Connection::open(layout(directory.path()).database()).unwrap();
    for unsettled in [&layers[0].id, &layers[1].id] {
        database
            .execute("UPDATE layers SET boot = 'earlier' WHERE id = ?1", [unsettled])
            .unwrap();
    }
    drop(database);
    let layout = layout(directory.path());
    for layer in &layers {
        fs::write(layout.layer_files(&layer.id).join("d/1"), "").unwrap();
    }
    fs::write(layout.blob(&layers[1].id), "").unwrap();
    let store = Store::open(layout.clone()).unwrap();
    assert!(store.image(&torn.id).is_some());
    let size = |index: usize| {
        fs::metadata(layout.layer_files(&layers[index].id).join("d/1"))
            .unwrap()
            .len()
    };
    assert!(size(0) > 0, "made again");
    assert_eq!(size(2), 0, "a settled layer is not looked at");
    assert!(store.image(&lost.id).is_none(), "a damaged one is not kept");
    assert!(store.image(&settled.id).is_some());
    assert!(!layout.layer(&layers[1].id).exists());
}
