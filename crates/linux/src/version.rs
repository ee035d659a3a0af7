//! The kernel's version, for the few things that no system call can be asked about.

/// Major and minor number, as in 6.12; zeros where the kernel does not say.
pub fn kernel() -> (u32, u32) {
    let name = rustix::system::uname();
    name.release().to_str().ok().and_then(parse).unwrap_or((0, 0))
}

/// The first two numbers of a release: `6.12.117+deb13-cloud-amd64`, `5.4-rc1`.
pub fn parse(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split('.');
    let (major, minor) = (parts.next()?, parts.next()?);
    let digits = minor.find(|c: char| !c.is_ascii_digit()).unwrap_or(minor.len());
    Some((major.parse().ok()?, minor[..digits].parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_begin_with_two_numbers() {
        assert_eq!(parse("6.12.117+deb13-cloud-amd64"), Some((6, 12)));
        assert_eq!(parse("5.4-rc1"), Some((5, 4)));
        assert_eq!(parse("6.x"), None);
        assert_eq!(parse("six"), None);
        assert!(kernel() > (4, 0));
    }
}
