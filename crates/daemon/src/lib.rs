//! Doors: what speaks to the outside. Today the Docker Engine API over HTTP; the engine below knows none of it.
pub mod config {
    pub mod error;
    pub mod file;
    pub mod flags;
    pub mod live;
    pub mod load;
    pub mod network;
    pub mod network_bridge;
    pub mod network_file;
    pub mod network_flags;
    pub mod network_value;
    pub mod tls;
    pub mod value;
}
pub mod daemon;
pub mod doors;
pub mod docker {
    pub mod absent;
    pub mod archive;
    pub mod body;
    pub mod connection;
    pub mod containers;
    pub mod convert {
        pub mod container;
        pub mod container_network;
        pub mod image;
        pub mod network;
        pub mod network_request;
        pub mod stats;
        pub mod time;
    }
    pub mod decode;
    pub mod door;
    pub mod events;
    pub mod exec;
    pub mod fetch;
    pub mod gate;
    pub mod images;
    pub mod networks;
    pub mod outgoing;
    pub mod output;
    pub mod proxy;
    pub mod query;
    pub mod routes;
    pub mod rows;
    pub mod server;
    pub mod system;
    pub mod unread;
    pub mod upgrade;
    pub mod version;
    pub mod version_networks;
    pub mod versions;
    pub mod volumes;
    pub mod websocket;
}
pub mod error;
pub mod listen {
    pub mod access;
    pub mod address;
    pub mod client;
    pub mod listener;
    pub mod tls;
}
pub mod log;
pub mod metrics;
pub mod metrics_page;
pub mod notify;
pub mod pidfile;
pub mod reload;
