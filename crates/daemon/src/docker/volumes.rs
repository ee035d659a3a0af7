//! Volumes.
use corten_api::filters;

use crate::{docker::query::Parameters, error::ApiError};

const LIST_FILTERS: [&str; 4] = ["dangling", "name", "driver", "label"];

/// `GET /volumes`.
pub async fn list(query: Parameters) -> Result<ApiError, ApiError> {
    filters::check(&query.filters()?, &LIST_FILTERS)?;
    Ok(absent().await)
}
pub async fn absent() -> ApiError {
    ApiError::not_implemented("managing volumes")
}
pub use absent as create;
pub use absent as prune;
pub use absent as inspect;
pub use absent as remove;
