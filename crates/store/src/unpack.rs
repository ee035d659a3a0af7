//! Unpacking: a layer's stream becomes a tar blob and a directory, in one pass.
//!
//! Three threads: this one reads, hashes what it read and inflates; one hashes and keeps the tar; one makes the files.
//! The tar is the truth (`save` gives it back bit by bit), the directory is a cache that can be made from it again.
//! A layer's id is its diffID and says nothing about layers below: each stands on its own, and a hard link to a file
//! that only a layer below has is refused, as Docker's overlay driver does.
use std::{
    fs::{self, File},
    io::{self, BufReader, Read, Write},
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use rusqlite::{OptionalExtension, params};
use sha2::{Digest, Sha256};

use crate::{
    content::{self, Ingest},
    error::Error,
    layer::{
        apply::{Applied, apply, open_directory},
        blocks::{self, Blocks},
        compress::{Compression, MAGIC, Peeked, detect, inflate},
        error::LayerError,
        tar::Reader,
    },
    lease::Lease,
    store::Store,
};

/// An honest gzip stream cannot exceed 1032; zstd can, but not for files that anybody has.
const BOMB_RATIO: u64 = 2000;
const BOMB_SIZE: u64 = 1 << 30;

/// A layer of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The hexadecimal part of the diffID.
    pub id: String,
    /// Bytes of its files.
    pub size: u64,
    /// Bytes of its tar.
    pub tar_size: u64,
}

/// What came out of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpacked {
    pub layer: Layer,
    /// The hexadecimal digest and the size of the stream as it came, when it was compressed.
    pub compressed: Option<(String, u64)>,
}

impl Store {
    /// Reads one layer, compressed or not, up to the end of `input`. The lease keeps it. On failure nothing is left.
    ///
    /// `progress` is told, now and then, how many bytes were read.
    pub fn unpack(
        &self,
        lease: &Lease<'_>,
        input: impl Read,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Unpacked, Error> {
        let staging = Staging::new(self)?;
        let mut ingest = self.content.ingest()?;
        let source = Source::new(input, progress).map_err(LayerError::Read)?;
        let (compressed, applied) = stream(source, &staging, &mut ingest)?;
        let layer = self.commit(lease, staging, ingest, applied)?;
        if let Some((digest, size)) = &compressed {
            self.remember_source(digest, *size, &layer.id)?;
        }
        Ok(Unpacked { layer, compressed })
    }

    /// The layer of this diffID, held by the lease from now on.
    pub fn find_layer(&self, lease: &Lease<'_>, id: &str) -> Result<Option<Layer>, Error> {
        let mut gate = self.leases.gate();
        let found = self.layer(id)?;
        if found.is_some() {
            gate.hold(lease, id);
        }
        Ok(found)
    }

    /// The layer that was unpacked from a compressed blob of this digest before.
    pub fn find_source(&self, lease: &Lease<'_>, digest: &str) -> Result<Option<Layer>, Error> {
        let id: Option<String> = self
            .database
            .lock()
            .prepare_cached("SELECT layer FROM sources WHERE digest = ?1")
            .and_then(|mut statement| statement.query_row([digest], |row| row.get(0)).optional())
            .map_err(Error::database("find a layer"))?;
        id.map_or(Ok(None), |id| self.find_layer(lease, &id))
    }

    pub(crate) fn layer(&self, id: &str) -> Result<Option<Layer>, Error> {
        self.database
            .lock()
            .prepare_cached("SELECT id, size, tar_size FROM layers WHERE id = ?1")
            .and_then(|mut statement| {
                let layer = statement.query_row([id], |row| {
                    Ok(Layer {
                        id: row.get(0)?,
                        size: row.get::<_, i64>(1)? as u64,
                        tar_size: row.get::<_, i64>(2)? as u64,
                    })
                });
                layer.optional()
            })
            .map_err(Error::database("find a layer"))
    }

    /// Makes the files of a layer again, from its tar.
    pub(crate) fn unpack_again(&self, layer: &Layer) -> Result<(), Error> {
        let staging = Staging::new(self)?;
        let (blob, _) = self.content.open_blob(&layer.id)?;
        let mut ingest = self.content.ingest()?;
        let mut ignored = |_| ();
        let source = Source::new(blob, &mut ignored).map_err(LayerError::Read)?;
        stream(source, &staging, &mut ingest)?;
        let found = ingest.digest();
        if found != layer.id {
            return Err(Error::Digest {
                expected: layer.id.clone(),
                found,
            });
        }
        self.sweeper.discard(&self.layout.layer(&layer.id))?;
        self.sweeper.discard(&staging.discarded())?;
        let target = self.layout.layer(&layer.id);
        ingest.publish()?;
        fs::rename(&staging.path, &target).map_err(Error::io("create", &target))
    }

    /// Files first, then the transaction that makes them a layer.
    pub(crate) fn commit(
        &self,
        lease: &Lease<'_>,
        staging: Staging<'_>,
        ingest: Ingest<'_>,
        applied: Applied,
    ) -> Result<Layer, Error> {
        let layer = Layer {
            id: ingest.digest(),
            size: applied.size,
            tar_size: ingest.size(),
        };
        let mut gate = self.leases.gate();
        gate.hold(lease, &layer.id);
        if let Some(known) = self.layer(&layer.id)? {
            return Ok(known);
        }
        let target = self.layout.layer(&layer.id);
        self.sweeper.discard(&staging.discarded())?;
        self.sweeper.discard(&target)?;
        ingest.publish()?;
        fs::rename(&staging.path, &target).map_err(Error::io("create", &target))?;
        self.database
            .lock()
            .prepare_cached("INSERT INTO layers (id, size, tar_size, boot) VALUES (?1, ?2, ?3, ?4)")
            .and_then(|mut statement| {
                let sizes = (layer.size as i64, layer.tar_size as i64);
                statement.execute(params![layer.id, sizes.0, sizes.1, self.boot])
            })
            .map_err(Error::database("write a layer"))?;
        drop(gate);
        Ok(layer)
    }

    fn remember_source(&self, digest: &str, size: u64, layer: &str) -> Result<(), Error> {
        self.database
            .lock()
            .prepare_cached("INSERT OR REPLACE INTO sources (digest, layer, size) VALUES (?1, ?2, ?3)")
            .and_then(|mut statement| statement.execute(params![digest, layer, size as i64]))
            .map(drop)
            .map_err(Error::database("write a layer"))
    }
}

/// A directory that is becoming a layer's. Dropped, it is swept away, unless it was renamed.
pub(crate) struct Staging<'a> {
    store: &'a Store,
    path: PathBuf,
}

