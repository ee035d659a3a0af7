//! `images` and `history`: what is there, and how it came to be.
use std::{cmp::Reverse, sync::Arc};

use corten_store::images::Image;
use jiff::{SignedDuration, Timestamp};

use crate::{
    container::view::Filters,
    error::{Error, Result},
    image::{
        duration::nanoseconds,
        pattern,
        reference::Reference,
        service::{Inner, created, full_id, labels, view},
        view::{HistoryLine, ImageView},
    },
};

impl Inner {
    pub(super) fn list(&self, filters: &Filters) -> Result<Vec<ImageView>> {
        let filter = ImageFilter::new(self, filters)?;
        let images = self.store.images();
        let mut views: Vec<_> = images
            .iter()
            .filter(|image| filter.admits(image))
            .map(|image| view(image))
            .collect();
        if !filter.references.is_empty() {
            let matches = |name: &String| filter.references.iter().any(|pattern| matches_reference(pattern, name));
            for view in &mut views {
                view.tags.retain(matches);
                view.digests.retain(matches);
            }
            views.retain(|view| !view.tags.is_empty() || !view.digests.is_empty());
        }
        views.sort_by_key(|view| Reverse((view.created, view.id.clone())));
        Ok(views)
    }
}

/// What `filters` of list and prune come to. Every key must hold; of its values one.
pub(super) struct ImageFilter {
    pub(super) dangling: Option<bool>,
    labels: Vec<String>,
    without_labels: Vec<String>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    references: Vec<String>,
}

impl ImageFilter {
    pub(super) fn new(inner: &Inner, filters: &Filters) -> Result<ImageFilter> {
        let values = |key: &str| filters.get(key).cloned().unwrap_or_default();
        let time_of = |key: &str| -> Result<Option<Timestamp>> {
            let images = values(key).into_iter().map(|reference| inner.find(&reference));
            let times: Result<Vec<_>> = images.map(|image| Ok(created(&*image?))).collect();
            Ok(times?.into_iter().flatten().max())
        };
        let dangling = corten_api::filters::switch(filters, "dangling");
        Ok(ImageFilter {
            dangling: dangling.map_err(|error| Error::invalid(error.to_string()))?,
            labels: values("label"),
            without_labels: values("label!"),
            before: time_of("before")?,
            since: time_of("since")?,
            until: values("until").first().map(|text| point_in_time(text)).transpose()?,
            references: values("reference"),
        })
    }

    pub(super) fn admits(&self, image: &Arc<Image>) -> bool {
        let created = created(image).unwrap_or(Timestamp::UNIX_EPOCH);
        let labels = labels(image);
        let has = |wanted: &String| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
            None => labels.contains_key(wanted),
        };
        self.dangling.is_none_or(|dangling| image.names.is_empty() == dangling)
            && self.labels.iter().all(has)
            && !self.without_labels.iter().any(has)
            && self.before.is_none_or(|before| created < before)
            && self.since.is_none_or(|since| created > since)
            && self.until.is_none_or(|until| created < until)
    }
}

/// A pattern may be about the repository alone or with the tag.
fn matches_reference(pattern: &str, familiar: &str) -> bool {
    let repository = Reference::parse(familiar).map(|reference| reference.familiar_repository());
    pattern::matches(pattern, familiar) || repository.is_ok_and(|name| pattern::matches(pattern, &name))
}

/// `until`: RFC 3339, seconds since the epoch, or a span back from now (`24h`, `10m30s`).
fn point_in_time(text: &str) -> Result<Timestamp> {
    let invalid = || Error::invalid(format!("invalid until filter: {text:?}"));
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let seconds = text.split('.').next().and_then(|text| text.parse::<i64>().ok());
    if let Some(seconds) = seconds {
        return Timestamp::from_second(seconds).map_err(|_| invalid());
    }
    let back = SignedDuration::from_nanos(nanoseconds(text).ok_or_else(invalid)?);
    Timestamp::now().checked_sub(back).map_err(|_| invalid())
}

/// Newest first. Steps that made no layer count no bytes.
pub(super) fn history(image: &Image) -> Vec<HistoryLine> {
    let mut sizes = image.layers.iter().map(|layer| layer.size);
    let steps = image.configuration.history().iter().flatten();
    let mut lines: Vec<_> = steps
        .map(|step| HistoryLine {
            id: "<missing>".to_owned(),
            created: step.created().as_ref().and_then(|time| time.parse().ok()),
            created_by: step.created_by().clone().unwrap_or_default(),
            comment: step.comment().clone().unwrap_or_default(),
            tags: Vec::new(),
            size: match step.empty_layer() {
                Some(true) => 0,
                _ => sizes.next().unwrap_or(0),
            },
        })
        .collect();
    lines.reverse();
    if let Some(newest) = lines.first_mut() {
        newest.id = full_id(image);
        newest.tags = view(image).tags;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_in_time_are_absolute_or_back_from_now() {
        assert_eq!(point_in_time("1700000000").unwrap().as_second(), 1_700_000_000);
        assert_eq!(point_in_time("1700000000.5").unwrap().as_second(), 1_700_000_000);
        assert_eq!(
            point_in_time("2023-11-14T22:13:20Z").unwrap().as_second(),
            1_700_000_000
        );
        let hour_ago = point_in_time("59m60s").unwrap().as_second();
        assert!((Timestamp::now().as_second() - 3600 - hour_ago).abs() <= 60);
        for bad in ["yesterday", "", "1h5"] {
            assert!(point_in_time(bad).is_err(), "{bad}");
        }
    }
}
