//! Query parameters, read as a Go program would read them.
//!
//! A boolean is false only when it is empty, `0`, `no`, `false` or `none`: `detach=maybe` means true.
use axum::extract::{FromRequestParts, Query};
use corten_api::filters::{self, Filters};
use http::request::Parts;
use jiff::Timestamp;

use crate::error::ApiError;

/// The pairs of a query, in order.
#[derive(Debug, Clone, Default)]
pub struct Parameters(Vec<(String, String)>);

impl<S: Sync> FromRequestParts<S> for Parameters {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Parameters, ApiError> {
        let Query(pairs) = Query::try_from_uri(&parts.uri).map_err(|error| ApiError::invalid(error.body_text()))?;
        Ok(Parameters(pairs))
    }
}

impl Parameters {
    /// The first value of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// As [`Parameters::get`], with an empty value as good as none.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    pub fn all(&self, name: &str) -> Vec<String> {
        self.0
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.clone())
            .collect()
    }

    pub fn flag(&self, name: &str) -> bool {
        let value = self.get(name).unwrap_or_default().trim().to_ascii_lowercase();
        !matches!(value.as_str(), "" | "0" | "no" | "false" | "none")
    }

    pub fn flag_or(&self, name: &str, default: bool) -> bool {
        if self.get(name).is_none() {
            default
        } else {
            self.flag(name)
        }
    }

    /// A whole number, where there is one; in the words of Go's strconv when it is none.
    pub fn number(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let number = text.parse();
        number
            .map(Some)
            .map_err(|_| ApiError::invalid(format!("strconv.Atoi: parsing \"{text}\": invalid syntax")))
    }

    pub fn filters(&self) -> Result<Filters, ApiError> {
        Ok(filters::parse(self.get("filters").unwrap_or_default())?)
    }

    /// Seconds since the epoch with an optional fraction of up to nine digits, or RFC 3339.
    pub fn time(&self, name: &str) -> Result<Option<Timestamp>, ApiError> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let refused = || ApiError::invalid(format!("invalid value for {name}: \"{text}\" is no time"));
        parse_time(text).ok_or_else(refused).map(Some)
    }

    /// The same where 0 means none, as absence does.
    pub fn time_but_zero(&self, name: &str) -> Result<Option<Timestamp>, ApiError> {
        Ok(self.time(name)?.filter(|time| *time != Timestamp::UNIX_EPOCH))
    }
}

/// `1700000000.000000001`, or RFC 3339.
fn parse_time(text: &str) -> Option<Timestamp> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds: i64 = seconds.parse().ok()?;
    let nanoseconds: i32 = format!("{fraction:0<9}").parse().ok()?;
    Timestamp::new(seconds, if seconds < 0 { -nanoseconds } else { nanoseconds }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(query: &str) -> Parameters {
        let uri = format!("/x?{query}").parse().unwrap();
        Parameters(Query::try_from_uri(&uri).unwrap().0)
    }

    #[test]
    fn booleans_are_true_unless_they_say_no() {
        let query = parameters("a=1&b=True&c=maybe&d=0&e=&f=False&g=no&h=NONE");
        let on: Vec<_> = ["a", "b", "c", "d", "e", "f", "g", "h", "absent"]
            .into_iter()
            .filter(|n| query.flag(n))
            .collect();
        assert_eq!(on, ["a", "b", "c"]);
        assert!(query.flag_or("absent", true));
        assert!(!query.flag_or("e", true));
    }

    #[test]
    fn numbers_are_numbers() {
        let query = parameters("t=-1&n=&x=1s");
        assert_eq!(query.number("t"), Ok(Some(-1)));
        assert_eq!(query.number("n"), Ok(None));
        assert_eq!(
            query.number("x").unwrap_err().message(),
            "strconv.Atoi: parsing \"1s\": invalid syntax"
        );
    }

    #[test]
    fn values_are_decoded_and_repeat() {
        let query = parameters("names=a%2Fb%3Ac&names=d+e&filters=%7B%22label%22%3A%5B%22x%22%5D%7D");
        assert_eq!(query.all("names"), ["a/b:c", "d e"]);
        assert_eq!(query.filters().unwrap()["label"], ["x"]);
    }

    #[test]
    fn times_are_seconds_with_a_fraction() {
        let query = parameters("a=1700000000&b=1700000000.000000001&c=0&d=yesterday&e=2024-01-02T03:04:05Z&f=1.5");
        assert_eq!(query.time("a").unwrap().unwrap().as_second(), 1_700_000_000);
        assert_eq!(query.time("b").unwrap().unwrap().subsec_nanosecond(), 1);
        assert_eq!(query.time("f").unwrap().unwrap().subsec_nanosecond(), 500_000_000);
        assert_eq!(query.time("c").unwrap(), Some(Timestamp::UNIX_EPOCH));
        assert_eq!(query.time_but_zero("c").unwrap(), None);
        assert_eq!(query.time("e").unwrap().unwrap().as_second(), 1_704_164_645);
        assert!(query.time("d").is_err());
    }
}
