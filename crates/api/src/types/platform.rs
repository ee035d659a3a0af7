//! Platforms: the machines that images are made for, `os/architecture[/variant]`.
use std::fmt;

use serde::{Deserialize, Serialize};

/// As documents and queries have it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Platform {
    pub architecture: String,
    pub os: String,
    #[serde(rename = "os.version", skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    #[serde(rename = "os.features", skip_serializing_if = "Option::is_none")]
    pub os_features: Option<Vec<String>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// Why a text is no platform; in Docker's words.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PlatformError {
    #[error("failed to parse platform: {0}")]
    Json(String),
    #[error("both OS and Architecture must be provided")]
    Incomplete,
    #[error("optional platform fields provided, but OS and Architecture are missing")]
    OnlyOptional,
    #[error(
        "{0:?} is an invalid component of {1:?}: platform specifier component must match \"^[A-Za-z0-9_.-]+$\": invalid argument"
    )]
    Component(String, String),
    #[error("{0:?}: unknown operating system or architecture: invalid argument")]
    Unknown(String),
    #[error("{0:?}: cannot parse platform specifier: invalid argument")]
    Parts(String),
}

impl Platform {
    pub fn new(os: &str, architecture: &str, variant: &str) -> Platform {
        let (architecture, default) = architecture_of(architecture);
        Platform {
            architecture: architecture.to_owned(),
            os: os_of(os),
            variant: variant_of(architecture, if variant.is_empty() { default } else { variant }).to_owned(),
            ..Platform::default()
        }
    }

    /// What users write: `linux/arm64/v8`, `linux/amd64`, `arm64`, `linux`. What is left out is this machine's.
    pub fn parse(text: &str) -> Result<Platform, PlatformError> {
        let parts: Vec<&str> = text.split('/').collect();
        let allowed = |part: &&&str| {
            let byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
            !part.is_empty() && part.bytes().all(byte)
        };
        if let Some(part) = parts.iter().find(|part| !allowed(part)) {
            return Err(PlatformError::Component((*part).to_owned(), text.to_owned()));
        }
        match parts[..] {
            [one] if is_os(&os_of(one)) => Ok(Platform::new(one, here(), "")),
            [one] if is_architecture(architecture_of(&one.to_ascii_lowercase()).0) => {
                Ok(Platform::new("linux", &one.to_ascii_lowercase(), ""))
            }
            [_] => Err(PlatformError::Unknown(text.to_owned())),
            [os, architecture] => Ok(Platform::new(os, &architecture.to_ascii_lowercase(), "")),
            [os, architecture, variant] => Ok(Platform::new(os, &architecture.to_ascii_lowercase(), variant)),
            _ => Err(PlatformError::Parts(text.to_owned())),
        }
    }

    /// What queries have since API 1.48: an object.
    pub fn from_json(text: &str) -> Result<Platform, PlatformError> {
        let platform: Platform = serde_json::from_str(text).map_err(|error| PlatformError::Json(error.to_string()))?;
        let optional = !platform.variant.is_empty()
            || !platform.os_version.is_empty()
            || platform
                .os_features
                .as_ref()
                .is_some_and(|features| !features.is_empty());
        match (platform.os.is_empty(), platform.architecture.is_empty()) {
            (true, true) if optional => Err(PlatformError::OnlyOptional),
            (false, false) => Ok(platform),
            _ => Err(PlatformError::Incomplete),
        }
    }

    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts are JSON")
    }

    /// Is an image for `image` one for this platform? An image that names no variant is for all of them; what is for an
    /// older ARM runs on a newer one.
    pub fn has(&self, image: &Platform) -> bool {
        let wanted = Platform::new(&self.os, &self.architecture, &self.variant);
        let found = Platform::new(&image.os, &image.architecture, &image.variant);
        let older = |variant: &str| variant.strip_prefix('v').and_then(|number| number.parse::<u32>().ok());
        (&wanted.os, &wanted.architecture) == (&found.os, &found.architecture)
            && (image.variant.is_empty()
                || wanted.variant == found.variant
                || wanted.architecture == "arm"
                    && older(&found.variant)
                        .is_some_and(|found| older(&wanted.variant).is_some_and(|most| found <= most)))
    }
}

/// `linux/arm64/v8`
impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [&self.os, &self.architecture, &self.variant];
        let mut parts = parts.into_iter().filter(|part| !part.is_empty());
        f.write_str(parts.next().map_or("unknown", String::as_str))?;
        parts.try_for_each(|part| write!(f, "/{part}"))
    }
}

