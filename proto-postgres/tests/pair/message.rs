//! Messages as bytes, written apart from the crate's own encoders.

/// One frame.
pub fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![tag];
    frame.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    frame.extend_from_slice(body);
    frame
}

/// A text up to its zero byte, and what follows.
pub fn text(body: &[u8]) -> (String, &[u8]) {
    let end = body.iter().position(|byte| *byte == 0).unwrap_or(body.len());
    let rest = body.get(end + 1..).unwrap_or_default();
    (String::from_utf8_lossy(&body[..end]).into_owned(), rest)
}

pub fn query(sql: &str) -> Vec<u8> {
    frame(b'Q', format!("{sql}\0").as_bytes())
}

pub fn parse(name: &str, sql: &str) -> Vec<u8> {
    frame(b'P', format!("{name}\0{sql}\0\0\0").as_bytes())
}

pub fn bind(portal: &str, statement: &str) -> Vec<u8> {
    frame(b'B', format!("{portal}\0{statement}\0\0\0\0\0\0\0").as_bytes())
}

pub fn describe(kind: char, name: &str) -> Vec<u8> {
    frame(b'D', format!("{kind}{name}\0").as_bytes())
}

pub fn close(kind: char, name: &str) -> Vec<u8> {
    frame(b'C', format!("{kind}{name}\0").as_bytes())
}

pub fn execute(portal: &str, max: i32) -> Vec<u8> {
    let mut body = format!("{portal}\0").into_bytes();
    body.extend_from_slice(&max.to_be_bytes());
    frame(b'E', &body)
}

pub fn sync() -> Vec<u8> {
    frame(b'S', b"")
}

pub fn flush() -> Vec<u8> {
    frame(b'H', b"")
}

pub fn copy_data(row: &str) -> Vec<u8> {
    frame(b'd', row.as_bytes())
}

pub fn copy_done() -> Vec<u8> {
    frame(b'c', b"")
}

/// Parse, Bind and Execute without names.
pub fn unnamed(sql: &str) -> Vec<u8> {
    [parse("", sql), bind("", ""), execute("", 0)].concat()
}

/// The frames of a stream; what is not whole at its end is left out.
pub fn frames(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let mut list = Vec::new();
    while let [tag, a, b, c, d, rest @ ..] = bytes {
        let len = (u32::from_be_bytes([*a, *b, *c, *d]) as usize).saturating_sub(4);
        let Some(body) = rest.get(..len) else { break };
        list.push((*tag, body));
        bytes = &rest[len..];
    }
    list
}

/// A server's stream in short: tags, with SQLSTATE, status, and command tag. Notices stay out.
pub fn short(bytes: &[u8]) -> String {
    let words = frames(bytes)
        .into_iter()
        .filter(|(tag, _)| *tag != b'N')
        .map(|(tag, body)| match tag {
            b'E' => {
                let code = body
                    .split(|byte| *byte == 0)
                    .find_map(|field| field.strip_prefix(b"C"));
                format!("E:{}", String::from_utf8_lossy(code.unwrap_or_default()))
            }
            b'Z' => format!("Z:{}", char::from(body[0])),
            b'C' => format!("C:{}", text(body).0),
            tag => char::from(tag).to_string(),
        });
    words.collect::<Vec<_>>().join(" ")
}

/// The stream without its notices.
pub fn without_notices(bytes: &[u8]) -> Vec<u8> {
    frames(bytes)
        .into_iter()
        .filter(|(tag, _)| *tag != b'N')
        .flat_map(|(tag, body)| frame(tag, body))
        .collect()
}
