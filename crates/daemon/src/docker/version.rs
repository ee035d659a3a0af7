//! API versions: which one a request speaks.
//!
//! A path without a version speaks the newest one. The oldest that Docker itself ever kept is served: raising the
//! floor broke many long-lived clients when Docker did it.
use std::{fmt, str::FromStr};

use axum::extract::FromRequestParts;
use http::request::Parts;

use crate::error::ApiError;

/// `1.41`; compares as a pair of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion(u16, u16);

pub const NEWEST: ApiVersion = v(51);
pub const OLDEST: ApiVersion = v(24);

/// Version `1.minor`.
pub const fn v(minor: u16) -> ApiVersion {
    ApiVersion(1, minor)
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl FromStr for ApiVersion {
    type Err = ();

    fn from_str(text: &str) -> Result<ApiVersion, ()> {
        let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
        Ok(ApiVersion(
            major.parse().map_err(|_| ())?,
            minor.parse().map_err(|_| ())?,
        ))
    }
}

/// The version of the request at hand; put there by [`split`]'s caller.
impl<S: Sync> FromRequestParts<S> for ApiVersion {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<ApiVersion, ApiError> {
        Ok(parts.extensions.get().copied().unwrap_or(NEWEST))
    }
}

/// Takes `/v1.41` off a path. A path without one is returned as it is, with the newest version.
pub fn split(path: &str) -> Result<(ApiVersion, &str), ApiError> {
    let Some((text, rest)) = prefix(path) else {
        return Ok((NEWEST, path));
    };
    let version: ApiVersion = text.parse().map_err(|()| ApiError::not_found("page not found"))?;
    if version > NEWEST {
        return Err(ApiError::invalid(format!(
            "client version {text} is too new. Maximum supported API version is {NEWEST}"
        )));
    }
    if version < OLDEST {
        return Err(ApiError::invalid(format!(
            "client version {text} is too old. Minimum supported API version is {OLDEST}, please upgrade your client \
             to a newer version"
        )));
    }
    Ok((version, rest))
}

fn prefix(path: &str) -> Option<(&str, &str)> {
    let after = path.strip_prefix("/v")?;
    let end = after.find('/')?;
    let (text, rest) = after.split_at(end);
    let is_version = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    is_version.then_some((text, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_is_taken_off() {
        assert_eq!(split("/v1.41/containers/json"), Ok((v(41), "/containers/json")));
        assert_eq!(split("/_ping"), Ok((NEWEST, "/_ping")));
        assert_eq!(split("/version"), Ok((NEWEST, "/version")));
        assert_eq!(split("/volumes/v1.41/x"), Ok((NEWEST, "/volumes/v1.41/x")));
        assert_eq!(split("/v1.24/x").unwrap().0, OLDEST);
    }

    #[test]
    fn versions_compare_as_numbers() {
        assert!(v(9) < v(10));
        assert!("1.100".parse::<ApiVersion>().unwrap() > NEWEST);
    }

    #[test]
    fn what_is_not_served_is_refused_in_dockerds_words() {
        let error = split("/v1.52/_ping").unwrap_err();
        assert_eq!(
            error.message(),
            "client version 1.52 is too new. Maximum supported API version is 1.51"
        );
        assert_eq!(error.status(), 400);
        let error = split("/v1.23/_ping").unwrap_err();
        assert_eq!(
            error.message(),
            "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a \
             newer version"
        );
        assert_eq!(split("/v1.2.3/_ping").unwrap_err().status(), 404);
    }
}
