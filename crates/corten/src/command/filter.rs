//! `--filter key=value`: from flags to the API's filters.
use corten_api::filters::Filters;

/// A check: `key=value`.
pub fn check(text: &str) -> Result<(), String> {
    if text.is_empty() || text.contains('=') {
        return Ok(());
    }
    Err("bad format of filter (expected name=value)".to_string())
}

/// Filters of many flags.
pub fn collect<'a>(texts: impl Iterator<Item = &'a str>) -> Filters {
    let mut filters = Filters::new();
    for (key, value) in texts.filter_map(|text| text.split_once('=')) {
        let values: &mut Vec<String> = filters.entry(key.trim().to_lowercase()).or_default();
        values.push(value.trim().to_string());
    }
    filters
}
