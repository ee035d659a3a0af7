//! Overlayfs: layers are directories, stacked by the kernel.
use std::{
    collections::HashSet,
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown},
    path::Path,
};

use crate::{
    driver::storage::{ActiveLayer, StorageDriver},
    error::Error,
    layout::Layout,
};

/// The kernel's OVL_MAX_STACK.
const MAX_LAYERS: usize = 500;

#[derive(Debug)]
pub struct Overlay {
    layout: Layout,
}

impl Overlay {
    pub fn new(layout: Layout) -> Overlay {
        Overlay { layout }
    }

    fn make(&self, active: &ActiveLayer, directory: &Path) -> Result<(), Error> {
        let mut builder = fs::DirBuilder::new();
        builder.mode(0o710);
        builder.create(directory).map_err(Error::io("create", directory))?;
        builder.mode(0o755);
        builder
            .create(&active.upper)
            .map_err(Error::io("create", &active.upper))?;
        builder.mode(0o700);
        builder
            .create(&active.work)
            .map_err(Error::io("create", &active.work))?;
        copy_root(&active.lowers[0], &active.upper)
    }
}

impl StorageDriver for Overlay {
    fn name(&self) -> &'static str {
        "overlay2"
    }

    fn active(&self, container_id: &str, layers: &[&str]) -> ActiveLayer {
        let directory = self.layout.active(container_id);
        let mut lowers: Vec<_> = layers
            .iter()
            .rev()
            .map(|layer| self.layout.layer_files(layer))
            .collect();
        if lowers.is_empty() {
            lowers.push(self.layout.empty_layer());
        }
        ActiveLayer {
            lowers,
            upper: directory.join("upper"),
            work: directory.join("work"),
        }
    }

    fn prepare(&self, container_id: &str, layers: &[&str]) -> Result<ActiveLayer, Error> {
        if layers.len() > MAX_LAYERS {
            return Err(Error::TooManyLayers {
                layers: layers.len(),
                limit: MAX_LAYERS,
            });
        }
        let active = self.active(container_id, layers);
        let directory = self.layout.active(container_id);
        if let Err(error) = self.make(&active, &directory) {
            let exists = matches!(&error, Error::Io { path, source, .. }
                if *path == directory && source.kind() == io::ErrorKind::AlreadyExists);
            if !exists {
                let _ = fs::remove_dir_all(&directory);
            }
            return Err(error);
        }
        Ok(active)
    }

    fn size(&self, container_id: &str) -> Result<u64, Error> {
        let upper = self.layout.active(container_id).join("upper");
        directory_size(&upper, &mut HashSet::new())
    }
}

/// The merged root directory shows the upper directory's owner and mode, so these are the image's.
fn copy_root(from: &Path, to: &Path) -> Result<(), Error> {
    let metadata = fs::metadata(from).map_err(Error::io("read", from))?;
    if (metadata.uid(), metadata.gid()) != (0, 0) {
        chown(to, Some(metadata.uid()), Some(metadata.gid())).map_err(Error::io("change the owner of", to))?;
    }
    if metadata.mode() & 0o7777 != 0o755 {
        let mode = fs::Permissions::from_mode(metadata.mode() & 0o7777);
        fs::set_permissions(to, mode).map_err(Error::io("change the mode of", to))?;
    }
    Ok(())
}

/// Bytes of regular files, hard links counted once. What vanishes meanwhile counts as nothing.
fn directory_size(directory: &Path, seen: &mut HashSet<u64>) -> Result<u64, Error> {
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let entries = match fs::read_dir(directory) {
        Err(error) if gone(&error) => return Ok(0),
        entries => entries.map_err(Error::io("read", directory))?,
    };
    let mut size = 0;
    for entry in entries {
        let entry = entry.map_err(Error::io("read", directory))?;
        let metadata = match entry.metadata() {
            Err(error) if gone(&error) => continue,
            metadata => metadata.map_err(Error::io("read", entry.path()))?,
        };
        if metadata.is_dir() {
            size += directory_size(&entry.path(), seen)?;
        } else if metadata.is_file() && (metadata.nlink() == 1 || seen.insert(metadata.ino())) {
            size += metadata.len();
        }
    }
    Ok(size)
}