impl<'a> Staging<'a> {
    pub(crate) fn new(store: &'a Store) -> Result<Staging<'a>, Error> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = store.layout.staging().join(number.to_string());
        let staging = Staging { store, path };
        for directory in [staging.path.clone(), staging.files(), staging.discarded()] {
            fs::create_dir(&directory).map_err(Error::io("create", &directory))?;
        }
        Ok(staging)
    }

    /// Where files go, and where what they replace goes.
    pub(crate) fn open(&self) -> Result<(OwnedFd, OwnedFd), Error> {
        let open = |path: PathBuf| open_directory(&path).map_err(Error::io("open", &path));
        Ok((open(self.files())?, open(self.discarded())?))
    }

    fn files(&self) -> PathBuf {
        self.path.join("files")
    }

    fn discarded(&self) -> PathBuf {
        self.path.join("discarded")
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.store.sweeper.discard(&self.path) {
            tracing::warn!("{error}");
        }
    }
}

/// The stream as it comes: counted and, when compressed, hashed.
struct Source<'a, R> {
    input: R,
    hasher: Option<Sha256>,
    count: Arc<AtomicU64>,
    progress: &'a mut dyn FnMut(u64),
}

impl<'a, R: Read> Source<'a, Peeked<R>> {
    fn new(input: R, progress: &'a mut dyn FnMut(u64)) -> io::Result<Source<'a, Peeked<R>>> {
        Ok(Source {
            input: Peeked::new(input, MAGIC)?,
            hasher: None,
            count: Arc::default(),
            progress,
        })
    }
}

impl<R: Read> Read for Source<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        const STEP: u64 = 1 << 20;
        let count = self.input.read(buffer)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..count]);
        }
        let before = self.count.fetch_add(count as u64, Ordering::Relaxed);
        let now = before + count as u64;
        if now / STEP != before / STEP {
            (self.progress)(now);
        }
        Ok(count)
    }
}

type Compressed = Option<(String, u64)>;

