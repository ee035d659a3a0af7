//! Names of images: what users write, and what that means.
//!
//! `busybox` means `docker.io/library/busybox:latest`. The store keeps the long form, users see the short one.
use std::fmt;

use crate::error::{Error, Result};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// `docker.io`, `localhost:5000`.
    domain: String,
    /// `library/busybox`.
    path: String,
    tag: Option<String>,
    /// `sha256:…`.
    digest: Option<String>,
}

impl Reference {
    /// Reads `[domain/]path[:tag][@digest]` as Docker does.
    pub fn parse(text: &str) -> Result<Reference> {
        let invalid = || Error::invalid("invalid reference format");
        if text.len() == 64 && text.bytes().all(is_hex) {
            return Err(Error::invalid(format!(
                "invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
            )));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) if is_digest(digest) => (rest, Some(digest.to_owned())),
            Some(_) => return Err(invalid()),
            None => (text, None),
        };
        // A colon before a slash belongs to the domain's port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag.to_owned())),
            _ => (rest, None),
        };
        if tag.as_deref().is_some_and(|tag| !is_tag(tag)) {
            return Err(invalid());
        }
        let (domain, path) = split_domain(name);
        if path.bytes().any(|byte| byte.is_ascii_uppercase()) && is_path(&path.to_ascii_lowercase()) {
            return Err(Error::invalid(format!(
                "invalid reference format: repository name ({path}) must be lowercase"
            )));
        }
        if !is_path(&path) || !is_domain(&domain) {
            return Err(invalid());
        }
        if name.len() > 255 {
            return Err(Error::invalid("repository name must not be more than 255 characters"));
        }
        Ok(Reference {
            domain,
            path,
            tag,
            digest,
        })
    }

    /// As the target of `tag`, `import` and `load`: always with a tag, never with a digest.
    pub fn parse_tagged(repository: &str, tag: &str) -> Result<Reference> {
        let mut reference = Reference::parse(repository)?;
        if reference.digest.is_some() {
            return Err(Error::invalid("refusing to create a tag with a digest reference"));
        }
        if !tag.is_empty() {
            if !is_tag(tag) {
                return Err(Error::invalid("invalid tag format"));
            }
            reference.tag = Some(tag.to_owned());
        }
        let reference = reference.or_latest();
        match reference.familiar_name() {
            "sha256" => Err(Error::invalid(
                "refusing to create an ambiguous tag using digest algorithm as name",
            )),
            _ => Ok(reference),
        }
    }

    /// With the tag `latest` when there is neither tag nor digest.
    pub fn or_latest(mut self) -> Reference {
        if self.is_name_only() {
            self.tag = Some("latest".to_owned());
        }
        self
    }

    pub fn is_name_only(&self) -> bool {
        self.tag.is_none() && self.digest.is_none()
    }

    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Whether both name the same repository.
    pub fn same_repository(&self, other: &Reference) -> bool {
        (&self.domain, &self.path) == (&other.domain, &other.path)
    }

    /// The long form, by which the store knows it. A digest says more than a tag, which is then left out.
    pub fn canonical(&self) -> String {
        let name = format!("{}/{}", self.domain, self.path);
        self.complete(&name)
    }

    /// The short form, which users see.
    pub fn familiar(&self) -> String {
        let name = self.familiar_repository();
        self.complete(&name)
    }

    /// The short form without tag and digest.
    pub fn familiar_repository(&self) -> String {
        match self.domain.as_str() {
            "docker.io" => self.familiar_name().to_owned(),
            domain => format!("{domain}/{}", self.path),
        }
    }

    fn familiar_name(&self) -> &str {
        match self.domain.as_str() {
            "docker.io" => self.path.strip_prefix("library/").unwrap_or(&self.path),
            _ => &self.path,
        }
    }

    fn complete(&self, name: &str) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => format!("{name}@{digest}"),
            (None, Some(tag)) => format!("{name}:{tag}"),
            (None, None) => name.to_owned(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.familiar())
    }
}

