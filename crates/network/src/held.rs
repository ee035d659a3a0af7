//! What one container has of networks, while it has it: its endpoints, and with them everything that must be given back.
use std::sync::Arc;

use crate::{model::Endpoint, networks::Live};

#[derive(Debug, Default)]
pub struct Held {
    pub endpoints: Vec<(Arc<Live>, Endpoint)>,
}
