//! Lists in pages: `?limit=` and `?cursor=`; where there is more, a `Link` with `rel="next"` (RFC 8288).

use axum::Json;
use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::Problem;

/// The most of anything that one answer lists.
pub(crate) const MOST: u32 = 1000;
/// So many are listed where nothing is said.
pub(crate) const USUAL: u32 = 200;

/// How many are asked for.
pub(crate) fn limit(asked: Option<u32>) -> Result<usize, Problem> {
    let limit = asked.unwrap_or(USUAL);
    if limit == 0 || limit > MOST {
        return Err(Problem::wrong(format!("`limit` is from 1 to {MOST}")));
    }
    usize::try_from(limit).map_err(|_| Problem::wrong("`limit` is too large"))
}

/// A cursor that no answer gave.
pub(crate) fn strange_cursor() -> Problem {
    Problem::wrong("this is no cursor of this list; take the one that an answer's `Link` has")
}

/// What is behind the item that `cursor` names, and one more than `limit` of it. An item that is gone is no place to go on
/// from: the list begins anew.
pub(crate) fn behind<T>(
    mut items: Vec<T>,
    limit: usize,
    cursor: Option<&str>,
    is: impl Fn(&T, &str) -> bool,
) -> Vec<T> {
    if let Some(cursor) = cursor
        && let Some(place) = items.iter().position(|item| is(item, cursor))
    {
        items.drain(..=place);
    }
    items.truncate(limit.saturating_add(1));
    items
}

/// A page of `items`, which has one more than `limit` where there is a next page; `cursor` names an item, by characters that
/// stand in a URL as they are.
pub(crate) fn page<T: Serialize>(
    uri: &Uri,
    mut items: Vec<T>,
    limit: usize,
    cursor: impl Fn(&T) -> String,
) -> Response {
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(cursor);
    answer(uri, &items, next)
}

/// A page whose next one begins behind `next`.
pub(crate) fn answer<T: Serialize>(uri: &Uri, items: &[T], next: Option<String>) -> Response {
    let mut response = Json(items).into_response();
    if let Some(next) = next {
        let mut query: String = uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty() && !pair.starts_with("cursor="))
            .flat_map(|pair| [pair, "&"])
            .collect();
        query.push_str("cursor=");
        query.push_str(&next);
        if let Ok(link) = HeaderValue::try_from(format!("<{}?{query}>; rel=\"next\"", uri.path())) {
            response.headers_mut().insert(header::LINK, link);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_the_same_question_behind_another_cursor() {
        let uri: Uri = "/api/v1/x?limit=2&cursor=a&kind=b".parse().unwrap();
        let response = page(&uri, vec!["b", "c", "d"], 2, |item| (*item).to_owned());
        let link = response.headers().get(header::LINK).unwrap().to_str().unwrap();
        assert_eq!(link, "</api/v1/x?limit=2&kind=b&cursor=c>; rel=\"next\"");
        let last = page(&uri, vec!["b", "c"], 2, |item| (*item).to_owned());
        assert!(last.headers().get(header::LINK).is_none());
    }
}
