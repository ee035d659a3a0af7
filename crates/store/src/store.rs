//! The store: a data root that is open, and what all parts of it share.
//!
//! Opening takes a lock that dies with the process, and removes whatever a process before left half-made.
use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::Path,
};

use rusqlite::params;
use rustix::fs::FlockOperation;

use crate::{
    content::Content,
    database::Database,
    driver::{
        overlay::Overlay,
        storage::{ActiveLayer, StorageDriver},
    },
    error::Error,
    images::Images,
    layout::Layout,
    lease::{Lease, Leases},
    quota::{self, Projects},
    sweep::Sweeper,
    unpack::boot_id,
};

/// Of the directories and files; the database has its own.
const FORMAT: &str = "1";

pub struct Store {
    pub(crate) layout: Layout,
    pub(crate) database: Database,
    pub(crate) driver: Box<dyn StorageDriver>,
    pub(crate) content: Content,
    pub(crate) images: Images,
    pub(crate) leases: Leases,
    pub(crate) sweeper: Sweeper,
    projects: Projects,
    pub(crate) boot: String,
    _lock: File,
}

impl Store {
    /// Opens or makes the data root; fails when another process has it.
    pub fn open(layout: Layout) -> Result<Store, Error> {
        make_directory(layout.data_root(), 0o710)?;
        let lock = take_lock(&layout.lock())?;
        check_version(&layout)?;
        for (directory, mode) in [
            (layout.content(), 0o700),
            (layout.blobs(), 0o700),
            (layout.ingest(), 0o700),
            (layout.layers(), 0o710),
            (layout.empty_layer(), 0o755),
            (layout.staging(), 0o700),
            (layout.trash(), 0o700),
            (layout.actives(), 0o710),
            (layout.containers(), 0o710),
            (layout.volumes(), 0o711),
        ] {
            make_directory(&directory, mode)?;
        }
        let store = Store {
            database: Database::open(&layout.database())?,
            driver: Box::new(Overlay::new(layout.clone())),
            content: Content::open(layout.clone())?,
            images: Images::default(),
            leases: Leases::default(),
            boot: boot_id(),
            sweeper: Sweeper::start(layout.trash())?,
            projects: Projects::default(),
            layout,
            _lock: lock,
        };
        store.discard_half_made()?;
        store.repair()?;
        store.read_images()?;
        store.collect()?;
        Ok(store)
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Blobs by digest.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// To hold on to layers until something refers to them.
    pub fn lease(&self) -> Lease<'_> {
        self.leases.take()
    }

    /// The storage driver's name.
    pub fn driver(&self) -> &'static str {
        self.driver.name()
    }

    /// Makes a container's writable layer on `layers`, lowest first (with or without `sha256:`).
    pub fn prepare_active(&self, container_id: &str, layers: &[String]) -> Result<ActiveLayer, Error> {
        let layers = bare(layers);
        self.hold_layers(container_id, &layers)?;
        let prepared = self.driver.prepare(container_id, &layers);
        if prepared.is_err() && !self.layout.active(container_id).exists() {
            self.release_layers(container_id)?;
        }
        prepared
    }

    /// Lets a writable layer that was just made hold so many bytes.
    pub fn limit_active(&self, container_id: &str, bytes: u64) -> Result<(), Error> {
        let active = self.driver.active(container_id, &[]);
        let directories = [self.layout.active(container_id), active.upper, active.work];
        self.projects.limit(&self.layout, &directories, bytes)
    }

    /// Lets a volume that was just made hold so many bytes.
    pub fn limit_volume(&self, name: &str, bytes: u64) -> Result<(), Error> {
        self.projects
            .limit(&self.layout, &[self.layout.volume_data(name)], bytes)
    }

    /// Where that layer is; touches nothing.
    pub fn active(&self, container_id: &str, layers: &[String]) -> ActiveLayer {
        self.driver.active(container_id, &bare(layers))
    }

    /// Containers that have a writable layer.
    pub fn actives(&self) -> Result<Vec<String>, Error> {
        let directory = self.layout.actives();
        let entries = fs::read_dir(&directory).map_err(Error::io("read", &directory))?;
        let names = entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
        names.collect::<io::Result<_>>().map_err(Error::io("read", &directory))
    }

    /// Takes the writable layer away; its files are deleted in the background. None there is fine.
    pub fn remove_active(&self, container_id: &str) -> Result<(), Error> {
        let directory = self.layout.active(container_id);
        quota::forget(&directory);
        self.sweeper.discard(&directory)?;
        self.release_layers(container_id)
    }

    /// Bytes that the container wrote.
    pub fn active_size(&self, container_id: &str) -> Result<u64, Error> {
        self.driver.size(container_id)
    }

    pub fn put_record(&self, kind: &str, id: &str, name: Option<&str>, document: &str) -> Result<(), Error> {
        self.database.put_record(kind, id, name, document)
    }

    /// The record of a container and its hold on layers, in one transaction. Its directories are the caller's to discard.
    pub fn delete_container(&self, kind: &str, id: &str) -> Result<(), Error> {
        self.database.delete_container(kind, id)
    }

    pub fn delete_record(&self, kind: &str, id: &str) -> Result<(), Error> {
        self.database.delete_record(kind, id)
    }

    pub fn records(&self, kind: &str) -> Result<Vec<(String, String)>, Error> {
        self.database.records(kind)
    }

    /// Deletes a directory of the data root (`containers/<id>`, `volumes/<name>`) off the critical path.
    pub fn discard(&self, directory: &Path) -> Result<(), Error> {
        self.sweeper.discard(directory)
    }

    /// Waits until all that was removed is deleted from the disk. May take long: for who removes to have room.
    pub fn finish_deletions(&self) {
        self.sweeper.finish();
    }

    /// Holds on to more layers for a container (of images that it mounts) until its writable layer is removed.
    pub fn hold_more(&self, container_id: &str, layers: &[String]) -> Result<(), Error> {
        self.hold_layers(container_id, &bare(layers))
    }

    fn hold_layers(&self, container_id: &str, layers: &[&str]) -> Result<(), Error> {
        if layers.is_empty() {
            return Ok(());
        }
        let doing = "hold a container's layers";
        let mut connection = self.database.lock();
        let transaction = connection.transaction().map_err(Error::database(doing))?;
        for layer in layers {
            let known = transaction
                .prepare_cached("SELECT 1 FROM layers WHERE id = ?1")
                .and_then(|mut statement| statement.exists([layer]))
                .map_err(Error::database(doing))?;
            if !known {
                return Err(Error::NoSuchLayer {
                    id: (*layer).to_owned(),
                });
            }
            transaction
                .prepare_cached("INSERT OR IGNORE INTO active_layers (container, layer) VALUES (?1, ?2)")
                .and_then(|mut statement| statement.execute(params![container_id, layer]))
                .map_err(Error::database(doing))?;
        }
        transaction.commit().map_err(Error::database(doing))
    }

    fn release_layers(&self, container_id: &str) -> Result<(), Error> {
        let change = |connection: &rusqlite::Connection| {
            let mut statement = connection.prepare_cached("DELETE FROM active_layers WHERE container = ?1")?;
            statement.execute([container_id])
        };
        self.database
            .with_reserve(change)
            .map(drop)
            .map_err(Error::database("release a container's layers"))
    }

    fn discard_half_made(&self) -> Result<(), Error> {
        for directory in [self.layout.ingest(), self.layout.staging()] {
            for entry in fs::read_dir(&directory).map_err(Error::io("read", &directory))? {
                let entry = entry.map_err(Error::io("read", &directory))?;
                self.sweeper.discard(&entry.path())?;
            }
        }
        Ok(())
    }
}

