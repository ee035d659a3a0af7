//! Overlays on kernels before 6.5 (Debian 12 has 6.1, Ubuntu 22.04 has 5.15).
//!
//! There, fsconfig(2) takes all layers in one string of at most 255 bytes, and says so only when the overlay is made.
//! mount(2) takes a page; by descriptor, `/proc/self/fd/…`, even the longest image fits into that.
use std::{
    ffi::CString,
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use corten_linux::version;
use rustix::{
    fs::{CWD, Mode, OFlags, open},
    io::Errno,
    mount::{MountAttrFlags, MountFlags, OpenTreeFlags, UnmountFlags, fsconfig_set_string, open_tree, unmount},
};

/// fsconfig(2) refuses longer strings.
const LONGEST_STRING: usize = 255;

/// Whether the kernel has `lowerdir+`, and these layers' paths are short enough for it.
pub(crate) fn takes_layers_one_by_one(lowers: &[PathBuf]) -> bool {
    version::kernel() >= (6, 5) && lowers.iter().all(|lower| lower.as_os_str().len() <= LONGEST_STRING)
}

/// Makes the overlay at `stage`, and takes it off again: the result is detached. The mount namespace must be cut off
/// from the host's, which would see it otherwise.
pub(crate) fn mount_at(
    stage: &Path,
    lowers: &[PathBuf],
    upper: &Path,
    work: &Path,
    volatile: bool,
) -> io::Result<OwnedFd> {
    mount_options(stage, lowers, Some((upper, work)), volatile)
}

/// Layers (two at least), topmost first, as one read-only tree, detached. For the daemon, whose own mount namespace it never enters:
/// on old kernels a thread makes it in one of its own.
pub fn read_only(lowers: &[PathBuf]) -> io::Result<OwnedFd> {
    if takes_layers_one_by_one(lowers) {
        let context = corten_linux::mount::open_filesystem("overlay")?;
        for lower in lowers {
            fsconfig_set_string(&context, "lowerdir+", lower)?;
        }
        let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NODEV;
        return corten_linux::mount::finish(context.as_fd(), attributes);
    }
    read_only_by_thread(lowers)
}

fn read_only_by_thread(lowers: &[PathBuf]) -> io::Result<OwnedFd> {
    let make = || -> io::Result<OwnedFd> {
        const CLONE_NEWNS: u64 = 0x0002_0000;
        corten_linux::namespace::unshare(CLONE_NEWNS)?;
        super::mounts::cut_off().map_err(|failure| io::Error::other(failure.message))?;
        // Any directory will do as a stage: nobody else sees this namespace, and the layers are open already.
        mount_options(
            lowers.first().map_or(Path::new("/"), PathBuf::as_path),
            lowers,
            None,
            false,
        )
    };
    std::thread::scope(|scope| scope.spawn(make).join()).unwrap_or_else(|_| Err(io::Error::other("a thread died")))
}

fn mount_options(
    stage: &Path,
    lowers: &[PathBuf],
    writable: Option<(&Path, &Path)>,
    volatile: bool,
) -> io::Result<OwnedFd> {
    let mut opened: Vec<File> = Vec::with_capacity(lowers.len() + 2);
    let mut by_descriptor = |path: &Path| -> io::Result<String> {
        let fd = open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| missing(path, error))?;
        let text = format!("/proc/self/fd/{}", fd.as_raw_fd());
        opened.push(fd.into());
        Ok(text)
    };
    let lowers: Vec<String> = lowers
        .iter()
        .map(|lower| by_descriptor(lower))
        .collect::<io::Result<_>>()?;
    let mut options = format!("lowerdir={}", lowers.join(":"));
    if let Some((upper, work)) = writable {
        options.push_str(&format!(
            ",upperdir={},workdir={}",
            by_descriptor(upper)?,
            by_descriptor(work)?
        ));
    }
    if volatile {
        options.push_str(",volatile");
    }
    let options = CString::new(options)?;
    let flags = if writable.is_some() {
        MountFlags::empty()
    } else {
        MountFlags::RDONLY | MountFlags::NODEV
    };
    rustix::mount::mount("overlay", stage, "overlay", flags, options.as_c_str())?;
    let tree = open_tree(
        CWD,
        stage,
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
    );
    unmount(stage, UnmountFlags::DETACH)?;
    Ok(tree?)
}

fn missing(path: &Path, error: Errno) -> io::Error {
    match error {
        Errno::NOENT => io::Error::new(io::ErrorKind::NotFound, format!("{} is missing", path.display())),
        error => io::Error::new(error.kind(), format!("{}: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_layers_with_long_names_are_one_tree() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| {
            let path = directory.path().join("d".repeat(80)).join(name);
            std::fs::create_dir_all(&path).unwrap();
            path
        };
        let (stage, upper, work) = (path("stage"), path("upper"), path("work"));
        let lowers: Vec<PathBuf> = (0..100).map(|n| path(&format!("{n:064}"))).collect();
        for (n, lower) in lowers.iter().enumerate() {
            std::fs::write(lower.join(format!("file-{n}")), "").unwrap();
            std::fs::write(lower.join("top"), n.to_string()).unwrap();
        }
        let view = path("view");
        let check = move || {
            // SAFETY: only the mount namespace changes; the thread keeps sharing memory and descriptors.
            unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }.unwrap();
            crate::rootfs::mounts::cut_off().unwrap();
            let tree = mount_at(&stage, &lowers, &upper, &work, false).unwrap();
            assert_eq!(
                std::fs::read_dir(&stage).unwrap().count(),
                0,
                "nothing stays at the stage"
            );
            let place = File::open(&view).unwrap();
            corten_linux::mount::attach(std::os::fd::AsFd::as_fd(&tree), std::os::fd::AsFd::as_fd(&place)).unwrap();
            assert_eq!(std::fs::read_dir(&view).unwrap().count(), 101);
            assert_eq!(std::fs::read_to_string(view.join("top")).unwrap(), "0");
            std::fs::write(view.join("new"), "").unwrap();
            assert!(upper.join("new").exists());
            let error = mount_at(&stage, &[PathBuf::from("/no/such")], &upper, &work, false).unwrap_err();
            assert_eq!(error.to_string(), "/no/such is missing");
        };
        std::thread::spawn(check).join().unwrap();
    }

    #[test]
    fn the_daemon_stacks_layers_without_mounting_anything_for_itself() {
        let directory = tempfile::tempdir().unwrap();
        let lowers: Vec<PathBuf> = ["a", "b"].iter().map(|name| directory.path().join(name)).collect();
        for lower in &lowers {
            std::fs::create_dir(lower).unwrap();
            std::fs::write(lower.join("same"), lower.to_str().unwrap()).unwrap();
            std::fs::write(lower.join(lower.file_name().unwrap()), "").unwrap();
        }
        for stack in [read_only, read_only_by_thread] {
            let tree = stack(&lowers).unwrap();
            let read = |name: &str| {
                let flags = OFlags::RDONLY | OFlags::CLOEXEC;
                let file = File::from(rustix::fs::openat(&tree, name, flags, Mode::empty()).unwrap());
                io::read_to_string(file).unwrap()
            };
            assert_eq!(read("same"), lowers[0].to_str().unwrap());
            assert_eq!(read("b"), "");
            let error = rustix::fs::mkdirat(&tree, "new", Mode::RWXU).unwrap_err();
            assert_eq!(error, Errno::ROFS);
        }
        let names: Vec<_> = std::fs::read_dir(&lowers[0])
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(names.len(), 2, "the stage shows its own files again: {names:?}");
    }
}
