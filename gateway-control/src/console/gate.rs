//! What every request passes before a page is made, and every answer after it.

use std::net::IpAddr;
use std::time::Instant;

use axum::body::{Body, to_bytes};
use axum::extract::{Extension, Form, FromRequest, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::page::{self, Reader};
use super::seats::{self, Seated};
use super::{Console, text};
use crate::api::caller::{self, Caller};
use crate::api::{Api, InClear, Problem};

/// Largest form.
const FORM: usize = 64 * 1024;
/// What a browser may do with a page.
pub(super) const CONTENT: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; \
                       form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
/// The one form that is sent before anybody is known.
const SIGN_IN: &str = "/signin";

/// What the gateway is called by those who mean it. A page that a foreign name leads to is none of theirs.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// Host names, beside `localhost` and addresses.
    pub hosts: Vec<String>,
    /// Host and port of the public address where that is `https://`: cookies of who comes by it are for TLS alone, also where
    /// something in front ends the TLS.
    pub public: Option<String>,
}

impl Names {
    /// Takes the host of a public address in; `by_tls`: it is one of `https://`.
    pub fn add(&mut self, authority: &str, by_tls: bool) {
        self.hosts.push(host_of(authority).to_owned());
        if by_tls {
            self.public = Some(by_https(authority));
        }
    }

    /// Whether a request for that host is for this gateway. An address can't be made to lead elsewhere.
    fn know(&self, authority: &str) -> bool {
        let host = host_of(authority);
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        bare.parse::<IpAddr>().is_ok()
            || host.eq_ignore_ascii_case("localhost")
            || self.hosts.iter().any(|name| name.eq_ignore_ascii_case(host))
    }
}

/// What names an origin of `https://`, in one form: case does not matter, and its own port need not be told.
fn by_https(authority: &str) -> String {
    let authority = authority.to_ascii_lowercase();
    authority.strip_suffix(":443").unwrap_or(&authority).to_owned()
}

/// The host of `host:port`.
fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !host.ends_with(':') => host,
        _ => authority,
    }
}

/// Who is signed in, with what its forms must have in them.
#[derive(Debug, Clone)]
pub(super) struct Signed {
    pub(super) caller: Caller,
    pub(super) seat: Seated,
}

impl Signed {
    /// As pages tell it.
    pub(super) fn reader(&self) -> Reader {
        Reader {
            name: text::line(self.caller.name()),
            form: self.seat.form.clone(),
        }
    }
}

impl FromRequestParts<Api> for Signed {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(sign_in_first)
    }
}

fn sign_in_first() -> Problem {
    Problem::unknown("sign in with a token")
}

/// What a form says. That it came from a page of this seat was looked at before.
pub(super) struct Sent<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Api> for Sent<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        match Form::<T>::from_request(request, api).await {
            Ok(Form(value)) => Ok(Self(value)),
            Err(error) => Err(Problem::wrong(error.body_text())),
        }
    }
}

/// How the cookie is named and set on this connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cookie {
    secure: bool,
}

impl Cookie {
    fn name(self) -> &'static str {
        // A browser takes `__Host-` from this very host by TLS alone, for the whole of it.
        if self.secure { "__Host-gateway" } else { "gateway" }
    }

    /// The header that sets it; an empty one ends it.
    pub(super) fn set(self, value: &str) -> Option<HeaderValue> {
        let name = self.name();
        let secure = if self.secure { "; Secure" } else { "" };
        let ends = if value.is_empty() { "; Max-Age=0" } else { "" };
        let text = format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict{secure}{ends}");
        HeaderValue::try_from(text).ok()
    }

    /// The one that was sent; of two none counts.
    fn of(self, headers: &HeaderMap) -> Option<&str> {
        let all = headers.get_all(header::COOKIE).iter();
        // Cookies of others stand beside it, whatever they are made of.
        let mut found = all
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b';'))
            .filter_map(|pair| std::str::from_utf8(pair).ok()?.trim().split_once('='))
            .filter(|(name, _)| *name == self.name());
        let (_, value) = found.next()?;
        found.next().is_none().then_some(value)
    }
}

/// Before and after every page.
pub(super) async fn gate(State(console): State<Console>, request: Request, next: Next) -> Response {
    let wants = page::Wants::of(&request);
    let (signed, mut response) = match enter(&console, request).await {
        Ok((signed, request)) => (signed, next.run(request).await),
        Err(problem) => (None, problem.into_response()),
    };
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let reader = signed.as_ref().map(Signed::reader);
        response = page::of_problem(&problem, reader, &wants, response.headers());
    }
    let policy = HeaderValue::from_static(CONTENT);
    response
        .headers_mut()
        .insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

