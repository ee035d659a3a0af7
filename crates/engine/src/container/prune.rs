//! `prune`: every container that does not run goes.
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::{
    container::{
        remove,
        table::Table,
        view::{Filters, Pruned, RemoveOptions},
    },
    context::{Context, blocking},
    error::{Error, Result},
    filter,
};

pub async fn prune(context: &Arc<Context>, table: &Table, filters: &Filters) -> Result<Pruned> {
    filter::check_keys(filters, &["label", "label!", "until"])?;
    let values = |key: &str| filters.get(key).map(Vec::as_slice).unwrap_or_default();
    let until = values("until")
        .iter()
        .map(|text| moment(text))
        .collect::<Result<Vec<_>>>()?;
    let mut pruned = Pruned::default();
    for handle in table.handles() {
        let snapshot = handle.snapshot();
        let record = &snapshot.record;
        let unwanted = values("label!")
            .iter()
            .any(|label| filter::labels_match(std::slice::from_ref(label), &record.config.labels));
        if snapshot.state.phase.is_up()
            || unwanted
            || !filter::labels_match(values("label"), &record.config.labels)
            || until.iter().any(|until| record.created >= *until)
        {
            continue;
        }
        let (measured, id) = (Arc::clone(context), record.id.clone());
        let size = blocking(move || Ok(measured.store.active_size(&id).unwrap_or_default())).await?;
        // One that was started or removed meanwhile is none of ours.
        if remove::remove(&handle, RemoveOptions::default()).await.is_ok() {
            pruned.deleted.push(record.id.clone());
            pruned.space_reclaimed += size;
        }
    }
    context.finish_deletions().await?;
    Ok(pruned)
}

/// RFC 3339, seconds since the epoch, or a duration before now (`1h30m`).
pub fn moment(text: &str) -> Result<Timestamp> {
    let refused = || Error::invalid(format!("failed to parse value as time or duration: {text:?}"));
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment);
    }
    if let Some((seconds, fraction)) = text.split_once('.').or(Some((text, "0")))
        && let (Ok(seconds), Ok(_)) = (seconds.parse::<i64>(), fraction.parse::<u64>())
    {
        return Timestamp::from_second(seconds).map_err(|_| refused());
    }
    let ago: SignedDuration = text.parse().map_err(|_| refused())?;
    Timestamp::now().checked_sub(ago).map_err(|_| refused())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_have_three_forms() {
        assert_eq!(
            moment("2026-01-02T03:04:05Z").expect("valid").as_second(),
            1_767_323_045
        );
        assert_eq!(moment("1767323045").expect("valid").as_second(), 1_767_323_045);
        assert_eq!(moment("1767323045.5").expect("valid").as_second(), 1_767_323_045);
        assert!(moment("1h30m").expect("valid") < Timestamp::now());
        assert!(moment("yesterday").is_err());
    }
}
