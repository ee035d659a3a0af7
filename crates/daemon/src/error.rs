//! The one table from what went wrong to an answer's status.
//!
//! Every failure leaves as `{"message":"…"}`; only "it is so already" (304) has no body.
use axum::response::{IntoResponse, Response};
use corten_api::{filters::FilterError, types::system::ErrorResponse};
use corten_engine::error::{Error, Kind};
use http::StatusCode;

use crate::docker::door::json;

/// A failure on its way to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    message: String,
}

impl ApiError {
    pub fn new(status: StatusCode, message: impl Into<String>) -> ApiError {
        ApiError {
            status,
            message: message.into(),
        }
    }

    pub fn invalid(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, message)
    }

    pub fn not_found(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, message)
    }

    /// `what` completes the sentence "… is not implemented yet".
    pub fn not_implemented(what: impl std::fmt::Display) -> ApiError {
        Error::not_implemented(what).into()
    }

    pub fn status(&self) -> StatusCode {
        self.status
    }

    pub fn message(&self) -> &str {
        &self.message
    }
}

/// The table.
fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::NotModified => StatusCode::NOT_MODIFIED,
        Kind::NotImplemented => StatusCode::NOT_IMPLEMENTED,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::System => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> ApiError {
        ApiError::new(status(error.kind()), error.to_string())
    }
}

impl From<FilterError> for ApiError {
    fn from(error: FilterError) -> ApiError {
        ApiError::invalid(error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if self.status == StatusCode::NOT_MODIFIED {
            return self.status.into_response();
        }
        if self.status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(status = self.status.as_u16(), "{}", self.message);
        }
        json(self.status, &ErrorResponse { message: self.message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn failures_are_messages_and_not_modified_is_silent() {
        let response = ApiError::from(Error::not_found("No such container: web")).into_response();
        assert_eq!(response.status(), 404);
        let body = axum::body::to_bytes(response.into_body(), 1000).await.unwrap();
        assert_eq!(body, "{\"message\":\"No such container: web\"}\n");

        let response = ApiError::from(Error::new(Kind::NotModified, "running")).into_response();
        assert_eq!(response.status(), 304);
        assert!(
            axum::body::to_bytes(response.into_body(), 1000)
                .await
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn every_kind_has_its_status() {
        let statuses = [
            (Kind::NotFound, 404),
            (Kind::Conflict, 409),
            (Kind::Invalid, 400),
            (Kind::Forbidden, 403),
            (Kind::NotModified, 304),
            (Kind::NotImplemented, 501),
            (Kind::Unavailable, 503),
            (Kind::System, 500),
        ];
        for (kind, expected) in statuses {
            assert_eq!(status(kind).as_u16(), expected, "{kind:?}");
        }
    }
}
