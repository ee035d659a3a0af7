//! Worlds for the store's tests, and pictures of file trees to compare.
#![allow(dead_code)]
use std::{
    collections::{BTreeMap, HashMap},
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
    process::Command,
};

use corten_store::{
    content::digest,
    error::Error,
    layout::Layout,
    store::Store,
    unpack::{Layer, Unpacked},
};

pub struct World {
    pub directory: tempfile::TempDir,
    pub store: Store,
}

impl World {
    pub fn new() -> World {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(layout(directory.path())).unwrap();
        World { directory, store }
    }

    pub fn unpack(&self, tar: &[u8]) -> Result<Unpacked, Error> {
        self.store.unpack(&self.store.lease(), tar, &mut |_| ())
    }

    pub fn files(&self, layer: &Layer) -> PathBuf {
        self.store.layout().layer_files(&layer.id)
    }

    /// That a failure left nothing: no blob, no layer, nothing half-made, and nothing beside the data root.
    pub fn assert_empty(&self) {
        let layout = self.store.layout();
        for directory in [layout.blobs(), layout.ingest(), layout.staging()] {
            assert_eq!(names(&directory), Vec::<String>::new(), "{}", directory.display());
        }
        assert_eq!(names(&layout.layers()), ["empty"]);
        assert_eq!(names(self.directory.path()), ["data"]);
    }
}

pub fn layout(directory: &Path) -> Layout {
    Layout::new(directory.join("data"), directory.join("run"))
}

pub fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Everything about a tree that a user could see, one line per name.
pub fn picture(root: &Path) -> BTreeMap<String, String> {
    let mut lines = BTreeMap::new();
    let mut first_names = HashMap::new();
    draw(root, Path::new(""), &mut first_names, &mut lines);
    lines
}

fn draw(root: &Path, relative: &Path, first_names: &mut HashMap<u64, String>, lines: &mut BTreeMap<String, String>) {
    let path = root.join(relative);
    let metadata = fs::symlink_metadata(&path).unwrap();
    let name = String::from_utf8_lossy(relative.as_os_str().as_bytes()).into_owned();
    let kind = metadata.file_type();
    let detail = if kind.is_file() {
        let blocks = if metadata.len() > 1 << 20 && metadata.blocks() * 512 < metadata.len() / 2 {
            "sparse"
        } else {
            ""
        };
        format!("file {} {} {blocks}", metadata.len(), digest(&fs::read(&path).unwrap()))
    } else if kind.is_symlink() {
        format!("link {:?}", fs::read_link(&path).unwrap())
    } else if kind.is_dir() {
        "directory".to_owned()
    } else if kind.is_fifo() {
        "fifo".to_owned()
    } else {
        format!("device {} {:x}", kind.is_char_device(), metadata.rdev())
    };
    let group = match kind.is_dir() {
        true => String::new(),
        false => first_names
            .entry(metadata.ino())
            .or_insert_with(|| name.clone())
            .clone(),
    };
    lines.insert(
        name,
        format!(
            "{:o} {}:{} {}.{:09} {group:?} {:?} {detail}",
            metadata.mode() & 0o7777,
            metadata.uid(),
            metadata.gid(),
            metadata.mtime(),
            metadata.mtime_nsec(),
            xattrs(&path),
        ),
    );
    if kind.is_dir() {
        for entry in names_bytes(&path) {
            draw(root, &relative.join(entry), first_names, lines);
        }
    }
}

fn names_bytes(directory: &Path) -> Vec<std::ffi::OsString> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}

pub fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut list = vec![0_u8; 65536];
    let length = rustix::fs::llistxattr(path, &mut list).unwrap_or(0);
    let names = list[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty());
    let get = |name: &[u8]| {
        let mut value = vec![0_u8; 65536];
        let length = rustix::fs::lgetxattr(path, name, &mut value).unwrap();
        value.truncate(length);
        (String::from_utf8_lossy(name).into_owned(), value)
    };
    names.map(get).collect()
}

/// Runs a shell or Python script in a directory.
pub fn run(program: &str, script: &str, directory: &Path) {
    let output = Command::new(program)
        .args(["-c", script])
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{script}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
