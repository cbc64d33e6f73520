//! Somebody with a browser.

use axum::body::Body;
use axum::http::{HeaderMap, Request, Response, StatusCode};
use gateway_control::api::Door;
use http_body_util::BodyExt;

use crate::world::{HOST, World, net};

/// Signed in, with one cookie and what its forms have in them.
pub(crate) struct Visitor<'a> {
    pub(crate) world: &'a World,
    pub(crate) cookie: String,
    pub(crate) form: String,
}

/// A page.
pub(crate) struct Page {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

pub(crate) async fn page(response: Response<Body>) -> Page {
    let (head, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Page {
        status: head.status,
        headers: head.headers,
        text: String::from_utf8(bytes.to_vec()).unwrap(),
    }
}

/// A form as browsers send it.
pub(crate) fn encoded(fields: &[(&str, &str)]) -> String {
    let escape = |text: &str| -> String { text.bytes().map(|b| format!("%{b:02x}")).collect() };
    let pairs: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{name}={}", escape(value)))
        .collect();
    pairs.join("&")
}

/// A `POST` of a form as a browser sends it from a page of this origin, with other headers where a test wants them.
pub(crate) fn posted(path: &str, fields: &[(&str, &str)], headers: &[(&str, &str)]) -> Request<Body> {
    let usual = [
        ("host", HOST),
        ("origin", "null"),
        ("sec-fetch-site", "same-origin"),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    let mut request = Request::post(path);
    for (name, value) in usual {
        if !headers.iter().any(|(other, _)| *other == name) {
            request = request.header(name, value);
        }
    }
    for (name, value) in headers {
        if !value.is_empty() {
            request = request.header(*name, *value);
        }
    }
    request.body(Body::from(encoded(fields))).unwrap()
}

/// The value of a cookie that an answer sets, with its name.
pub(crate) fn cookie(headers: &HeaderMap) -> Option<String> {
    let text = headers.get("set-cookie")?.to_str().unwrap();
    Some(text.split(';').next().unwrap().to_owned())
}

/// The form token of a page.
pub(crate) fn form_of(text: &str) -> String {
    let (_, rest) = text.split_once("name=\"form\" value=\"").unwrap();
    rest.split('"').next().unwrap().to_owned()
}

impl<'a> Visitor<'a> {
    pub(crate) async fn new(world: &'a World, who: &str) -> Self {
        let request = posted("/signin", &[("token", who)], &[]);
        let answer = world.send(net(), request).await;
        assert_eq!(answer.status(), 303, "{who}");
        let mut visitor = Self {
            world,
            cookie: cookie(answer.headers()).unwrap(),
            form: String::new(),
        };
        visitor.form = form_of(&visitor.get("/approvals").await.text);
        visitor
    }

    pub(crate) async fn head(&self, path: &str) -> Response<Body> {
        let request = Request::get(path)
            .header("host", HOST)
            .header("cookie", &self.cookie)
            .body(Body::empty())
            .unwrap();
        self.world.send(net(), request).await
    }

    pub(crate) async fn get(&self, path: &str) -> Page {
        page(self.head(path).await).await
    }

    pub(crate) async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Page {
        self.post_with(path, fields, &[]).await
    }

    pub(crate) async fn post_with(
        &self,
        path: &str,
        fields: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Page {
        let mut all = vec![("form", self.form.as_str())];
        all.extend(fields);
        let mut more = vec![("cookie", self.cookie.as_str())];
        more.extend(headers);
        let response = self.world.send(net(), posted(path, &all, &more)).await;
        page(response).await
    }
}

/// A browser that nobody is signed in with.
pub(crate) async fn stranger(world: &World, door: Door, request: Request<Body>) -> Page {
    page(world.send(door, request).await).await
}