/// The short form of a name that the store has.
pub fn familiar(canonical: &str) -> String {
    Reference::parse(canonical).map_or_else(|_| canonical.to_owned(), |reference| reference.familiar())
}

fn split_domain(name: &str) -> (String, String) {
    const DEFAULT: &str = "docker.io";
    let looks_like_domain = |first: &str| {
        first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|byte| byte.is_ascii_uppercase())
    };
    let (domain, path) = match name.split_once('/') {
        Some((first, rest)) if looks_like_domain(first) => (first, rest),
        _ => (DEFAULT, name),
    };
    let domain = if domain == "index.docker.io" { DEFAULT } else { domain };
    match domain == DEFAULT && !path.contains('/') {
        true => (domain.to_owned(), format!("library/{path}")),
        false => (domain.to_owned(), path.to_owned()),
    }
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (domain, None),
    };
    let port_fits = port.is_none_or(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()));
    let label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.bytes().all(inner)
    };
    let host_fits = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':'),
        None => host.split('.').all(label),
    };
    port_fits && host_fits
}

/// Components of lower-case letters and digits, joined inside by `.`, `_`, `__` or any number of `-`.
fn is_path(path: &str) -> bool {
    path.split('/').all(|component| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = component.as_bytes();
        let ends = bytes.first().is_some_and(|&byte| plain(byte)) && bytes.last().is_some_and(|&byte| plain(byte));
        let separators = component.split(|letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit());
        let separator = |text: &str| matches!(text, "" | "." | "_" | "__") || text.bytes().all(|byte| byte == b'-');
        ends && separators.into_iter().all(separator)
    })
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let first = tag.bytes().next().is_some_and(word);
    first && tag.len() <= 128 && tag.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
}

fn is_digest(digest: &str) -> bool {
    match digest.split_once(':') {
        Some(("sha256", hex)) if hex.bytes().all(is_hex) => hex.len() == 64,
        Some(("sha512", hex)) if hex.bytes().all(is_hex) => hex.len() == 128,
        _ => false,
    }
}

fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_mean_long_ones() {
        let hex = "a".repeat(64);
        for (text, canonical, familiar) in [
            ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
            ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
            ("library/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
            ("me/app", "docker.io/me/app:latest", "me/app:latest"),
            ("index.docker.io/me/app", "docker.io/me/app:latest", "me/app:latest"),
            ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
            (
                "localhost:5000/app",
                "localhost:5000/app:latest",
                "localhost:5000/app:latest",
            ),
            (
                "h.example/a/b__c--d:T.1-x",
                "h.example/a/b__c--d:T.1-x",
                "h.example/a/b__c--d:T.1-x",
            ),
            ("[::1]:5000/app:1", "[::1]:5000/app:1", "[::1]:5000/app:1"),
        ] {
            let reference = Reference::parse(text).unwrap().or_latest();
            assert_eq!(reference.canonical(), canonical);
            assert_eq!(reference.familiar(), familiar);
        }
        let digested = Reference::parse(&format!("app:1@sha256:{hex}")).unwrap();
        assert_eq!(digested.familiar(), format!("app@sha256:{hex}"));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "a".repeat(300);
        for (text, message) in [
            ("", "invalid reference format"),
            (
                "UPPER",
                "invalid reference format: repository name (library/UPPER) must be lowercase",
            ),
            ("a//b", "invalid reference format"),
            ("-a", "invalid reference format"),
            ("a___b", "invalid reference format"),
            ("a..b", "invalid reference format"),
            ("a:", "invalid reference format"),
            ("a:-x", "invalid reference format"),
            ("a@sha256:12", "invalid reference format"),
            ("a b", "invalid reference format"),
            ("../etc", "invalid reference format"),
            (&long, "repository name must not be more than 255 characters"),
        ] {
            assert_eq!(Reference::parse(text).unwrap_err().to_string(), message, "{text}");
        }
        assert!(Reference::parse(&"a".repeat(64)).is_err());
        assert!(Reference::parse_tagged("a", "b c").is_err());
        assert!(Reference::parse_tagged("sha256", "").is_err());
    }
}
