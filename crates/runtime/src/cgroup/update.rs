//! Other limits for a cgroup that is in use: all of them, or none.
//!
//! A knob that the kernel refuses puts back what was turned before it, in every hierarchy.
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;

use super::error::Error;
use super::files;
use super::hierarchy::Hierarchies;
use super::knobs::{apply, open_directory};
use super::plan::{self, Write};
use crate::shim::protocol::CgroupRecord;

/// What one directory of the container shall be told.
#[derive(Debug, PartialEq, Eq)]
struct Change {
    path: PathBuf,
    writes: Vec<Write>,
}

/// A file and what it said.
type Former = (String, String);

/// Makes the limits those of `after`, where `before` says otherwise.
pub(super) fn update(record: &CgroupRecord, before: &LinuxResources, after: &LinuxResources) -> Result<(), Error> {
    if after.devices().as_ref().is_some_and(|rules| !rules.is_empty()) {
        return Err(Error::NotImplemented(
            "changing the device rules of a running container",
        ));
    }
    let mut done: Vec<(OwnedFd, Vec<Former>)> = Vec::new();
    for change in changes(record, before, after, Hierarchies::of_host()?)? {
        let directory = open_directory(&change.path).map_err(|e| Error::io("open cgroup", &change.path, e))?;
        match turn(directory.as_fd(), &change) {
            Ok(former) => done.push((directory, former)),
            Err(error) => {
                for (directory, former) in done.iter().rev() {
                    put_back(directory.as_fd(), former);
                }
                return Err(error);
            }
        }
    }
    Ok(())
}

fn changes(
    record: &CgroupRecord,
    before: &LinuxResources,
    after: &LinuxResources,
    host: &Hierarchies,
) -> Result<Vec<Change>, Error> {
    let (before, after) = (plan::limits(before, host)?, plan::limits(after, host)?);
    let mut changes = Vec::new();
    for (index, writes) in after.legacy {
        let known = before.legacy.iter().find(|(known, _)| *known == index);
        let writes = new_ones(writes, known.map_or(&[], |(_, writes)| writes));
        let controllers = host.legacy[index].controllers.join(",");
        let directory = record.legacy.iter().find(|(name, _)| *name == controllers);
        add(&mut changes, directory.map(|(_, path)| path), writes, &controllers)?;
    }
    let writes = new_ones(after.unified, &before.unified);
    add(&mut changes, record.unified.as_ref(), writes, "v2")?;
    Ok(changes)
}

fn new_ones(writes: Vec<Write>, known: &[Write]) -> Vec<Write> {
    writes.into_iter().filter(|write| !known.contains(write)).collect()
}

fn add(
    changes: &mut Vec<Change>,
    directory: Option<&String>,
    writes: Vec<Write>,
    controllers: &str,
) -> Result<(), Error> {
    let Some(first) = writes.first() else { return Ok(()) };
    let Some(directory) = directory else {
        let reason = format!("the container has no {controllers} cgroup");
        return Err(Error::Unsupported {
            limit: first.limit.to_string(),
            reason,
        });
    };
    changes.push(Change {
        path: PathBuf::from(directory),
        writes,
    });
    Ok(())
}

/// All of it or nothing of it; what the files said before.
fn turn(directory: BorrowedFd, change: &Change) -> Result<Vec<Former>, Error> {
    let former = formers(directory, &change.path, &change.writes)?;
    let Err(first) = apply(directory, &change.path, &change.writes) else {
        return Ok(former);
    };
    put_back(directory, &former);
    if change.writes.len() > 1 {
        // Some pairs (memory and memory+swap, quota and period) must change in an order that depends on their present
        // values: raise the outer one first, lower the inner one first.
        let reversed: Vec<Write> = change.writes.iter().rev().cloned().collect();
        if apply(directory, &change.path, &reversed).is_ok() {
            return Ok(former);
        }
        put_back(directory, &former);
    }
    Err(first)
}

fn formers(directory: BorrowedFd, path: &Path, writes: &[Write]) -> Result<Vec<Former>, Error> {
    let mut former: Vec<Former> = Vec::new();
    for write in writes {
        let other = write.instead.as_ref().map(|(file, _)| file);
        for file in std::iter::once(&write.file).chain(other) {
            if former.iter().any(|(known, _)| known == file) {
                continue;
            }
            let text = files::if_there(files::read_at(directory, file));
            if let Some(text) = text.map_err(|e| Error::io("read", path.join(&**file), e))? {
                former.push((file.to_string(), writable(&text)));
            }
        }
    }
    Ok(former)
}

