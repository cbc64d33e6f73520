use super::*;

const ATTRIBUTES: Attributes<'static> = Attributes {
    size: Some(1 << 40),
    owner: Some((1000, 1001)),
    permissions: Some(0o100_644),
    times: Some((1, 2)),
    extended: None,
};

fn requests() -> Vec<RequestBody<'static>> {
    let extended = Attributes {
        extended: Some(vec![(b"a@b", b"c")]),
        ..ATTRIBUTES
    };
    let (path, handle): (&[u8], &[u8]) = (b"/a\xff\xfe", b"\0\0\0\x07");
    vec![
        RequestBody::Open {
            path,
            flags: open::READ | open::WRITE,
            attributes: Attributes::default(),
        },
        RequestBody::Close { handle },
        RequestBody::Read {
            handle,
            offset: u64::MAX,
            length: 32768,
        },
        RequestBody::Write {
            handle,
            offset: 1,
            data: b"data",
        },
        RequestBody::Lstat { path },
        RequestBody::Fstat { handle },
        RequestBody::Setstat {
            path,
            attributes: extended,
        },
        RequestBody::Fsetstat {
            handle,
            attributes: ATTRIBUTES,
        },
        RequestBody::Opendir { path },
        RequestBody::Readdir { handle },
        RequestBody::Remove { path },
        RequestBody::Mkdir {
            path,
            attributes: ATTRIBUTES,
        },
        RequestBody::Rmdir { path },
        RequestBody::Realpath { path: b"" },
        RequestBody::Stat { path },
        RequestBody::Rename {
            old: path,
            new: b"/b",
        },
        RequestBody::Readlink { path },
        RequestBody::Symlink {
            target: b"../x",
            link: path,
        },
        RequestBody::Extended(Extended::PosixRename { old: path, new: b"n" }),
        RequestBody::Extended(Extended::Hardlink { old: path, new: b"n" }),
        RequestBody::Extended(Extended::Statvfs { path }),
        RequestBody::Extended(Extended::Fstatvfs { handle }),
        RequestBody::Extended(Extended::Fsync { handle }),
        RequestBody::Extended(Extended::Lsetstat {
            path,
            attributes: ATTRIBUTES,
        }),
        RequestBody::Extended(Extended::ExpandPath { path: b"~/x" }),
        RequestBody::Extended(Extended::CopyData(CopyData {
            from: handle,
            from_offset: 1,
            length: 2,
            to: b"h",
            to_offset: 3,
        })),
        RequestBody::Extended(Extended::HomeDirectory { user: b"deploy" }),
        RequestBody::Extended(Extended::UsersGroupsById {
            users: &[0, 0, 0, 1],
            groups: b"",
        }),
    ]
}

fn responses() -> Vec<ResponseBody<'static>> {
    let name = |filename| Name {
        filename,
        longname: b"-rw-r--r--",
        attributes: ATTRIBUTES,
    };
    vec![
        ResponseBody::Status {
            code: status::EOF,
            message: b"End of file",
            language: b"",
        },
        ResponseBody::Handle { handle: b"h" },
        ResponseBody::Data { data: b"data" },
        ResponseBody::Name(Names(vec![name(b"a\xff"), name(b"b")])),
        ResponseBody::Attrs(ATTRIBUTES),
    ]
}

#[test]
fn bytes_are_those_of_the_draft() {
    let open = Request {
        id: 7,
        body: requests().remove(0),
    }
    .encode()
    .unwrap();
    assert_eq!(
        open,
        b"\0\0\0\x15\x03\0\0\0\x07\0\0\0\x04/a\xff\xfe\0\0\0\x03\0\0\0\0"
    );
    let status = Response {
        id: 9,
        body: responses().remove(0),
    }
    .encode()
    .unwrap();
    assert_eq!(
        status,
        b"\0\0\0\x1c\x65\0\0\0\x09\0\0\0\x01\0\0\0\x0bEnd of file\0\0\0\0"
    );
    let limits = Request {
        id: 1,
        body: RequestBody::Extended(Extended::Limits),
    }
    .encode()
    .unwrap();
    assert_eq!(limits, b"\0\0\0\x1b\xc8\0\0\0\x01\0\0\0\x12limits@openssh.com");
    let init = Init {
        version: 3,
        extensions: vec![],
    }
    .encode()
    .unwrap();
    assert_eq!(init, b"\0\0\0\x05\x01\0\0\0\x03");
    // The first packet of OpenSSH's server begins so.
    let version = b"\x02\0\0\0\x03\0\0\0\x18posix-rename@openssh.com\0\0\0\x011";
    let parsed = Version::parse(version).unwrap().unwrap();
    assert_eq!(
        (parsed.version, parsed.extensions[0].name),
        (3, &b"posix-rename@openssh.com"[..])
    );
    assert_eq!(parsed.encode().unwrap()[4..], version[..]);
    assert_eq!(Version::parse(b"\x01\0\0\0\x03"), Ok(None));
}

