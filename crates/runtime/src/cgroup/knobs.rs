//! Turning the knobs of one cgroup directory.
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::error::Error;
use super::files;
use super::plan::Write;

pub(super) fn open_directory(path: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(
        path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// Turns every knob; consecutive values for one file share a descriptor.
pub(super) fn apply(directory: BorrowedFd, path: &Path, writes: &[Write]) -> Result<(), Error> {
    for same_file in writes.chunk_by(|a, b| a.file == b.file && a.instead.is_none() && b.instead.is_none()) {
        let first = &same_file[0];
        let mut current = first;
        let values = same_file.iter().map(|write| {
            current = write;
            write.value.as_str()
        });
        let mut result = files::write_all(directory, &first.file, values);
        let (mut file, mut value) = (&first.file, &current.value);
        if let (Err(e), Some((other, other_value))) = (&result, &first.instead)
            && e.kind() == std::io::ErrorKind::NotFound
        {
            (file, value) = (other, other_value);
            result = files::write_all(directory, other, [other_value.as_str()]);
        }
        result.map_err(|source| refused(&current.limit, file, value, path, source))?;
    }
    Ok(())
}

fn refused(limit: &str, file: &str, value: &str, path: &Path, source: std::io::Error) -> Error {
    if source.kind() == std::io::ErrorKind::NotFound {
        let reason = format!("this kernel has no {file}");
        return Error::Unsupported {
            limit: limit.to_owned(),
            reason,
        };
    }
    Error::Limit {
        limit: limit.to_owned(),
        value: value.to_owned(),
        path: path.join(file),
        source,
    }
}
