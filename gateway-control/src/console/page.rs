//! What all pages have in common.

use askama::Template;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use gateway_core::operation::truncate;
use jiff::Timestamp;

use super::gate::Signed;
use super::text::{self, Text};
use crate::api::Problem;

/// Longest address within the console that one is led back to.
const NEXT: usize = 2048;
/// The longest text of a problem, in bytes.
const DETAIL: usize = 2000;

/// Who reads a page.
pub(super) struct Reader {
    pub(super) name: Text,
    /// What its forms have in them.
    pub(super) form: String,
}

/// What is around a page.
pub(super) struct Frame {
    pub(super) title: &'static str,
    here: &'static str,
    pub(super) reader: Option<Reader>,
    /// The page is only a way to there.
    pub(super) leads_to: Option<String>,
}

impl Frame {
    /// Of a page for somebody who is signed in; `here` is its address, or that of the pages that it belongs to.
    pub(super) fn of(signed: &Signed, here: &'static str, title: &'static str) -> Self {
        Self {
            title,
            here,
            reader: Some(signed.reader()),
            leads_to: None,
        }
    }

    /// Of a page for anybody.
    pub(super) fn open(title: &'static str) -> Self {
        Self {
            title,
            here: "",
            reader: None,
            leads_to: None,
        }
    }

    pub(super) fn pages(&self) -> [(&'static str, &'static str); 5] {
        [
            ("/approvals", "Approvals"),
            ("/sessions", "Sessions"),
            ("/audit", "Audit"),
            ("/policy", "Policy"),
            ("/access", "Access"),
        ]
    }

    pub(super) fn is_at(&self, address: &str) -> bool {
        self.here == address
    }
}

