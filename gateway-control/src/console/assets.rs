//! Style, script and icon: files of this crate, and nobody else's.

use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

pub(super) async fn style() -> impl IntoResponse {
    let text = include_str!("../../assets/console.css");
    ([(CONTENT_TYPE, "text/css; charset=utf-8")], text)
}

pub(super) async fn script() -> impl IntoResponse {
    let text = include_str!("../../assets/console.js");
    ([(CONTENT_TYPE, "text/javascript; charset=utf-8")], text)
}

pub(super) async fn player() -> impl IntoResponse {
    let text = include_str!("../../assets/player.js");
    ([(CONTENT_TYPE, "text/javascript; charset=utf-8")], text)
}

pub(super) async fn icon() -> impl IntoResponse {
    let text = include_str!("../../assets/icon.svg");
    ([(CONTENT_TYPE, "image/svg+xml")], text)
}
