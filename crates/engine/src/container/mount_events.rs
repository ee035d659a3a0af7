//! `mount` and `unmount`: events of volumes, when a container that has them starts and ends.
use crate::{
    container::{
        record::{MountPoint, Record},
        supervised::Supervised,
    },
    context::Context,
};

impl Supervised {
    pub fn tell_mounted(&self) {
        tell(&self.context, &self.record, "mount", |mount| {
            vec![
                ("destination", mount.destination.clone()),
                ("propagation", mount.propagation.clone()),
                ("read/write", mount.writable.to_string()),
            ]
        });
    }

    pub fn tell_unmounted(&self) {
        tell_unmounted(&self.context, &self.record);
    }
}

/// Of a container that ended, whoever noticed.
pub fn tell_unmounted(context: &Context, record: &Record) {
    tell(context, record, "unmount", |_| Vec::new());
}

fn tell(context: &Context, record: &Record, action: &str, more: impl Fn(&MountPoint) -> Vec<(&'static str, String)>) {
    for mount in &record.mounts {
        let Some(name) = &mount.name else { continue };
        let mut attributes = more(mount);
        attributes.push(("container", record.id.clone()));
        context.volumes.tell(action, name, &attributes);
    }
}
