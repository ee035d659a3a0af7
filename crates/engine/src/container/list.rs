//! `ps` and `inspect`: containers as doors see them.
use std::collections::{BTreeMap, HashMap};

use corten_store::driver::storage::ActiveLayer;
use jiff::Timestamp;

use crate::{
    container::{
        etc,
        handle::Snapshot,
        record::Record,
        table::Table,
        view::{ContainerView, ListOptions, Places},
    },
    context::Context,
    error::Result,
    filter::{ContainerFilter, Lookup},
    image::service::ImageService,
    log::place,
};

/// Resolves image names, each once in one listing.
pub struct ImageNames<'a> {
    images: &'a ImageService,
    known: HashMap<String, Option<String>>,
}

impl<'a> ImageNames<'a> {
    pub fn new(images: &'a ImageService) -> ImageNames<'a> {
        ImageNames {
            images,
            known: HashMap::new(),
        }
    }

    /// The name that the user gave, while it still means the same image; else the image's id.
    fn name(&mut self, given: &str, id: &str) -> String {
        let current = self
            .known
            .entry(given.to_owned())
            .or_insert_with(|| self.images.inspect(given).ok().map(|image| image.id));
        if current.as_deref() == Some(id) {
            given.to_owned()
        } else {
            id.to_owned()
        }
    }
}

/// One container with everything.
pub fn view(context: &Context, names: &mut ImageNames<'_>, snapshot: Snapshot) -> ContainerView {
    let places = places(context, &snapshot.record);
    ContainerView {
        places,
        ..row(names, snapshot)
    }
}

/// Without where its parts are, which no list shows.
fn row(names: &mut ImageNames<'_>, snapshot: Snapshot) -> ContainerView {
    let Snapshot { record, state, .. } = snapshot;
    ContainerView {
        image_name: names.name(&record.config.image, &record.image_id),
        places: Places::default(),
        size_rw: None,
        size_root_fs: None,
        state,
        record,
    }
}

fn places(context: &Context, record: &Record) -> Places {
    let directory = context.store.layout().container(&record.id);
    let files = etc::files(&directory);
    let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
    Places {
        log_path: place::shown_path(record, &directory.join("log")).map(|path| text(&path)),
        hostname_path: text(&files.hostname),
        hosts_path: text(&files.hosts),
        resolv_conf_path: text(&files.resolv_conf),
        execs: context.execs.living(&record.id),
        storage_driver: context.store.driver().to_owned(),
        storage_data: storage(context.store.active(&record.id, &record.layers)),
    }
}

fn storage(active: ActiveLayer) -> BTreeMap<String, String> {
    let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let lowers: Vec<String> = active.lowers.iter().map(|path| text(path)).collect();
    let merged = active.upper.with_file_name("merged");
    [
        ("LowerDir".to_owned(), lowers.join(":")),
        ("MergedDir".to_owned(), text(&merged)),
        ("UpperDir".to_owned(), text(&active.upper)),
        ("WorkDir".to_owned(), text(&active.work)),
    ]
    .into()
}

struct Others<'a> {
    table: &'a Table,
    images: &'a ImageService,
}

impl Lookup for Others<'_> {
    fn created(&self, reference: &str) -> Result<Timestamp> {
        Ok(self.table.find(reference)?.record().created)
    }

    fn image(&self, reference: &str) -> Option<(String, Vec<String>)> {
        self.images
            .inspect(reference)
            .ok()
            .map(|image| (image.id, image.layers))
    }
}

/// Newest first.
pub fn list(table: &Table, images: &ImageService, options: &ListOptions) -> Result<Vec<ContainerView>> {
    let filter = ContainerFilter::parse(&options.filters, &Others { table, images })?;
    let all = options.all || options.limit > 0 || filter.names_a_status();
    let mut names = ImageNames::new(images);
    let shown = table
        .snapshots()
        .into_iter()
        .filter(|snapshot| all || snapshot.state.phase.is_up())
        .map(|snapshot| row(&mut names, snapshot))
        .filter(|view| filter.matches(view));
    let limit = if options.limit == 0 { usize::MAX } else { options.limit };
    Ok(shown.take(limit).collect())
}
