//! Many small files, which a second thread fills: order, errors and pauses are what they would be with one.
use std::{
    fs,
    io::{self, BufReader, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::Path,
    thread,
    time::Duration,
};

use corten_linux::mount;
use corten_store::layer::{
    apply,
    error::LayerError,
    extract::{Target, extract},
    make::Owner,
    tar::{Entry, Kind, Reader},
    write::{append, end, padding},
};
use rustix::{
    fs::{Mode, OFlags, openat},
    io::Errno,
    mount::{MountAttrFlags, fsconfig_set_string},
};

/// Enough that both threads are at it all the time.
const MANY: usize = 1000;
const MODIFIED: i64 = 1_700_000_000;

#[derive(Default)]
struct Archive(Vec<u8>);

impl Archive {
    fn add(&mut self, kind: Kind, path: &str, content: &str) {
        self.with(
            content,
            Entry {
                path: path.into(),
                mode: if kind == Kind::Directory { 0o555 } else { 0o640 },
                ..Entry::of(kind)
            },
        );
    }

    fn with(&mut self, content: &str, entry: Entry) {
        let data = if entry.kind == Kind::File { content } else { "" };
        let entry = Entry {
            link: if entry.kind == Kind::File {
                Vec::new()
            } else {
                content.into()
            },
            size: data.len() as u64,
            uid: 7,
            gid: 8,
            modified: (MODIFIED, 0),
            ..entry
        };
        append(&mut self.0, &entry);
        self.0.extend_from_slice(data.as_bytes());
        self.0.extend_from_slice(padding(data.len() as u64));
    }

    fn files(&mut self, prefix: &str) {
        (0..MANY).for_each(|number| self.add(Kind::File, &name(prefix, number), &content(number)));
    }

    /// An attribute with this name is more than the kernel takes.
    fn unfillable(&mut self, path: &str) {
        let key = format!("user.{}", "x".repeat(300));
        self.with(
            "x",
            Entry {
                path: path.into(),
                xattrs: vec![(key.into(), b"x".to_vec())],
                ..Entry::of(Kind::File)
            },
        );
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&end());
        self.0
    }
}

fn name(prefix: &str, number: usize) -> String {
    format!("{prefix}{number:04}")
}

/// Of every length up to some more than what is filled by the second thread.
fn content(number: usize) -> String {
    number.to_string().repeat(1 + number * 7 % 2000)
}

fn open(directory: &Path) -> OwnedFd {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(rustix::fs::CWD, directory, flags, Mode::empty()).unwrap()
}

fn extract_into(root: BorrowedFd, archive: impl Read) -> Result<u64, LayerError> {
    let target = Target {
        root,
        directory: root,
        path: b"",
        shown: b"/",
        keep_kinds: false,
        owner: Owner::Archived,
        owners: None,
    };
    extract(&mut Reader::new(BufReader::new(archive)), target, &mut |_| ())
}

/// The archive in a living tree, and as a layer.
fn both_ways(archive: &[u8], check: impl Fn(&Path, Result<u64, LayerError>)) {
    let tree = tempfile::tempdir().unwrap();
    check(tree.path(), extract_into(open(tree.path()).as_fd(), archive));
    let (layer, discarded) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let applied = apply::apply(&mut Reader::new(archive), open(layer.path()), open(discarded.path()));
    check(layer.path(), applied.map(|applied| applied.entries));
}

fn assert_whole(path: &Path, expected: &str) {
    assert!(fs::read_to_string(path).unwrap() == expected, "{path:?}");
    let metadata = fs::metadata(path).unwrap();
    let (mode, owner) = (metadata.mode() & 0o7777, (metadata.uid(), metadata.gid()));
    assert_eq!((mode, owner, metadata.mtime()), (0o640, (7, 8), MODIFIED), "{path:?}");
}

