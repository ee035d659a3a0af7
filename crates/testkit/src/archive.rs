//! Tar archives made by hand, so that a test can write what no tar program would.
use std::fmt::Write as _;

/// One header of the ustar form. The path is written as it is given, however wrong.
#[derive(Debug, Clone)]
pub struct Header {
    pub path: String,
    pub mode: u32,
    pub owner: (u32, u32),
    pub size: u64,
    /// `0` file, `1` hard link, `2` symbolic link, `3` and `4` devices, `5` directory, `6` FIFO, `x` extended header.
    pub kind: u8,
    pub link: String,
    pub device: (u32, u32),
}

impl Header {
    pub fn new(kind: u8, path: &str, mode: u32) -> Header {
        let (path, link) = (path.to_owned(), String::new());
        Header {
            path,
            mode,
            owner: (0, 0),
            size: 0,
            kind,
            link,
            device: (0, 0),
        }
    }

    pub fn link(mut self, target: &str) -> Header {
        self.link = target.to_owned();
        self
    }

    pub fn owner(mut self, user: u32, group: u32) -> Header {
        self.owner = (user, group);
        self
    }

    pub fn size(mut self, bytes: u64) -> Header {
        self.size = bytes;
        self
    }

    pub fn device(mut self, major: u32, minor: u32) -> Header {
        self.device = (major, minor);
        self
    }

    fn block(&self) -> [u8; 512] {
        assert!(
            self.path.len() <= 100,
            "a longer path needs an extended header: {}",
            self.path
        );
        let mut block = [0; 512];
        let mut put = |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, &self.path);
        put(100, &format!("{:07o}", self.mode));
        put(108, &format!("{:07o}", self.owner.0));
        put(116, &format!("{:07o}", self.owner.1));
        put(124, &format!("{:011o}", self.size));
        put(136, &format!("{:011o}", 1_700_000_000));
        put(148, "        ");
        put(156, std::str::from_utf8(&[self.kind]).expect("kinds are letters"));
        put(157, &self.link);
        put(257, "ustar\x0000");
        put(329, &format!("{:07o}", self.device.0));
        put(337, &format!("{:07o}", self.device.1));
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }
}

/// An archive that grows entry by entry.
#[derive(Debug, Clone, Default)]
pub struct Tar {
    bytes: Vec<u8>,
}

impl Tar {
    pub fn new() -> Tar {
        Tar::default()
    }

    pub fn directory(self, path: &str, mode: u32) -> Tar {
        self.entry(Header::new(b'5', path, mode), &[])
    }

    pub fn file(self, path: &str, mode: u32, content: &[u8]) -> Tar {
        self.entry(Header::new(b'0', path, mode).size(content.len() as u64), content)
    }

    pub fn symlink(self, path: &str, target: &str) -> Tar {
        self.entry(Header::new(b'2', path, 0o777).link(target), &[])
    }

    pub fn hard_link(self, path: &str, target: &str) -> Tar {
        self.entry(Header::new(b'1', path, 0o644).link(target), &[])
    }

    /// A PAX extended header for the entry that follows.
    pub fn extended(self, records: &[(&str, &str)]) -> Tar {
        let mut body = String::new();
        for (key, value) in records {
            let rest = format!(" {key}={value}\n");
            // The length counts its own digits.
            let mut length = rest.len() + 1;
            while length != rest.len() + length.to_string().len() {
                length = rest.len() + length.to_string().len();
            }
            write!(body, "{length}{rest}").expect("strings grow");
        }
        self.entry(
            Header::new(b'x', "PaxHeaders/entry", 0o644).size(body.len() as u64),
            body.as_bytes(),
        )
    }

    /// Anything, consistent or not.
    pub fn entry(mut self, header: Header, content: &[u8]) -> Tar {
        self.bytes.extend_from_slice(&header.block());
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    /// The archive with its two blocks of zeroes.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 1024, 0);
        self.bytes
    }
}