/// Layer ids without `sha256:`.
fn bare(layers: &[String]) -> Vec<&str> {
    let bare = |layer| str::strip_prefix(layer, "sha256:").unwrap_or(layer);
    layers.iter().map(|layer| bare(layer)).collect()
}

fn make_directory(path: &Path, mode: u32) -> Result<(), Error> {
    let mut builder = fs::DirBuilder::new();
    builder
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(Error::io("create", path))
}

/// Ends with the process, even when that is killed.
fn take_lock(path: &Path) -> Result<File, Error> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(Error::io("open", path))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Locked { path: path.to_owned() }),
        Err(error) => Err(Error::errno("lock", path)(error)),
    }
}

fn check_version(layout: &Layout) -> Result<(), Error> {
    let path = layout.version();
    match fs::read_to_string(&path) {
        Ok(found) if found.trim() == FORMAT => Ok(()),
        Ok(found) if !found.trim().is_empty() => Err(Error::Newer {
            path,
            found: found.trim().to_owned(),
        }),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("read", &path)(error)),
        // New, or a process died before it wrote the number.
        _ => File::create(&path)
            .and_then(|mut file| writeln!(file, "{FORMAT}"))
            .map_err(Error::io("write", &path)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn layout(directory: &tempfile::TempDir) -> Layout {
        Layout::new(directory.path().join("data"), directory.path().join("run"))
    }

    #[test]
    fn one_process_owns_a_data_root() {
        let directory = tempfile::tempdir().unwrap();
        let first = Store::open(layout(&directory)).unwrap();
        assert!(matches!(Store::open(layout(&directory)), Err(Error::Locked { .. })));
        let mode = fs::metadata(first.layout().data_root()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o710);
        drop(first);
        Store::open(layout(&directory)).unwrap();
    }

    #[test]
    fn what_was_half_made_is_gone_after_opening() {
        let directory = tempfile::tempdir().unwrap();
        let layout = layout(&directory);
        drop(Store::open(layout.clone()).unwrap());
        fs::create_dir_all(layout.staging().join("a/b")).unwrap();
        fs::write(layout.ingest().join("c"), "x").unwrap();
        fs::create_dir_all(layout.trash().join("7/d")).unwrap();
        drop(Store::open(layout.clone()).unwrap());
        for directory in [layout.staging(), layout.ingest(), layout.trash()] {
            assert_eq!(fs::read_dir(directory).unwrap().count(), 0);
        }
    }

    #[test]
    fn a_writable_layer_comes_measures_and_goes() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(layout(&directory)).unwrap();
        let active = store.prepare_active("c1", &[]).unwrap();
        assert_eq!(active, store.active("c1", &[]));
        assert_eq!(active.lowers.len(), 1);
        fs::create_dir(active.upper.join("d")).unwrap();
        fs::write(active.upper.join("d/f"), [0; 1000]).unwrap();
        fs::hard_link(active.upper.join("d/f"), active.upper.join("g")).unwrap();
        assert_eq!(store.active_size("c1").unwrap(), 1000);
        assert!(store.prepare_active("c1", &[]).is_err());
        assert!(active.upper.exists(), "a second prepare does no harm");
        store.remove_active("c1").unwrap();
        store.remove_active("c1").unwrap();
        assert!(!active.upper.exists());
    }

    #[test]
    fn a_layer_that_is_not_there_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(layout(&directory)).unwrap();
        let missing = store.prepare_active("c1", &["sha256:ab".to_owned()]);
        assert!(matches!(missing, Err(Error::NoSuchLayer { id }) if id == "ab"));
        assert_eq!(fs::read_dir(store.layout().actives()).unwrap().count(), 0);
    }
}