async fn enter(console: &Console, mut request: Request) -> Result<(Option<Signed>, Request), Problem> {
    let inner = &console.0;
    let host = host(request.headers())?.to_owned();
    let host = host.as_str();
    if !inner.names.know(host) {
        return Err(Problem::new(
            StatusCode::MISDIRECTED_REQUEST,
            format!(
                "this gateway is not called `{}`: come by its address, or put the name into `tls.names` or `listen.public_url`",
                host_of(host)
            ),
        ));
    }
    let clear = request.extensions().get::<InClear>().is_some();
    let cookie = Cookie {
        secure: !clear || inner.names.public.as_deref() == Some(by_https(host).as_str()),
    };
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    if changes {
        from_here(request.headers(), host)?;
    }
    let seat = match cookie.of(request.headers()) {
        Some(value) => inner.seats.find(value, Instant::now()),
        None => None,
    };
    let signed = match seat {
        Some(seat) => match caller::again(&inner.api, seat.who.clone()).await? {
            Some(caller) => Some(Signed { caller, seat }),
            None => {
                inner.seats.close(&seat.key);
                None
            }
        },
        None => None,
    };
    if changes && request.uri().path() != SIGN_IN {
        let signed = signed.as_ref().ok_or_else(sign_in_first)?;
        request = of_this_seat(request, &signed.seat).await?;
    }
    request.extensions_mut().insert(cookie);
    if let Some(signed) = &signed {
        request.extensions_mut().insert(signed.clone());
    }
    Ok((signed, request))
}

/// The host that the request is for.
fn host(headers: &HeaderMap) -> Result<&str, Problem> {
    let mut values = headers.get_all(header::HOST).iter();
    let host = values.next().and_then(|value| value.to_str().ok());
    match (host, values.next()) {
        (Some(host), None) => Ok(host),
        _ => Err(Problem::wrong("the request must say for which host it is, once")),
    }
}

/// Demands that what changes something comes from a page of this gateway. Every browser of today says from where a request
/// is; the origin of a form is `null` where no address may be told to others, as here.
fn from_here(headers: &HeaderMap, host: &str) -> Result<(), Problem> {
    let foreign =
        || Problem::forbidden("this came from another site, and nothing was done; use the pages here");
    let site = headers.get("sec-fetch-site");
    if site.is_some_and(|site| site != "same-origin") {
        return Err(foreign());
    }
    let told = site.is_some();
    match headers.get(header::ORIGIN).filter(|origin| *origin != "null") {
        Some(origin) => {
            let origin = origin.to_str().ok().and_then(|text| text.split_once("://"));
            let same = origin.is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host));
            if same { Ok(()) } else { Err(foreign()) }
        }
        None if told => Ok(()),
        None => Err(Problem::forbidden(
            "this browser does not tell from which site a form is, and nothing was done: come by https, or on the host itself \
             by 127.0.0.1 or localhost; an old browser does not tell it at all",
        )),
    }
}

#[derive(Deserialize)]
struct FormToken {
    form: String,
}

/// Demands that a form is one of this seat's own. Its body is read for that, and put back.
async fn of_this_seat(request: Request, seat: &Seated) -> Result<Request, Problem> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, FORM).await;
    let body =
        body.map_err(|_| Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "the form is larger than 64 KiB"))?;
    let mut copy = Request::new(Body::from(body.clone()));
    *copy.method_mut() = Method::POST;
    *copy.headers_mut() = parts.headers.clone();
    let sent = Form::<FormToken>::from_request(copy, &()).await;
    if !sent.is_ok_and(|Form(sent)| seats::same(&sent.form, &seat.form)) {
        return Err(Problem::forbidden(
            "this form is not one of your pages here, or is from before you signed in; open the page again",
        ));
    }
    Ok(Request::from_parts(parts, Body::from(body)))
}

/// What the gate found of how cookies are set.
pub(super) type CookieHere = Extension<Cookie>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_name_is_none_of_ours_and_an_address_is() {
        let names = Names {
            hosts: vec!["gw.example".to_owned()],
            public: None,
        };
        for ours in [
            "gw.example",
            "GW.example:6080",
            "localhost:1",
            "127.0.0.1:6080",
            "[::1]:6080",
            "10.0.0.1",
        ] {
            assert!(names.know(ours), "{ours}");
        }
        for foreign in [
            "",
            "evil.test",
            "gw.example.evil.test:6080",
            "localhost.evil.test",
            "gw.example:80:80",
        ] {
            assert!(!names.know(foreign), "{foreign}");
        }
    }

    #[test]
    fn of_two_cookies_of_one_name_none_counts() {
        let cookie = Cookie { secure: true };
        let mut headers = HeaderMap::new();
        headers.append(
            header::COOKIE,
            HeaderValue::from_static("a=b; __Host-gateway=x; gateway=y"),
        );
        assert_eq!(cookie.of(&headers), Some("x"));
        assert_eq!(Cookie { secure: false }.of(&headers), Some("y"));
        headers.append(header::COOKIE, HeaderValue::from_static("__Host-gateway=z"));
        assert_eq!(cookie.of(&headers), None);
    }
}
