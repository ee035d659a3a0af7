//! New layers of files that are here already, and images that appear with their name.
//!
//! A layer is written in one walk: while this thread reads the files, one hashes and keeps the tar, and one makes the
//! layer's own copy of the files.
use std::{
    io,
    os::fd::BorrowedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread,
};

use corten_linux::transfer::Sink;
use rustix::{buffer::spare_capacity, io::Errno};

use crate::{
    error::Error,
    layer::{
        apply::apply,
        blocks::{self, Blocks},
        error::LayerError,
        tar::Reader,
    },
    lease::Lease,
    store::Store,
    unpack::{Layer, Staging, keep, note},
};

impl Store {
    /// Makes a layer of the tar that `write` writes. The lease keeps it. On failure nothing is left.
    pub fn write_layer(
        &self,
        lease: &Lease<'_>,
        write: impl FnOnce(&mut dyn Sink) -> Result<(), LayerError>,
    ) -> Result<Layer, Error> {
        let staging = Staging::new(self)?;
        let mut ingest = self.content.ingest()?;
        let (files, discarded) = staging.open()?;
        let path = ingest.path().to_owned();
        let failed = AtomicBool::new(false);
        let (to_tar, tar_blocks) = sync_channel(blocks::WAITING);
        let (to_files, file_blocks) = sync_channel(blocks::WAITING);
        let (written, kept, applied) = thread::scope(|scope| {
            let kept = scope.spawn(|| note(&failed, keep(tar_blocks, &mut ingest)));
            let applied = scope.spawn(|| {
                let mut reader = Reader::new(Blocks::new(file_blocks));
                note(&failed, apply(&mut reader, files, discarded))
            });
            let mut split = Split {
                block: Vec::with_capacity(blocks::SIZE),
                to_tar,
                to_files: Some(to_files),
                failed: &failed,
            };
            let written = write(&mut split).and_then(|()| split.send().map_err(LayerError::Write));
            drop(split);
            let panicked = "threads of a commit do not panic";
            (written, kept.join().expect(panicked), applied.join().expect(panicked))
        });
        // A writer that fails because the others did has no cause of its own.
        kept.map_err(Error::io("write", path))?;
        let applied = match (written, applied) {
            (Err(LayerError::Write(_)), Err(error)) | (Ok(()), Err(error)) => return Err(error.into()),
            (Err(error), _) => return Err(error.into()),
            (Ok(()), Ok(applied)) => applied,
        };
        self.commit(lease, staging, ingest, applied)
    }
}

/// Gives every block to both threads.
struct Split<'a> {
    block: Vec<u8>,
    to_tar: SyncSender<Arc<Vec<u8>>>,
    to_files: Option<SyncSender<Arc<Vec<u8>>>>,
    failed: &'a AtomicBool,
}

impl Split<'_> {
    fn send(&mut self) -> io::Result<()> {
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(blocks::SIZE));
        let block = Arc::new(block);
        // One that is gone has seen the end mark, or failed.
        self.to_files = self.to_files.take().filter(|sender| sender.send(block.clone()).is_ok());
        match self.to_tar.send(block).is_ok() && !self.failed.load(Ordering::Relaxed) {
            true => Ok(()),
            false => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn send_if_full(&mut self) -> io::Result<()> {
        match self.block.len() == blocks::SIZE {
            true => self.send(),
            false => Ok(()),
        }
    }
}

impl Sink for Split<'_> {
    fn bytes(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = bytes.len().min(blocks::SIZE - self.block.len());
            self.block.extend_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            self.send_if_full()?;
        }
        Ok(())
    }

    /// Read straight into the block.
    fn file(&mut self, file: BorrowedFd, offset: u64, length: u64) -> io::Result<()> {
        let mut done = 0;
        while done < length {
            let before = self.block.len();
            let count = match rustix::io::pread(file, spare_capacity(&mut self.block), offset + done) {
                Ok(0) => {
                    // It has become shorter.
                    let step = (blocks::SIZE - before).min(usize::try_from(length - done).unwrap_or(usize::MAX));
                    self.block.resize(before + step, 0);
                    step
                }
                Ok(count) => count,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let wanted = usize::try_from(length - done).unwrap_or(usize::MAX).min(count);
            self.block.truncate(before + wanted);
            done += wanted as u64;
            self.send_if_full()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::fd::AsFd};

    use super::*;
    use crate::{
        layer::write::{end, file_header, padding},
        layout::Layout,
    };

    #[test]
    fn a_written_layer_is_the_one_that_its_tar_unpacks_to() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(Layout::new(directory.path().join("data"), directory.path().join("run"))).unwrap();
        let bytes: Vec<u8> = (0..900_001_u32).map(|number| (number >> 3) as u8).collect();
        let path = directory.path().join("file");
        fs::write(&path, &bytes).unwrap();
        let file = fs::File::open(&path).unwrap();
        let size = bytes.len() as u64;
        let lease = store.lease();
        let layer = store
            .write_layer(&lease, |sink| {
                let mut all = || {
                    sink.bytes(&file_header("large", size))?;
                    sink.file(file.as_fd(), 0, size)?;
                    sink.bytes(padding(size))?;
                    // More than the file has.
                    sink.bytes(&file_header("short", 512))?;
                    sink.file(file.as_fd(), size - 12, 512)?;
                    sink.bytes(&end())
                };
                all().map_err(LayerError::Write)
            })
            .unwrap();
        let tar = store.content().read(&layer.id).unwrap();
        assert_eq!(tar.len() as u64, layer.tar_size);
        assert!(fs::read(store.layout().layer_files(&layer.id).join("large")).unwrap() == bytes);
        let short = fs::read(store.layout().layer_files(&layer.id).join("short")).unwrap();
        assert_eq!(
            (&short[..12], &short[12..]),
            (&bytes[bytes.len() - 12..], &[0; 500][..])
        );
        let again = store.unpack(&lease, &tar[..], &mut |_| ()).unwrap();
        assert_eq!(again.layer, layer);
    }

    #[test]
    fn a_walk_that_fails_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(Layout::new(directory.path().join("data"), directory.path().join("run"))).unwrap();
        let lease = store.lease();
        let failed = store.write_layer(&lease, |sink| {
            sink.bytes(&[0; 600_000]).map_err(LayerError::Write)?;
            Err(LayerError::Conflict("walked away".to_owned()))
        });
        assert_eq!(failed.unwrap_err().to_string(), "walked away");
        let nonsense = store.write_layer(&lease, |sink| {
            let mut all = || (0..100).try_for_each(|_| sink.bytes(&[1; 100_000]));
            all().map_err(LayerError::Write)
        });
        assert_eq!(nonsense.unwrap_err().to_string(), "not a tar archive");
        for place in [
            store.layout().ingest(),
            store.layout().staging(),
            store.layout().blobs(),
        ] {
            assert_eq!(fs::read_dir(place).unwrap().count(), 0);
        }
    }
}
