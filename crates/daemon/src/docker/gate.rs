//! What every request passes between the router and its handler: may it, how long did it take, did it panic.
use std::{panic::AssertUnwindSafe, sync::Arc, time::Instant};

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use http::StatusCode;

use crate::{error::ApiError, listen::access::Access, metrics::Metrics};

/// Who asks, and through which door.
#[derive(Debug, Clone)]
pub struct Caller {
    pub access: Arc<Access>,
    /// Of this machine; absent where the connection came over a network.
    pub user: Option<u32>,
}

pub async fn gate(State(metrics): State<Arc<Metrics>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map(MatchedPath::as_str);
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    if let Some(caller) = request.extensions().get::<Caller>() {
        let allowed = caller.access.admit(caller.user);
        if let Err(error) = allowed.and_then(|()| caller.access.allow(&method, route, &path)) {
            tracing::info!(user = ?caller.user, "{}", error.message());
            return error.into_response();
        }
    }
    let begin = Instant::now();
    // Whatever the handler had in hands is dropped; what it shares is guarded by locks that say so when they are broken.
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let response = answer.unwrap_or_else(|_| {
        ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the daemon failed at {method} {path}: its log says where; please report it"),
        )
        .into_response()
    });
    metrics.answered(&method, route, &path, response.status(), begin.elapsed());
    response
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, middleware::from_fn_with_state, routing::get};
    use tower_service::Service;

    use super::*;

    #[tokio::test]
    async fn a_handler_that_panics_answers_500_and_others_go_on() {
        async fn broken() -> &'static str {
            panic!("on purpose")
        }
        let metrics = Arc::new(Metrics::default());
        let mut router: Router = Router::new()
            .route("/broken", get(broken))
            .route("/whole", get(|| async { "fine" }))
            .layer(from_fn_with_state(metrics, gate));
        let mut ask = async |path: &str| {
            let request = Request::builder().uri(path).body(Body::empty()).unwrap();
            let response = router.call(request).await.unwrap();
            let status = response.status().as_u16();
            let body = axum::body::to_bytes(response.into_body(), 1000).await.unwrap();
            (status, String::from_utf8_lossy(&body).into_owned())
        };
        let (status, body) = ask("/broken").await;
        assert_eq!(status, 500);
        assert!(body.contains("the daemon failed at GET /broken"), "{body}");
        assert_eq!(ask("/whole").await, (200, "fine".to_owned()));
    }
}
