//! `rmi` and `image prune`: taking names away, and images with their last one.
//!
//! The rules are Docker's: a name given removes that name, and the image when it was the last; an id given removes the
//! image with all its names, unless they are in several repositories.
use std::sync::Arc;

use corten_store::images::Image;

use crate::{
    container::view::Filters,
    error::{Error, Result},
    image::{
        list::ImageFilter,
        reference::{Reference, familiar},
        service::{Inner, from_store, full_id},
        view::Removed,
    },
};

impl Inner {
    pub(super) fn remove(&self, text: &str, force: bool) -> Result<Vec<Removed>> {
        let image = self.find(text)?;
        let mut removed = Vec::new();
        let name = Reference::parse(text).map(Reference::or_latest);
        let name = name.ok().filter(|name| image.names.contains(&name.canonical()));
        let Some(name) = name else {
            if is_one_repository(&image) {
                self.check_unused(&image, force)?;
                self.untag_all(&image, &mut removed)?;
            }
            self.delete(&image, force, &mut removed)?;
            self.store.collect().map_err(from_store)?;
            return Ok(removed);
        };
        let users = self.users.containers_of(&full_id(&image));
        if let (Some((container, _)), true, false) = (users.first(), is_one_repository(&image), force) {
            return Err(Error::conflict(format!(
                "conflict: unable to remove repository reference {text:?} (must force) - container {} is using its \
                 referenced image {}",
                short(container),
                short(&image.id),
            )));
        }
        self.untag(&image, &name.canonical(), &mut removed)?;
        self.untag_orphaned_digests(&image, &name, &mut removed)?;
        let left = self.store.image(&image.id);
        let named = left.as_ref().is_some_and(|image| !image.names.is_empty());
        // With its last name gone, which is what was asked, the image may still stay for its containers.
        if !named && self.check_unused(&image, force).is_ok() {
            self.delete(&image, force, &mut removed)?;
            self.store.collect().map_err(from_store)?;
        }
        Ok(removed)
    }

    pub(super) fn prune(&self, filters: &Filters) -> Result<(Vec<Removed>, u64)> {
        let mut filter = ImageFilter::new(self, filters)?;
        // Images without a name only, unless told otherwise; then all that no container uses.
        let dangling_only = filter.dangling.unwrap_or(true);
        filter.dangling = dangling_only.then_some(true);
        let mut removed = Vec::new();
        for image in self.store.images() {
            if filter.admits(&image) && self.users.containers_of(&full_id(&image)).is_empty() {
                self.delete(&image, true, &mut removed)?;
            }
        }
        let freed = self.store.collect().map_err(from_store)?;
        self.store.finish_deletions();
        Ok((removed, freed))
    }

    fn delete(&self, image: &Arc<Image>, force: bool, removed: &mut Vec<Removed>) -> Result<()> {
        let current = self.store.image(&image.id);
        self.check_unused(current.as_ref().unwrap_or(image), force)?;
        if current.as_ref().is_some_and(|image| !force && image.names.len() > 1) {
            return Err(conflict(
                image,
                "must be forced",
                "image is referenced in multiple repositories",
            ));
        }
        self.untag_all(image, removed)?;
        self.store.delete_image(&image.id).map_err(from_store)?;
        let id = full_id(image);
        self.tell(image, "delete", &id);
        removed.push(Removed::Deleted(id));
        Ok(())
    }

    fn check_unused(&self, image: &Image, force: bool) -> Result<()> {
        let users = self.users.containers_of(&full_id(image));
        if let Some((container, _)) = users.iter().find(|(_, running)| *running) {
            let message = format!("image is being used by running container {}", short(container));
            return Err(conflict(image, "cannot be forced", &message));
        }
        match users.first() {
            Some((container, _)) if !force => {
                let message = format!("image is being used by stopped container {}", short(container));
                Err(conflict(image, "must be forced", &message))
            }
            _ => Ok(()),
        }
    }

    fn untag(&self, image: &Image, canonical: &str, removed: &mut Vec<Removed>) -> Result<()> {
        self.store.forget_name(canonical).map_err(from_store)?;
        self.tell(image, "untag", &full_id(image));
        removed.push(Removed::Untagged(familiar(canonical)));
        Ok(())
    }

    fn untag_all(&self, image: &Image, removed: &mut Vec<Removed>) -> Result<()> {
        let Some(current) = self.store.image(&image.id) else {
            return Ok(());
        };
        current
            .names
            .iter()
            .try_for_each(|name| self.untag(&current, name, removed))
    }

    /// Names by digest go with the last tag of their repository.
    fn untag_orphaned_digests(&self, image: &Image, gone: &Reference, removed: &mut Vec<Removed>) -> Result<()> {
        let Some(current) = self.store.image(&image.id).filter(|_| gone.digest().is_none()) else {
            return Ok(());
        };
        let siblings = || {
            let parsed = current.names.iter().filter_map(|name| Reference::parse(name).ok());
            parsed.filter(|reference| reference.same_repository(gone))
        };
        if siblings().any(|reference| reference.digest().is_none()) {
            return Ok(());
        }
        siblings().try_for_each(|reference| self.untag(image, &reference.canonical(), removed))
    }
}

/// At most one tag, and digests of its repository.
fn is_one_repository(image: &Image) -> bool {
    let references: Vec<_> = image
        .names
        .iter()
        .filter_map(|name| Reference::parse(name).ok())
        .collect();
    let tags = references
        .iter()
        .filter(|reference| reference.digest().is_none())
        .count();
    tags <= 1 && references.windows(2).all(|pair| pair[0].same_repository(&pair[1]))
}

fn conflict(image: &Image, force: &str, message: &str) -> Error {
    let id = short(&image.id);
    Error::conflict(format!("conflict: unable to delete {id} ({force}) - {message}"))
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