/// Runs the three threads to their end.
fn stream<R: Read>(
    mut source: Source<'_, Peeked<R>>,
    staging: &Staging<'_>,
    ingest: &mut Ingest<'_>,
) -> Result<(Compressed, Applied), Error> {
    let compression = detect(source.input.start())?;
    if compression != Compression::None {
        source.hasher = Some(Sha256::new());
    }
    let (files, discarded) = staging.open()?;
    let ingest_path = ingest.path().to_owned();
    let failed = AtomicBool::new(false);
    let (to_tar, tar_blocks) = sync_channel(blocks::WAITING);
    let (to_files, file_blocks) = sync_channel(blocks::WAITING);
    let (read, kept, applied) = thread::scope(|scope| {
        let kept = scope.spawn(|| note(&failed, keep(tar_blocks, ingest)));
        let applied = scope.spawn(|| {
            let mut reader = Reader::new(Blocks::new(file_blocks));
            note(&failed, apply(&mut reader, files, discarded))
        });
        let read = pump(&mut source, compression, &failed, to_tar, to_files);
        let panicked = "threads of an unpacking do not panic";
        (read, kept.join().expect(panicked), applied.join().expect(panicked))
    });
    // A stream that breaks off makes the others fail too: its own error is the cause.
    read?;
    kept.map_err(Error::io("write", ingest_path))?;
    let applied = applied?;
    let count = source.count.load(Ordering::Relaxed);
    (source.progress)(count);
    let hasher = source.hasher.take();
    let compressed = hasher.map(|hasher| (content::hex(&hasher.finalize()), count));
    Ok((compressed, applied))
}

pub(crate) fn note<T, E>(failed: &AtomicBool, result: Result<T, E>) -> Result<T, E> {
    failed.fetch_or(result.is_err(), Ordering::Relaxed);
    result
}

pub(crate) fn keep(receiver: Receiver<Arc<Vec<u8>>>, ingest: &mut Ingest<'_>) -> io::Result<()> {
    receiver.into_iter().try_for_each(|block| ingest.write_all(&block))
}

/// Reads to the end, or until somebody failed. The end mark of the tar is not the end: all bytes count for the digests.
fn pump<R: Read>(
    source: &mut Source<'_, R>,
    compression: Compression,
    failed: &AtomicBool,
    to_tar: SyncSender<Arc<Vec<u8>>>,
    to_files: SyncSender<Arc<Vec<u8>>>,
) -> Result<(), LayerError> {
    let mut to_files = Some(to_files);
    let mut inflated = 0;
    let mut send = |block: Vec<u8>| {
        let block = Arc::new(block);
        // A receiver that is gone has seen the end mark, or failed.
        to_files = to_files.take().filter(|sender| sender.send(block.clone()).is_ok());
        to_tar.send(block).is_ok() && !failed.load(Ordering::Relaxed)
    };
    if compression == Compression::None {
        while let Some(block) = read_block(source)? {
            if !send(block) {
                break;
            }
        }
        return Ok(());
    }
    let count = source.count.clone();
    let mut input = BufReader::with_capacity(blocks::SIZE, source);
    let mut stream = inflate(compression, &mut input).map_err(LayerError::Read)?;
    while let Some(block) = read_block(&mut stream)? {
        inflated += block.len() as u64;
        let compressed = count.load(Ordering::Relaxed);
        if is_bomb(compressed, inflated) {
            return Err(LayerError::Bomb { compressed, inflated });
        }
        if !send(block) {
            return Ok(());
        }
    }
    drop(stream);
    // What stands behind the compressed stream counts for its digest.
    io::copy(&mut input, &mut io::sink())
        .map_err(LayerError::Read)
        .map(drop)
}

fn is_bomb(compressed: u64, inflated: u64) -> bool {
    inflated > BOMB_SIZE && inflated / BOMB_RATIO > compressed
}

fn read_block(input: &mut impl Read) -> Result<Option<Vec<u8>>, LayerError> {
    let mut block = Vec::with_capacity(blocks::SIZE);
    let read = input.take(blocks::SIZE as u64).read_to_end(&mut block);
    read.map_err(LayerError::Read)?;
    Ok((!block.is_empty()).then_some(block))
}

/// What tells one boot from another.
pub(crate) fn boot_id() -> String {
    let mut id = String::new();
    let read = File::open("/proc/sys/kernel/random/boot_id").and_then(|mut file| file.read_to_string(&mut id));
    match read {
        Ok(_) => id.trim().to_owned(),
        // Layers then count as never settled, which costs time and nothing else.
        Err(_) => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bomb_is_large_and_made_of_nothing() {
        assert!(is_bomb(1 << 16, 2 << 30));
        assert!(!is_bomb(1 << 16, 1 << 29), "few bytes do no harm");
        assert!(!is_bomb(2 << 20, 2 << 30), "as well as gzip can compress zeroes");
    }
}