/// A round trip, and what is shorter or longer by a byte is refused.
fn exactly(packet: &[u8], mut parse: impl FnMut(&[u8]) -> Result<Vec<u8>, Malformed>) {
    let (body, rest) = split_frame(packet).unwrap().unwrap();
    assert!(rest.is_empty());
    assert_eq!(parse(body).unwrap(), packet);
    for end in 0..body.len() {
        assert!(parse(&body[..end]).is_err(), "{body:?} cut at {end}");
    }
    assert_eq!(parse(&[body, &[0]].concat()), Err(Malformed::Trailing));
    for end in 0..packet.len() {
        assert_eq!(split_frame(&packet[..end]), Ok(None));
    }
}

#[test]
fn every_strict_prefix_and_every_trailing_byte_is_an_error() {
    for body in requests() {
        exactly(
            &Request {
                id: 0xfffe_fdfc,
                body,
            }
            .encode()
            .unwrap(),
            |packet| Ok(Request::parse(packet)?.encode().unwrap()),
        );
    }
    for body in responses() {
        exactly(
            &Response {
                id: 0xfffe_fdfc,
                body,
            }
            .encode()
            .unwrap(),
            |packet| Ok(Response::parse(packet)?.encode().unwrap()),
        );
    }
    let limits = Request {
        id: 1,
        body: RequestBody::Extended(Extended::Limits),
    }
    .encode()
    .unwrap();
    assert_eq!(
        Request::parse(&[&limits[4..], &[0]].concat()),
        Err(Malformed::Trailing)
    );
}

#[test]
fn unknown_types_and_extensions_stay_values() {
    let request = Request::parse(b"\x63\0\0\0\x01abc").unwrap();
    assert_eq!(
        request.body,
        RequestBody::Unknown {
            kind: 0x63,
            data: b"abc"
        }
    );
    let named = Request::parse(b"\xc8\0\0\0\x01\0\0\0\x03a@b\x01\x02").unwrap();
    assert_eq!(
        named.body,
        RequestBody::Extended(Extended::Unknown {
            name: b"a@b",
            data: b"\x01\x02"
        })
    );
    let response = Response::parse(b"\x63\0\0\0\x01abc").unwrap();
    assert_eq!(
        response.body,
        ResponseBody::Unknown {
            kind: 0x63,
            data: b"abc"
        }
    );
    assert_eq!(response.encode().unwrap()[4..], b"\x63\0\0\0\x01abc"[..]);
}

#[test]
fn hostile_lengths_and_counts_are_errors_at_once() {
    for length in [0, 262_145, u32::MAX] {
        assert_eq!(split_frame(&length.to_be_bytes()), Err(Malformed::Length));
    }
    assert_eq!(split_frame(&262_144_u32.to_be_bytes()), Ok(None));
    // A string, a count of names and a count of extended attributes that the packet can't hold.
    assert!(Request::parse(b"\x11\0\0\0\x01\xff\xff\xff\xff/").is_err());
    assert!(Response::parse(b"\x68\0\0\0\x01\xff\xff\xff\xff").is_err());
    assert!(Response::parse(b"\x69\0\0\0\x01\x80\0\0\0\xff\xff\xff\xff").is_err());
    assert_eq!(
        Response::parse(b"\x69\0\0\0\x01\0\0\0\x10"),
        Err(Malformed::Flags)
    );
    let handle = Encoder::new(kind::CLOSE)
        .u32(1)
        .string(&[0; 257])
        .unwrap()
        .finish()
        .unwrap();
    assert_eq!(Request::parse(&handle[4..]), Err(Malformed::Handle));
}

#[test]
fn encoders_refuse_what_is_longer_than_a_packet() {
    let data = vec![0; MAX_PACKET];
    let write = Request {
        id: 1,
        body: RequestBody::Write {
            handle: b"h",
            offset: 0,
            data: &data,
        },
    };
    assert_eq!(write.encode(), Err(TooLong));
    assert_eq!(
        Response {
            id: 1,
            body: ResponseBody::Data { data: &data }
        }
        .encode(),
        Err(TooLong)
    );
}