/// What a file says, as it wants to be told the same.
fn writable(text: &str) -> String {
    // `default 100`, then a line for each device: those stay as they are.
    match text.lines().next() {
        Some(line) if !line.is_empty() => line.to_owned(),
        // Nothing at all is no command; an empty line is.
        _ => "\n".to_owned(),
    }
}

/// Twice, in both orders: of a pair one may only be written after the other.
fn put_back(directory: BorrowedFd, former: &[Former]) {
    let write = |(file, value): &Former| -> io::Result<()> { files::write_all(directory, file, [value.as_str()]) };
    for file in former.iter().rev().chain(former) {
        let _ = write(file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::hierarchy::{Legacy, Unified};
    use oci_spec::runtime::{LinuxMemory, LinuxPids, LinuxResources};

    fn limits(memory: i64, swap: i64, pids: i64) -> LinuxResources {
        let mut resources = LinuxResources::default();
        let mut limit = LinuxMemory::default();
        limit.set_limit(Some(memory));
        limit.set_swap(Some(swap));
        let mut processes = LinuxPids::default();
        processes.set_limit(pids);
        resources.set_devices(None);
        resources.set_memory(Some(limit));
        resources.set_pids(Some(processes));
        resources
    }

    fn lines(changes: &[Change]) -> Vec<String> {
        let lines = changes.iter().flat_map(|change| {
            change
                .writes
                .iter()
                .map(|write| format!("{}/{}={}", change.path.display(), write.file, write.value))
        });
        lines.collect()
    }

    #[test]
    fn only_what_is_new_is_written_on_v1() {
        let legacy = |name: &str| Legacy {
            mount: "/nowhere".into(),
            controllers: vec![name.to_owned()],
        };
        let host = Hierarchies {
            legacy: vec![legacy("memory"), legacy("pids")],
            unified: None,
        };
        let record = CgroupRecord {
            unified: None,
            legacy: vec![("memory".into(), "/m".into()), ("pids".into(), "/p".into())],
        };
        let changes = |before, after| lines(&changes(&record, &before, &after, &host).unwrap());
        assert_eq!(
            changes(limits(100, 200, 5), limits(100, 300, 5)),
            ["/m/memory.memsw.limit_in_bytes=300"]
        );
        assert_eq!(changes(limits(100, 200, 5), limits(100, 200, 0)), ["/p/pids.max=max"]);
        assert_eq!(
            changes(limits(1, 2, 5), limits(100, 200, 5)),
            ["/m/memory.limit_in_bytes=100", "/m/memory.memsw.limit_in_bytes=200"]
        );
    }

    #[test]
    fn memory_alone_changes_swap_too_on_v2() {
        let host = Hierarchies {
            legacy: Vec::new(),
            unified: Some(Unified {
                mount: "/nowhere".into(),
                controllers: ["memory", "pids"].map(String::from).to_vec(),
            }),
        };
        let record = CgroupRecord {
            unified: Some("/u".into()),
            legacy: Vec::new(),
        };
        // 300 of both together is 200 of swap beside 100 of memory, and 150 beside 150.
        let changes = changes(&record, &limits(100, 300, 5), &limits(150, 300, 5), &host).unwrap();
        assert_eq!(lines(&changes), ["/u/memory.swap.max=150", "/u/memory.max=150"]);
    }

    #[test]
    fn a_limit_without_a_cgroup_to_write_it_to_is_named() {
        let host = Hierarchies {
            legacy: vec![Legacy {
                mount: "/nowhere".into(),
                controllers: ["memory", "pids"].map(String::from).to_vec(),
            }],
            unified: None,
        };
        let error = changes(
            &CgroupRecord::default(),
            &LinuxResources::default(),
            &limits(100, 200, 0),
            &host,
        );
        let error = error.unwrap_err().to_string();
        assert_eq!(
            error,
            "cannot set the memory limit: the container has no memory,pids cgroup"
        );
    }

    #[test]
    fn what_a_file_says_can_be_said_to_it() {
        assert_eq!(writable("max\n"), "max");
        assert_eq!(writable("default 100\n8:0 200\n"), "default 100");
        assert_eq!(writable("\n"), "\n");
        assert_eq!(writable(""), "\n");
    }
}
