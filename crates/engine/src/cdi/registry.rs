//! Devices of the Container Device Interface that this host offers: the specifications in a list of directories.
//!
//! Read anew whenever somebody asks: installing a driver needs no word to the daemon. A later directory wins over an
//! earlier one; two files of one directory that name the same device take it away from both.
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use crate::cdi::document::{Document, Edits};

/// Larger files are no specifications.
const FILE_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, Default)]
pub struct Registry {
    documents: Vec<Document>,
    /// Qualified names, to the document and the device in it.
    devices: BTreeMap<String, Place>,
    /// What could not be read, one sentence each.
    pub problems: Vec<String>,
}

#[derive(Debug)]
struct Place {
    document: usize,
    device: usize,
    priority: usize,
    path: PathBuf,
    /// Named by more than one file of the same directory.
    contested: bool,
}

impl Registry {
    /// Directories that do not exist are empty.
    pub fn scan(directories: &[PathBuf]) -> Registry {
        let mut registry = Registry::default();
        for (priority, directory) in directories.iter().enumerate() {
            for path in files(directory) {
                match read(&path) {
                    Ok(document) => registry.add(document, priority, &path),
                    Err(reason) => registry
                        .problems
                        .push(format!("failed to parse CDI Spec {:?}: {reason}", path.display())),
                }
            }
        }
        registry.devices.retain(|_, place| !place.contested);
        registry
    }

    fn add(&mut self, document: Document, priority: usize, path: &Path) {
        for (device, named) in document.devices.iter().enumerate() {
            let name = format!("{}={}", document.kind, named.name);
            let place = Place {
                document: self.documents.len(),
                device,
                priority,
                path: path.to_owned(),
                contested: false,
            };
            match self.devices.get_mut(&name) {
                Some(known) if known.priority == priority => {
                    known.contested = true;
                    self.problems.push(format!(
                        "conflicting device {name:?} (CDI Specs {:?}, {:?})",
                        known.path.display(),
                        path.display()
                    ));
                }
                Some(known) => *known = place,
                None => drop(self.devices.insert(name, place)),
            }
        }
        self.documents.push(document);
    }

    /// Qualified names of all devices, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.devices.keys().map(String::as_str)
    }

    /// Has somebody devices of this kind (`nvidia.com/gpu`)?
    pub fn has_kind(&self, kind: &str) -> bool {
        self.names()
            .any(|name| name.strip_prefix(kind).is_some_and(|rest| rest.starts_with('=')))
    }

    /// What devices change, in the order asked for; what is common to several comes once. Fails with the names that
    /// nobody knows.
    pub fn resolve<'r>(&'r self, names: &[String]) -> Result<Vec<&'r Edits>, Vec<String>> {
        let unknown: Vec<_> = names
            .iter()
            .filter(|name| !self.devices.contains_key(*name))
            .cloned()
            .collect();
        if !unknown.is_empty() {
            return Err(unknown);
        }
        let mut edits = Vec::new();
        let mut seen = Vec::new();
        for place in names.iter().map(|name| &self.devices[name]) {
            let document = &self.documents[place.document];
            if !seen.contains(&place.document) {
                seen.push(place.document);
                edits.push(&document.container_edits);
            }
            edits.push(&document.devices[place.device].container_edits);
        }
        Ok(edits)
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            let extension = path.extension().and_then(|extension| extension.to_str());
            matches!(extension, Some("json" | "yaml" | "yml"))
        })
        .collect();
    paths.sort();
    paths
}

fn read(path: &Path) -> Result<Document, String> {
    let text = read_text(path).map_err(|error| error.to_string())?;
    let is_json = path.extension().is_some_and(|extension| extension == "json");
    Document::parse(&text, is_json)
}

fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn write(directory: &Path, file: &str, kind: &str, names: &[&str], value: &str) {
        let devices: Vec<_> = names
            .iter()
            .map(|name| json!({"name": name, "containerEdits": {"env": [format!("D={value}")]}}))
            .collect();
        let common = json!({"env": [format!("C={value}")]});
        let document = json!({"cdiVersion": "0.6.0", "kind": kind, "devices": devices, "containerEdits": common});
        fs::create_dir_all(directory).unwrap();
        fs::write(directory.join(file), document.to_string()).unwrap();
    }

    fn env(registry: &Registry, names: &[&str]) -> Result<Vec<String>, Vec<String>> {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let edits = registry.resolve(&names)?;
        Ok(edits.into_iter().flat_map(|edits| edits.env.clone()).collect())
    }

    #[test]
    fn later_directories_win_and_common_edits_come_once() {
        let root = tempfile::tempdir().unwrap();
        let (etc, run) = (root.path().join("etc"), root.path().join("run"));
        write(&etc, "a.json", "v.com/c", &["one", "two"], "etc");
        write(&run, "b.json", "v.com/c", &["two"], "run");
        let registry = Registry::scan(&[etc, run, root.path().join("none")]);
        assert_eq!(registry.names().collect::<Vec<_>>(), ["v.com/c=one", "v.com/c=two"]);
        assert_eq!(env(&registry, &["v.com/c=two"]).unwrap(), ["C=run", "D=run"]);
        assert_eq!(
            env(&registry, &["v.com/c=one", "v.com/c=one"]).unwrap(),
            ["C=etc", "D=etc", "D=etc"]
        );
        assert_eq!(env(&registry, &["v.com/c=one", "x.y/z=1"]).unwrap_err(), ["x.y/z=1"]);
        assert!(registry.has_kind("v.com/c") && !registry.has_kind("v.com/"));
    }

    #[test]
    fn two_files_that_name_one_device_take_it_from_both() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "a.json", "v.com/c", &["one", "mine"], "a");
        write(root.path(), "b.json", "v.com/c", &["one"], "b");
        let registry = Registry::scan(&[root.path().to_owned()]);
        assert_eq!(registry.names().collect::<Vec<_>>(), ["v.com/c=mine"]);
        assert!(registry.problems[0].starts_with("conflicting device \"v.com/c=one\""));
    }

    #[test]
    fn a_file_that_cannot_be_read_does_not_hide_the_others() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "a.json", "v.com/c", &["one"], "a");
        fs::write(root.path().join("b.yaml"), "kind: [").unwrap();
        fs::write(root.path().join("c.json"), " ".repeat((1 << 20) + 5)).unwrap();
        fs::write(root.path().join("readme.txt"), "no specification").unwrap();
        let registry = Registry::scan(&[root.path().to_owned()]);
        assert_eq!(registry.names().count(), 1);
        assert_eq!(registry.problems.len(), 2, "{:?}", registry.problems);
    }
}
