//! Who may do what at a door.
//!
//! A read-only door knows what it lets through, not what it keeps out: an endpoint that is added later is kept out until
//! somebody decides otherwise.
use http::{Method, StatusCode};

use crate::error::ApiError;

/// What a door lets happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The door's address, for messages.
    pub door: String,
    pub level: Level,
    /// Users of this machine that are let in beside root; absent means whoever can open the socket.
    pub users: Option<Vec<u32>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Full,
    /// Looking only, and not at everything: no content of files, no environment of containers.
    Read,
}

/// What changes nothing and shows no content of files, by method and route.
const READING: [(&str, &str); 21] = [
    ("GET", "/_ping"),
    ("GET", "/version"),
    ("GET", "/info"),
    ("GET", "/events"),
    ("GET", "/system/df"),
    ("GET", "/containers/json"),
    ("GET", "/containers/{name}/json"),
    ("GET", "/containers/{name}/top"),
    ("GET", "/containers/{name}/logs"),
    ("GET", "/containers/{name}/stats"),
    ("GET", "/containers/{name}/changes"),
    ("POST", "/containers/{name}/wait"),
    ("GET", "/exec/{id}/json"),
    ("GET", "/images/json"),
    ("GET", "/networks"),
    ("GET", "/networks/"),
    ("GET", "/networks/{name}"),
    ("GET", "/volumes"),
    ("GET", "/volumes/{name}"),
    ("GET", "/plugins"),
    ("GET", "/swarm"),
];
/// The same, of images, whose route does not tell what is wanted.
const READING_OF_IMAGES: [&str; 2] = ["/json", "/history"];
const IMAGES: &str = "/images/{*rest}";

impl Access {
    pub fn everything(door: &str) -> Access {
        Access {
            door: door.to_owned(),
            level: Level::Full,
            users: None,
        }
    }

    pub fn is_read_only(&self) -> bool {
        self.level == Level::Read
    }

    /// May this user come in? Root always may; who comes over a network has no user here.
    pub fn admit(&self, user: Option<u32>) -> Result<(), ApiError> {
        match (&self.users, user) {
            (None, _) | (_, Some(0)) => Ok(()),
            (Some(users), Some(user)) if users.contains(&user) => Ok(()),
            (Some(_), Some(user)) => {
                Err(self.refusal(format!("lets in users named by allow= only, and not user {user}")))
            }
            (Some(_), None) => {
                Err(self.refusal("lets in users named by allow= only, and yours is not known".to_owned()))
            }
        }
    }

    /// May this be asked for? `route` is as the router knows it, `path` as it was asked for; a path that no route has
    /// gets its own answer.
    pub fn allow(&self, method: &Method, route: Option<&str>, path: &str) -> Result<(), ApiError> {
        let Some(route) = route.filter(|_| self.is_read_only()) else {
            return Ok(());
        };
        // Where GET is let through, HEAD is.
        let asked = if method == Method::HEAD { "GET" } else { method.as_str() };
        let reads = READING.contains(&(asked, route))
            || (asked == "GET" && route == IMAGES && READING_OF_IMAGES.iter().any(|end| path.ends_with(end)));
        match reads {
            true => Ok(()),
            false => Err(self.refusal(format!("is a read-only door: {method} {path} is not allowed there"))),
        }
    }

    fn refusal(&self, why: String) -> ApiError {
        ApiError::new(StatusCode::FORBIDDEN, format!("access denied: {} {why}", self.door))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_only_door_lets_looking_through() {
        let access = Access {
            level: Level::Read,
            ..Access::everything("unix:///a")
        };
        let allowed = |method: &str, route: &str, path: &str| {
            let method = method.parse().unwrap();
            access.allow(&method, Some(route), path).is_ok()
        };
        assert!(allowed("GET", "/containers/{name}/json", "/containers/a/json"));
        assert!(allowed("HEAD", "/_ping", "/_ping"));
        assert!(allowed("GET", IMAGES, "/images/a/b/json"));
        assert!(!allowed("GET", IMAGES, "/images/a/get"));
        assert!(!allowed("HEAD", "/containers/{name}/archive", "/containers/a/archive"));
        assert!(!allowed("POST", "/containers/{name}/start", "/containers/a/start"));
        assert!(!allowed(
            "GET",
            "/containers/{name}/attach/ws",
            "/containers/a/attach/ws"
        ));
        assert!(!allowed("DELETE", "/volumes/{name}", "/volumes/a"));
        let refusal = access.allow(&Method::POST, Some("/build"), "/build").unwrap_err();
        assert_eq!(refusal.status(), 403);
        assert_eq!(
            refusal.message(),
            "access denied: unix:///a is a read-only door: POST /build is not allowed there"
        );
        assert!(access.allow(&Method::POST, None, "/nowhere").is_ok());
    }

    #[test]
    fn users_are_let_in_by_number() {
        let access = Access {
            users: Some(vec![1000]),
            ..Access::everything("unix:///a")
        };
        assert!(access.admit(Some(0)).is_ok() && access.admit(Some(1000)).is_ok());
        assert!(access.admit(Some(1001)).unwrap_err().message().contains("user 1001"));
        assert!(access.admit(None).is_err());
        assert!(Access::everything("unix:///a").admit(None).is_ok());
    }
}
