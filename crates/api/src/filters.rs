//! The `filters` query parameter: which objects a list, a prune or an event stream is about.
//!
//! There are two forms: `{"label":{"a":true}}` and the older `{"label":["a"]}`. A value set to `false` is as good as absent.
use std::collections::BTreeMap;

use serde::Deserialize;

/// Key to values.
pub type Filters = BTreeMap<String, Vec<String>>;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid filter {0}")]
pub struct FilterError(String);

/// Reads either form; an empty string means no filters.
pub fn parse(text: &str) -> Result<Filters, FilterError> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Values {
        Set(BTreeMap<String, bool>),
        List(Vec<String>),
        Nothing(()),
    }
    if text.is_empty() {
        return Ok(Filters::new());
    }
    let parsed: Option<BTreeMap<String, Values>> =
        serde_json::from_str(text).map_err(|_| FilterError(format!("'{text}'")))?;
    let values = |values| match values {
        Values::Set(set) => set.into_iter().filter_map(|(value, on)| on.then_some(value)).collect(),
        Values::List(list) => list,
        Values::Nothing(()) => Vec::new(),
    };
    Ok(parsed
        .unwrap_or_default()
        .into_iter()
        .map(|(key, found)| (key, values(found)))
        .collect())
}

/// Writes the newer form; an empty string when there is nothing to say.
pub fn encode(filters: &Filters) -> String {
    if filters.is_empty() {
        return String::new();
    }
    let sets: BTreeMap<&str, BTreeMap<&str, bool>> = filters
        .iter()
        .map(|(key, values)| {
            (
                key.as_str(),
                values.iter().map(|value| (value.as_str(), true)).collect(),
            )
        })
        .collect();
    serde_json::to_string(&sets).expect("strings and booleans always serialize")
}

/// Refuses keys that the endpoint does not know, in dockerd's words.
pub fn check(filters: &Filters, known: &[&str]) -> Result<(), FilterError> {
    match filters.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(FilterError(format!("'{key}'"))),
        None => Ok(()),
    }
}

/// The one value of a switch such as `dangling`: `true`, `1`, `false` or `0`.
pub fn switch(filters: &Filters, key: &str) -> Result<Option<bool>, FilterError> {
    let Some(values) = filters.get(key).filter(|values| !values.is_empty()) else {
        return Ok(None);
    };
    let is = |word: &str| values.iter().any(|value| value == word);
    match (is("1") || is("true"), is("0") || is("false")) {
        (true, false) => Ok(Some(true)),
        (false, true) => Ok(Some(false)),
        _ => Err(FilterError(format!("'{key}=[{}]'", values.join(" ")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(pairs: &[(&str, &[&str])]) -> Filters {
        pairs
            .iter()
            .map(|(key, values)| (key.to_string(), values.iter().map(|v| v.to_string()).collect()))
            .collect()
    }

    #[test]
    fn both_forms_mean_the_same() {
        let expected = filters(&[("label", &["a", "b=c"]), ("status", &["running"])]);
        assert_eq!(
            parse(r#"{"label":{"a":true,"b=c":true},"status":{"running":true}}"#),
            Ok(expected.clone())
        );
        assert_eq!(parse(r#"{"label":["a","b=c"],"status":["running"]}"#), Ok(expected));
    }

    #[test]
    fn nothing_false_and_null_filter_nothing() {
        assert_eq!(parse(""), Ok(Filters::new()));
        assert_eq!(parse("null"), Ok(Filters::new()));
        assert_eq!(parse("{}"), Ok(Filters::new()));
        assert_eq!(parse(r#"{"label":null}"#), Ok(filters(&[("label", &[])])));
        assert_eq!(parse(r#"{"label":{"a":false}}"#), Ok(filters(&[("label", &[])])));
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        assert!(parse("label=a").is_err());
        assert!(parse(r#"{"label":"a"}"#).is_err());
        let error = check(&filters(&[("colour", &["red"])]), &["label"]).unwrap_err();
        assert_eq!(error.to_string(), "invalid filter 'colour'");
    }

    #[test]
    fn what_is_written_reads_back() {
        let filters = filters(&[("label", &["a", "b"]), ("id", &["0123"])]);
        assert_eq!(parse(&encode(&filters)), Ok(filters));
        assert_eq!(encode(&Filters::new()), "");
    }

    #[test]
    fn a_switch_has_one_meaning_or_is_refused() {
        assert_eq!(switch(&filters(&[]), "dangling"), Ok(None));
        assert_eq!(switch(&filters(&[("dangling", &["1"])]), "dangling"), Ok(Some(true)));
        assert_eq!(
            switch(&filters(&[("dangling", &["false"])]), "dangling"),
            Ok(Some(false))
        );
        assert!(switch(&filters(&[("dangling", &["true", "false"])]), "dangling").is_err());
        assert!(switch(&filters(&[("dangling", &["perhaps"])]), "dangling").is_err());
    }
}
