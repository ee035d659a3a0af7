//! What Corten is: containers, images, events. Every door (Docker's API, later others) calls the same verbs.
pub mod cdi {
    pub mod document;
    pub mod edits;
    pub mod registry;
    mod yaml;
}
pub mod config;
pub mod container {
    pub mod attach;
    pub mod attachment;
    pub mod binds;
    pub mod commit;
    pub mod connect;
    pub mod copy;
    pub mod create;
    pub mod detach;
    pub mod diff;
    pub mod endpoints;
    pub mod etc;
    pub mod exec;
    pub mod execs;
    pub mod execute;
    pub mod exit;
    pub mod files;
    pub mod handle;
    pub mod health;
    pub mod health_check;
    pub mod health_watch;
    pub mod interface_sysctls;
    pub mod joined;
    pub mod limits;
    pub mod links;
    pub mod list;
    pub mod logs;
    pub mod merge;
    pub mod mode;
    pub mod mount_events;
    pub mod mount_request;
    pub mod namespaces;
    pub mod networking;
    pub mod ports;
    pub mod prune;
    pub mod record;
    pub mod remove;
    pub mod restart;
    pub mod restore;
    pub mod revive;
    pub mod sampler;
    pub mod service;
    pub mod shutdown;
    pub mod signals;
    pub mod sources;
    pub mod start;
    pub mod state;
    pub mod stats;
    pub mod stop;
    pub mod supervised;
    pub mod supervisor;
    pub mod table;
    pub mod top;
    pub mod update;
    pub mod user_namespace;
    pub mod validate;
    pub mod view;
    pub mod volumes_from;
    pub mod wait;
}
pub mod context;
pub mod engine;
pub mod error;
pub mod events;
pub mod filter;
pub mod host;
pub mod image {
    mod archive;
    pub mod change;
    pub mod commit;
    pub(crate) mod duration;
    mod import;
    mod list;
    mod load;
    mod pattern;
    pub mod platform;
    pub mod reference;
    mod remove;
    pub mod save;
    pub mod service;
    pub mod view;
    pub mod words;
}
pub mod log {
    pub mod archive;
    pub mod delivery;
    pub mod entry;
    pub mod facts;
    pub mod feed;
    pub mod files;
    pub mod json;
    pub mod keeper;
    pub mod options;
    pub mod place;
    pub mod remote {
        pub mod address;
        pub mod driver;
        pub mod fluentd;
        pub mod gelf;
        pub mod journald;
        pub mod message;
        pub mod syslog;
        pub mod tls;
        pub mod wire;
    }
    pub mod sizes;
    pub mod source;
    pub mod tag;
    pub mod times;
    pub mod watch;
}
pub mod names;
pub mod network {
    pub mod configuration;
    pub mod networks;
    pub mod open;
    pub mod record;
    pub mod service;
}
pub mod ready;
pub mod remap;
pub mod signal;
pub mod system;
pub mod task {
    pub mod capabilities;
    pub mod device_requests;
    pub mod devices;
    pub mod exec;
    pub mod launch;
    pub mod mounts;
    pub mod net_devices;
    pub mod profiles;
    pub mod resources;
    pub mod security;
    pub mod shim;
    pub mod spec;
}
pub mod trust;
pub mod volume {
    pub mod copy_up;
    pub mod measure;
    pub mod mounted;
    pub mod options;
    pub mod service;
    pub mod volumes;
}
