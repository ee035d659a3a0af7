//! Overlays on kernels before 6.5 (Debian 12 has 6.1, Ubuntu 22.04 has 5.15).
//!
//! There, fsconfig(2) takes all layers in one string of at most 255 bytes, and says so only when the overlay is made.
//! mount(2) takes a page; by descriptor, `/proc/self/fd/…`, even the longest image fits into that.
use std::{
    ffi::CString,
    fs::File,
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, Mode, OFlags, open},
    io::Errno,
    mount::{MountFlags, OpenTreeFlags, UnmountFlags, open_tree, unmount},
};

/// fsconfig(2) refuses longer strings.
const LONGEST_STRING: usize = 255;

/// Whether the kernel has `lowerdir+`, and these layers' paths are short enough for it.
pub(crate) fn takes_layers_one_by_one(lowers: &[PathBuf]) -> bool {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (6, 5) && lowers.iter().all(|lower| lower.as_os_str().len() <= LONGEST_STRING)
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
    let (upper, work) = (by_descriptor(upper)?, by_descriptor(work)?);
    let mut options = format!("lowerdir={},upperdir={upper},workdir={work}", lowers.join(":"));
    if volatile {
        options.push_str(",volatile");
    }
    let options = CString::new(options)?;
    rustix::mount::mount("overlay", stage, "overlay", MountFlags::empty(), options.as_c_str())?;
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
}
