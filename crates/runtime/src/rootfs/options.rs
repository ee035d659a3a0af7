//! mount(8)'s option words, parsed once in the daemon.
use corten_linux::mount::{Attributes, Propagation};
use linux::*;
use serde::{Deserialize, Serialize};

/// `MOUNT_ATTR_*`, from linux/mount.h.
mod linux {
    pub const RDONLY: u64 = 0x1;
    pub const NOSUID: u64 = 0x2;
    pub const NODEV: u64 = 0x4;
    pub const NOEXEC: u64 = 0x8;
    pub const ATIME_MASK: u64 = 0x70;
    pub const NOATIME: u64 = 0x10;
    pub const STRICTATIME: u64 = 0x20;
    pub const NODIRATIME: u64 = 0x80;
    pub const NOSYMFOLLOW: u64 = 0x0020_0000;
}

/// What a list of options comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// `bind` (false) or `rbind` (true).
    pub bind: Option<bool>,
    pub set: u64,
    pub clear: u64,
    /// For every mount beneath a bind too (`rro` and the like).
    pub recursive_set: u64,
    pub recursive_clear: u64,
    pub propagation: Spread,
    /// `shared` and not `rshared`: what is mounted beneath a bind only follows the host.
    pub propagation_alone: bool,
    /// What only the file system itself understands, in order.
    pub data: Vec<(String, Option<String>)>,
}

/// [`Propagation`] as data; mounts are private unless asked otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Spread {
    #[default]
    Private,
    Slave,
    Shared,
    Unbindable,
}

impl From<Spread> for Propagation {
    fn from(spread: Spread) -> Propagation {
        match spread {
            Spread::Private => Propagation::Private,
            Spread::Slave => Propagation::Slave,
            Spread::Shared => Propagation::Shared,
            Spread::Unbindable => Propagation::Unbindable,
        }
    }
}

impl Options {
    pub fn is_read_only(&self) -> bool {
        self.set & RDONLY != 0
    }

    pub fn parse<S: AsRef<str>>(words: &[S]) -> Options {
        let mut options = Options::default();
        for word in words {
            options.add(word.as_ref());
        }
        options
    }

    fn add(&mut self, word: &str) {
        if let Some(spread) = spread(word.strip_prefix('r').unwrap_or(word)) {
            self.propagation = spread;
            self.propagation_alone = !word.starts_with('r');
            return;
        }
        match word {
            "" | "defaults" | "async" | "rw,async" => {}
            "bind" => self.bind = Some(false),
            "rbind" => self.bind = Some(true),
            _ => match attribute(word) {
                Some((set, clear)) => {
                    self.set = self.set & !clear | set;
                    self.clear = self.clear & !set | clear;
                }
                None => match word.strip_prefix('r').and_then(attribute) {
                    Some((set, clear)) => {
                        self.recursive_set = self.recursive_set & !clear | set;
                        self.recursive_clear = self.recursive_clear & !set | clear;
                    }
                    None => {
                        let (key, value) = word
                            .split_once('=')
                            .map_or((word, None), |(key, value)| (key, Some(value)));
                        self.data.push((key.to_owned(), value.map(str::to_owned)));
                    }
                },
            },
        }
    }

    /// For the mount itself.
    pub fn attributes(&self) -> Attributes {
        Attributes {
            set: self.set,
            clear: self.clear & !self.set | atime(self.set),
            propagation: self.propagation_alone.then(|| self.propagation.into()),
        }
    }

    /// For the mount and all beneath it.
    pub fn recursive_attributes(&self) -> Attributes {
        let propagation = if self.propagation_alone {
            Spread::Slave
        } else {
            self.propagation
        };
        Attributes {
            set: self.recursive_set,
            clear: self.recursive_clear & !self.recursive_set | atime(self.recursive_set),
            propagation: Some(propagation.into()),
        }
    }
}

fn spread(word: &str) -> Option<Spread> {
    Some(match word {
        "private" => Spread::Private,
        "slave" => Spread::Slave,
        "shared" => Spread::Shared,
        "unbindable" => Spread::Unbindable,
        _ => return None,
    })
}

/// The three ways to keep access times exclude each other: the kernel wants the field cleared first.
fn atime(set: u64) -> u64 {
    if set & ATIME_MASK == 0 { 0 } else { ATIME_MASK }
}

/// (set, clear) of an option word that the mount table knows.
fn attribute(word: &str) -> Option<(u64, u64)> {
    Some(match word {
        "ro" => (RDONLY, 0),
        "rw" => (0, RDONLY),
        "nosuid" => (NOSUID, 0),
        "suid" => (0, NOSUID),
        "nodev" => (NODEV, 0),
        "dev" => (0, NODEV),
        "noexec" => (NOEXEC, 0),
        "exec" => (0, NOEXEC),
        "noatime" => (NOATIME, 0),
        "strictatime" => (STRICTATIME, 0),
        "atime" | "relatime" | "norelatime" | "nostrictatime" => (0, ATIME_MASK),
        "nodiratime" => (NODIRATIME, 0),
        "diratime" => (0, NODIRATIME),
        "nosymfollow" => (NOSYMFOLLOW, 0),
        "symfollow" => (0, NOSYMFOLLOW),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_dev_mount() {
        let options = Options::parse(&["nosuid", "strictatime", "mode=755", "size=65536k"]);
        assert_eq!(options.set, NOSUID | STRICTATIME);
        assert_eq!(options.attributes().clear, ATIME_MASK);
        let data = [
            ("mode".to_owned(), Some("755".to_owned())),
            ("size".to_owned(), Some("65536k".to_owned())),
        ];
        assert_eq!(options.data, data);
    }

    #[test]
    fn the_last_word_wins() {
        let options = Options::parse(&["ro", "rw"]);
        assert_eq!((options.set, options.clear), (0, RDONLY));
        let options = Options::parse(&["rbind", "rshared", "rro"]);
        assert_eq!(
            (options.bind, options.propagation, options.recursive_set),
            (Some(true), Spread::Shared, RDONLY)
        );
        assert!(!options.propagation_alone);
    }

    #[test]
    fn propagation_without_r_is_the_top_mounts_alone() {
        let options = Options::parse(&["rbind", "shared"]);
        assert_eq!(options.attributes().propagation, Some(Propagation::Shared));
        assert_eq!(options.recursive_attributes().propagation, Some(Propagation::Slave));
    }
}