/// A page as an answer.
pub(super) fn show(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(text) => {
            let kind = HeaderValue::from_static("text/html; charset=utf-8");
            (status, [(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "a page can't be made");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Leads on to an address of the console.
pub(super) fn see(address: &str) -> Response {
    let to = HeaderValue::try_from(address).unwrap_or(HeaderValue::from_static("/"));
    (StatusCode::SEE_OTHER, [(header::LOCATION, to)]).into_response()
}

/// An address of the console that one can be led to: a path of this host, and nothing that a browser reads as another one.
pub(super) fn local(address: &str) -> Option<&str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/?&=%-_.~:+".contains(&b);
    let path = address.len() <= NEXT
        && address.starts_with('/')
        && !address.starts_with("//")
        && address.bytes().all(plain);
    path.then_some(address)
}

/// Where a request wanted to go, for those who must sign in first.
pub(super) struct Wants {
    next: Option<String>,
    /// A link on another site led here. No cookie is sent then, so it may be somebody who is signed in.
    from_elsewhere: bool,
}

impl Wants {
    pub(super) fn of(request: &Request) -> Self {
        let address = request.uri().path_and_query().map(|address| address.as_str());
        let next = (*request.method() == Method::GET).then_some(address).flatten();
        let site = request.headers().get("sec-fetch-site");
        Self {
            next: next
                .and_then(local)
                .filter(|next| *next != "/")
                .map(str::to_owned),
            from_elsewhere: site.is_some_and(|site| site == "cross-site" || site == "same-site"),
        }
    }
}

/// The page for who is not signed in.
#[derive(Template)]
#[template(path = "sign-in.html")]
pub(super) struct SignIn {
    pub(super) frame: Frame,
    pub(super) problem: Option<String>,
    pub(super) next: Option<String>,
    pub(super) continue_to: Option<String>,
}

impl SignIn {
    pub(super) fn new(problem: Option<String>, next: Option<String>) -> Self {
        Self {
            frame: Frame::open("Sign in"),
            problem,
            next,
            continue_to: None,
        }
    }
}

#[derive(Template)]
#[template(path = "landing.html")]
struct Landing {
    frame: Frame,
    to: String,
}

/// Where a link in a notice leads: a page that tells nothing and leads on. A browser sends no cookie with a link on another
/// site, and does with this page's own.
pub(crate) fn landing(id: &str) -> Response {
    // Whatever else stands there would be an address of somebody else's choice, opened as who is signed in.
    let is_id = id.strip_prefix("apr_").is_some_and(|rest| {
        !rest.is_empty() && rest.len() <= 64 && rest.bytes().all(|b| b.is_ascii_hexdigit())
    });
    let to = if is_id {
        format!("/approvals/{id}")
    } else {
        "/approvals".to_owned()
    };
    let frame = Frame {
        leads_to: Some(to.clone()),
        ..Frame::open("Approval")
    };
    let mut response = show(StatusCode::OK, &Landing { frame, to });
    let policy = HeaderValue::from_static(super::gate::CONTENT);
    response
        .headers_mut()
        .insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage {
    frame: Frame,
    title: &'static str,
    detail: Text,
    operation: Option<Text>,
    rule: Option<Text>,
}

/// A problem as a page, with the headers that belong to it.
pub(super) fn of_problem(
    problem: &Problem,
    reader: Option<Reader>,
    wants: &Wants,
    told: &HeaderMap,
) -> Response {
    let status = problem.status();
    let mut response = if status == StatusCode::UNAUTHORIZED {
        let next = wants.next.clone();
        let mut page = SignIn::new(Some(sentence(problem.detail())), next.clone());
        page.continue_to = next.filter(|_| wants.from_elsewhere);
        show(status, &page)
    } else {
        let mut detail = sentence(problem.detail());
        truncate(&mut detail, DETAIL);
        let title = match status {
            StatusCode::FORBIDDEN => "This is not permitted",
            StatusCode::NOT_FOUND => "There is nothing here",
            StatusCode::CONFLICT => "It is too late for this",
            StatusCode::TOO_MANY_REQUESTS => "Too much at once",
            StatusCode::SERVICE_UNAVAILABLE => "This can’t be answered now",
            StatusCode::MISDIRECTED_REQUEST => "Another name",
            _ => "This can’t be understood",
        };
        let frame = Frame {
            reader,
            ..Frame::open(title)
        };
        show(
            status,
            &ProblemPage {
                title,
                frame,
                detail: text::lines(&detail),
                operation: text::maybe(problem.operation()),
                rule: text::maybe(problem.rule()),
            },
        )
    };
    for name in [header::RETRY_AFTER, header::ALLOW, header::WWW_AUTHENTICATE] {
        if let Some(value) = told.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

/// With a capital and a full stop.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(char::to_uppercase);
    let mut sentence: String = first.into_iter().flatten().chain(chars).collect();
    if !sentence.ends_with(['.', '!', '?']) {
        sentence.push('.');
    }
    sentence
}

/// A moment.
#[derive(Template)]
#[template(
    ext = "html",
    source = "<time datetime=\"{{ exact }}\" title=\"{{ exact }}\">{{ shown }}{% if let Some(away) = away %} <span class=\"quiet\">({{ away }})</span>{% endif %}</time>"
)]
pub(super) struct When {
    exact: String,
    shown: String,
    away: Option<String>,
}

impl askama::filters::HtmlSafe for When {}

/// A moment, as a clock shows it.
pub(super) fn at(when: Timestamp) -> When {
    When {
        exact: when.to_string(),
        shown: when.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        away: None,
    }
}

/// A moment, and how far it is away.
pub(super) fn when(when: Timestamp, now: Timestamp) -> When {
    let seconds = when.duration_since(now).as_secs();
    let distance = lasting(seconds.unsigned_abs());
    let away = if seconds == 0 {
        "now".to_owned()
    } else if seconds > 0 {
        format!("in {distance}")
    } else {
        format!("{distance} ago")
    };
    When {
        away: Some(away),
        ..at(when)
    }
}

/// A length of time, in its largest unit.
pub(super) fn lasting(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_led_to_paths_of_this_host_alone() {
        for good in ["/", "/approvals/apr_1", "/audit?since=2026-01-01T00:00&kind="] {
            assert_eq!(local(good), Some(good));
        }
        for foreign in [
            "",
            "approvals",
            "//evil.test",
            "/\\evil.test",
            "https://evil.test",
            "/\t/evil.test",
            "/a\r\nx: y",
            "\\/evil.test",
            "/é",
            "/@evil.test#",
            "javascript:alert(1)",
        ] {
            assert_eq!(local(foreign), None, "{foreign:?}");
        }
        assert_eq!(local(&format!("/{}", "a".repeat(NEXT))), None);
    }

    #[test]
    fn a_moment_says_how_far_it_is_away() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let later = Timestamp::from_second(1_000_300).unwrap();
        assert!(when(later, now).to_string().contains("(in 5 min)"));
        assert!(when(now, later).to_string().contains("(5 min ago)"));
    }
}
