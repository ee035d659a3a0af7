//! `mount` and `unmount`: events of volumes, when a container that has them starts and ends.
use std::collections::BTreeMap;

use crate::container::{record::MountPoint, supervised::Supervised};

impl Supervised {
    pub fn tell_mounted(&self) {
        self.tell_volumes("mount", |mount| {
            vec![
                ("destination", mount.destination.clone()),
                ("propagation", mount.propagation.clone()),
                ("read/write", mount.writable.to_string()),
            ]
        });
    }

    pub fn tell_unmounted(&self) {
        self.tell_volumes("unmount", |_| Vec::new());
    }

    fn tell_volumes(&self, action: &str, more: impl Fn(&MountPoint) -> Vec<(&'static str, String)>) {
        for mount in &self.record.mounts {
            let Some(name) = &mount.name else { continue };
            let driver = mount.driver.clone().unwrap_or_else(|| "local".to_owned());
            let mut attributes = more(mount);
            attributes.extend([("container", self.record.id.clone()), ("driver", driver)]);
            let attributes: BTreeMap<_, _> = attributes
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect();
            self.context.events.publish("volume", action, name.as_str(), attributes);
        }
    }
}