#[test]
fn every_file_is_whole_whatever_follows_it() {
    let mut archive = Archive::default();
    archive.add(Kind::Directory, "d/", "");
    archive.files("d/");
    archive.add(Kind::File, "d/replaced", "old");
    archive.add(Kind::HardLink, "d/linked", "d/replaced");
    archive.add(Kind::File, "d/replaced", "new");
    archive.add(Kind::File, "d/gone", "gone");
    archive.add(Kind::Symlink, "d/gone", "nowhere");
    archive.add(Kind::File, "d/last", "");
    both_ways(&archive.end(), |root, extracted| {
        assert_eq!(extracted.unwrap(), MANY as u64 + 7);
        let directory = root.join("d");
        for number in 0..MANY {
            assert_whole(&directory.join(name("", number)), &content(number));
        }
        assert_whole(&directory.join("linked"), "old");
        assert_whole(&directory.join("replaced"), "new");
        assert_whole(&directory.join("last"), "");
        assert!(fs::symlink_metadata(directory.join("gone")).unwrap().is_symlink());
        let metadata = fs::metadata(&directory).unwrap();
        assert_eq!((metadata.mode() & 0o7777, metadata.mtime()), (0o555, MODIFIED));
    });
}

#[test]
fn what_fails_first_in_the_archives_order_is_what_is_told() {
    for follows in (0..40).step_by(13) {
        let mut archive = Archive::default();
        archive.files("before");
        archive.unfillable("first");
        (0..follows).for_each(|number| archive.add(Kind::File, &name("between", number), "x"));
        archive.add(Kind::HardLink, "second", "no such file");
        archive.files("after");
        both_ways(&archive.end(), |root, extracted| {
            let error = extracted.unwrap_err();
            assert!(error.to_string().contains(r#"entry "first": cannot set"#), "{error}");
            (0..MANY).for_each(|number| assert_whole(&root.join(name("before", number)), &content(number)));
            assert!(!root.join("after0999").exists(), "it stops soon");
        });
    }
}

#[test]
fn a_failure_of_the_last_file_is_told_too() {
    let mut archive = Archive::default();
    archive.files("");
    archive.unfillable("last");
    both_ways(&archive.end(), |_, extracted| {
        assert!(
            extracted
                .unwrap_err()
                .to_string()
                .contains(r#"entry "last": cannot set"#)
        );
    });
}

#[test]
fn an_archive_that_is_cut_off_leaves_whole_files_before_the_cut() {
    let mut archive = Archive::default();
    archive.files("");
    let before = archive.0.len();
    archive.add(Kind::File, "cut", "cut off");
    both_ways(&archive.0[..before + 512 + 3], |root, extracted| {
        let error = extracted.unwrap_err();
        assert!(
            error.to_string().contains(r#"entry "cut": its data is cut off"#),
            "{error}"
        );
        (0..MANY).for_each(|number| assert_whole(&root.join(name("", number)), &content(number)));
    });
}

#[test]
fn a_full_disk_is_told_of_the_first_file_that_is_not_whole() {
    let context = mount::open_filesystem("tmpfs").unwrap();
    fsconfig_set_string(&context, "size", "1m").unwrap();
    let root = mount::finish(context.as_fd(), MountAttrFlags::empty()).unwrap();
    let mut archive = Archive::default();
    archive.files("");
    let error = extract_into(root.as_fd(), &archive.end()[..]).unwrap_err();
    let LayerError::File { entry, doing, source } = error else {
        panic!("{error}");
    };
    assert_eq!(doing, "write it");
    assert_eq!(source.raw_os_error(), Some(Errno::NOSPC.raw_os_error()));
    let first: usize = entry.parse().unwrap();
    for number in 0..=first {
        let file = openat(&root, name("", number), OFlags::RDONLY, Mode::empty()).unwrap();
        let mut text = String::new();
        fs::File::from(file).read_to_string(&mut text).unwrap();
        assert_eq!(text == content(number), number < first, "{number} of {first}");
    }
}

#[test]
fn what_has_come_is_there_while_the_archive_pauses() {
    let tree = tempfile::tempdir().unwrap();
    let root = open(tree.path());
    let (reader, mut writer) = io::pipe().unwrap();
    let extracting = thread::spawn(move || extract_into(root.as_fd(), reader));
    let mut archive = Archive::default();
    archive.files("");
    let pause = archive.0.len();
    archive.files("more");
    let archive = archive.end();
    writer.write_all(&archive[..pause]).unwrap();
    let last = tree.path().join(name("", MANY - 1));
    while fs::metadata(&last).map_or(0, |metadata| metadata.mtime()) != MODIFIED {
        thread::sleep(Duration::from_millis(1));
    }
    assert_whole(&last, &content(MANY - 1));
    writer.write_all(&archive[pause..]).unwrap();
    drop(writer);
    assert_eq!(extracting.join().unwrap().unwrap(), 2 * MANY as u64);
}
