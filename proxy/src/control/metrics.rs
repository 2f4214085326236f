//! The counters over HTTP: `GET /metrics`, in the text form that Prometheus reads.
//!
//! Shows the page that `report` has written last; asks no shard. Invariant: nothing can be changed
//! from here.

use std::net::TcpListener;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use tokio::sync::watch;

/// The text form's name and version.
const TEXT_FORM: &str = "text/plain; version=0.0.4";

/// Answers for ever.
pub async fn serve(listener: TcpListener, page: watch::Receiver<String>) {
    let answer = move || {
        let text = page.borrow().clone();
        async { ([(CONTENT_TYPE, TEXT_FORM)], text) }
    };
    let router = Router::new().route("/metrics", get(answer));
    let served = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => axum::serve(listener, router).await,
        Err(error) => Err(error),
    };
    if let Err(error) = served {
        tracing::error!("the counters cannot be read by HTTP any more: {error}");
    }
}