/// This machine's architecture.
fn here() -> &'static str {
    architecture_of(std::env::consts::ARCH).0
}

fn os_of(text: &str) -> String {
    match text.to_ascii_lowercase().as_str() {
        "" => "linux".to_owned(),
        "macos" => "darwin".to_owned(),
        other => other.to_owned(),
    }
}

fn is_os(text: &str) -> bool {
    [
        "linux", "windows", "darwin", "freebsd", "openbsd", "netbsd", "solaris", "wasip1", "js",
    ]
    .contains(&text)
}

fn is_architecture(text: &str) -> bool {
    [
        "386", "amd64", "arm", "arm64", "loong64", "mips", "mipsle", "mips64", "mips64le", "ppc64", "ppc64le",
        "riscv64", "s390x", "wasm",
    ]
    .contains(&text)
}

/// The name that images use, and the variant that is said with it.
fn architecture_of(text: &str) -> (&str, &'static str) {
    match text {
        "i386" => ("386", ""),
        "x86_64" | "x86-64" => ("amd64", ""),
        "aarch64" => ("arm64", ""),
        "armhf" => ("arm", "v7"),
        "armel" => ("arm", "v6"),
        "arm" => ("arm", "v7"),
        "loongarch64" => ("loong64", ""),
        other => (other, ""),
    }
}

/// As images spell it: the only one that there was at first is none.
fn variant_of<'a>(architecture: &str, variant: &'a str) -> &'a str {
    match (architecture, variant) {
        ("amd64", "v1") | ("arm64", "v8" | "8") => "",
        ("arm", "5") => "v5",
        ("arm", "6") => "v6",
        ("arm", "7") => "v7",
        ("arm", "8") => "v8",
        (_, other) => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> String {
        Platform::parse(text).map_or_else(|error| error.to_string(), |platform| platform.to_string())
    }

    #[test]
    fn what_users_write_is_completed_and_spelt_as_images_do() {
        for (text, platform) in [
            ("linux/amd64", "linux/amd64"),
            ("Linux/x86_64", "linux/amd64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/armhf", "linux/arm/v7"),
            ("arm64", "linux/arm64"),
            ("windows/amd64", "windows/amd64"),
            ("macos/arm64", "darwin/arm64"),
        ] {
            assert_eq!(parsed(text), platform, "{text}");
        }
        assert_eq!(parsed("linux"), format!("linux/{}", here()));
    }

    #[test]
    fn nonsense_is_refused_in_dockers_words() {
        assert_eq!(
            parsed("vax"),
            "\"vax\": unknown operating system or architecture: invalid argument"
        );
        assert_eq!(
            parsed("a/b/c/d"),
            "\"a/b/c/d\": cannot parse platform specifier: invalid argument"
        );
        assert!(parsed("linux/").starts_with("\"\" is an invalid component of \"linux/\""));
        let json = |text: &str| Platform::from_json(text).expect_err(text).to_string();
        assert_eq!(
            json(r#"{"architecture":"amd64"}"#),
            "both OS and Architecture must be provided"
        );
        assert_eq!(
            json(r#"{"variant":"v7"}"#),
            "optional platform fields provided, but OS and Architecture are missing"
        );
        assert!(json("linux/amd64").starts_with("failed to parse platform: "));
    }

    #[test]
    fn an_image_is_for_a_platform_or_not() {
        let has = |wanted: &str, os: &str, architecture: &str, variant: &str| {
            let image = Platform {
                os: os.to_owned(),
                architecture: architecture.to_owned(),
                variant: variant.to_owned(),
                ..Platform::default()
            };
            Platform::parse(wanted).expect("a platform").has(&image)
        };
        assert!(has("linux/amd64", "linux", "amd64", "") && !has("linux/amd64", "linux", "arm64", ""));
        assert!(has("linux/arm64/v8", "linux", "arm64", "") && has("linux/arm64", "linux", "arm64", "v8"));
        assert!(has("linux/arm/v7", "linux", "arm", "v6") && !has("linux/arm/v6", "linux", "arm", "v7"));
        assert!(has("linux/arm/v6", "linux", "arm", "") && !has("windows/amd64", "linux", "amd64", ""));
    }

    #[test]
    fn queries_have_an_object() {
        let platform = Platform::parse("linux/arm/v6").expect("a platform");
        assert_eq!(
            platform.to_json(),
            r#"{"architecture":"arm","os":"linux","variant":"v6"}"#
        );
        assert_eq!(Platform::from_json(&platform.to_json()), Ok(platform));
    }
}
